"""Rules about finding the libraries at all."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from torchlink.lint.finding import Severity
from torchlink.lint.rule import rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.lint.case import Case
    from torchlink.lint.finding import Finding
    from torchlink.lint.rule import Rule


@rule("library-not-found", Severity.ERROR, "A library that the program needs is not where the loader looks.")
def library_not_found(rule: Rule, case: Case) -> Iterator[Finding]:
    """One finding a missing name, however many objects ask for it."""
    asking: dict[str, list[str]] = {}
    evidence: dict[str, list[str]] = {}
    for edge in case.closure.missing:
        asking.setdefault(edge.name, []).append(PurePosixPath(edge.needed_by).name)
        evidence.setdefault(
            edge.name, [f"{tried.path}: {tried.reason} ({tried.how})" for tried in edge.tried]
        )
        if edge.fatal:
            evidence[edge.name].append(edge.fatal)
    for name, objects in asking.items():
        yield rule.finding(
            name,
            f"{name}, needed by {', '.join(objects)}, is not found: {case.name} will not start.",
            f"Link with the directory that holds {name} as search path: -Wl,-rpath,DIR. For libtorch's "
            "libraries, `torchlink flags` prints it.",
            tuple(evidence[name]),
        )


@rule(
    "found-through-environment", Severity.WARNING, "A library is found only because LD_LIBRARY_PATH names it."
)
def found_through_environment(rule: Rule, case: Case) -> Iterator[Finding]:
    """One finding a directory of LD_LIBRARY_PATH, with the libraries that come through it."""
    through: dict[str, list[str]] = {}
    for each in case.closure.objects:
        if each.how.kind == "LD_LIBRARY_PATH":
            through.setdefault(str(PurePosixPath(each.path).parent), []).append(PurePosixPath(each.path).name)
    for directory, names in through.items():
        yield rule.finding(
            directory,
            f"{case.name} finds {', '.join(names)} only through LD_LIBRARY_PATH={directory}: it does not "
            "start where that variable is not set (cron, a service, an IDE, sudo).",
            f"Link with -Wl,-rpath,{directory}, or install the libraries where the loader looks by itself.",
        )


LOADING = (library_not_found, found_through_environment)
