"""Rules about NEEDED entries that contain a path, which the loader opens without a search.

The linker writes the path from its command line where the library has no SONAME.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.libtorch.names import bare_name
from torchlink.lint.context import file_name
from torchlink.lint.finding import Severity, rule
from torchlink.lint.missing import is_relative
from torchlink.lint.search_path import SearchDir, begins, is_of_build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torchlink.binary.closure import LoadedObject
    from torchlink.lint.context import LintContext
    from torchlink.lint.finding import Finding, Rule


def with_soname(needed: str, user: str) -> str:
    """Return the fix that turns a NEEDED path into a name that the loader searches for."""
    name = file_name(needed)
    return (
        f"give the library a SONAME (link it with -Wl,-soname,{name}) and relink {user} with -L, -l{bare_name(name)} "
        "and a search path."
    )


def capitalized(clause: str) -> str:
    """Return a clause with its first letter in upper case."""
    return f"{clause[0].upper()}{clause[1:]}"


def users_of(context: LintContext, fits: Callable[[str], bool]) -> dict[str, list[LoadedObject]]:
    """Return the NEEDED entries that satisfy a predicate, each with the user's objects that have it."""
    users: dict[str, list[LoadedObject]] = {}
    for each in context.own:
        for name in filter(fits, each.elf.dynamic.needed):
            users.setdefault(name, []).append(each)
    return users


@rule("needed-by-relative-path", Severity.ERROR, "A NEEDED entry is a relative path.")
def needed_by_relative_path(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding per path."""
    for name, users in users_of(context, is_relative).items():
        group = [file_name(each.path) for each in users]
        edge = next((each for each in context.closure.edges if each.name == name), None)
        here = "" if edge is None or edge.missing else " It was found from the current directory of this run."
        need = "needs" if len(group) == 1 else "need"
        yield rule.finding(
            name,
            f"{', '.join(group)} {need} {name}, a relative path that the loader opens from the current directory, "
            f"without a search: {context.name} starts only from a directory where that path exists.{here}",
            capitalized(with_soname(name, ", ".join(group))),
            () if edge is None else tuple(f"{tried.path}: {tried.reason}" for tried in edge.tried),
        )


@rule("needed-by-absolute-path", Severity.NOTE, "A NEEDED entry is an absolute path.")
def needed_by_absolute_path(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding per path; `library-not-found` reports a path that does not exist."""
    missing = {edge.name for edge in context.closure.missing}
    for name, users in users_of(context, lambda name: name.startswith("/")).items():
        if name in missing or is_of_system(name, context):
            continue
        directory = name.rpartition("/")[0] or "/"
        host = context.on_host(directory, users[0])
        built = is_of_build(SearchDir(users[0], "needed", name, directory, Path(host), None))
        group = ", ".join(file_name(each.path) for each in users)
        where = ", in a build tree or a home directory" if built else ""
        yield rule.finding(
            name,
            f"{group} {'needs' if len(users) == 1 else 'need'} {name}, an absolute path{where}: {context.name} starts "
            "only where the library is at exactly this path; neither a search path nor LD_LIBRARY_PATH overrides it.",
            capitalized(with_soname(name, group)),
            severity=Severity.WARNING if built else None,
        )


def is_of_system(path: str, context: LintContext) -> bool:
    """Whether a path is the loader itself or is in one of its default directories."""
    if path == context.system.interpreter:
        return True
    real = context.system.tree.real_path(path)
    return any(begins(each, directory) for each in (path, real) for directory in context.system.default_dirs)


NEEDED_PATHS = (needed_by_relative_path, needed_by_absolute_path)
