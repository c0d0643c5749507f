"""Rules about libraries that are needed by a path, for which the loader searches nothing.

The linker copies the path that it was given where a library has no SONAME.
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
    """The words by which a library that is needed by a path is searched for instead."""
    name = file_name(needed)
    return (
        f"give the library a SONAME (link it with -Wl,-soname,{name}) and link {user} again, with -L and "
        f"-l{bare_name(name)} and a search path."
    )


def sentence(words: str) -> str:
    """Words with a capital letter."""
    return f"{words[0].upper()}{words[1:]}"


def users_of(context: LintContext, fits: Callable[[str], bool]) -> dict[str, list[LoadedObject]]:
    """The user's own objects by the NEEDED entries of theirs that fit."""
    users: dict[str, list[LoadedObject]] = {}
    for each in context.own:
        for name in filter(fits, each.elf.dynamic.needed):
            users.setdefault(name, []).append(each)
    return users


@rule("needed-by-relative-path", Severity.ERROR, "A library is needed by a path from the current directory.")
def needed_by_relative_path(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding a path."""
    for name, users in users_of(context, is_relative).items():
        group = [file_name(each.path) for each in users]
        edge = next((each for each in context.closure.edges if each.name == name), None)
        here = "" if edge is None or edge.missing else " From the present one it is."
        need = "needs" if len(group) == 1 else "need"
        yield rule.finding(
            name,
            f"{', '.join(group)} {need} {name}, a path that the loader reads from the current directory and searches "
            f"nowhere: {context.name} starts only in a directory from which the library is there.{here}",
            sentence(with_soname(name, ", ".join(group))),
            () if edge is None else tuple(f"{tried.path}: {tried.reason}" for tried in edge.tried),
        )


@rule("needed-by-absolute-path", Severity.NOTE, "A library is needed by an absolute path.")
def needed_by_absolute_path(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding a path; where nothing is there another rule says so."""
    lost = {edge.name for edge in context.closure.missing}
    for name, users in users_of(context, lambda name: name.startswith("/")).items():
        if name in lost or is_of_system(name, context):
            continue
        directory = name.rpartition("/")[0] or "/"
        host = context.on_host(directory, users[0])
        built = is_of_build(SearchDir(users[0], "needed", name, directory, Path(host), None))
        group = ", ".join(file_name(each.path) for each in users)
        where = ", in a build tree or a home directory" if built else ""
        yield rule.finding(
            name,
            f"{group} {'needs' if len(users) == 1 else 'need'} {name}, a path that no search path replaces{where}: "
            f"{context.name} starts only where the library is in this very place, and LD_LIBRARY_PATH does not help.",
            sentence(with_soname(name, group)),
            severity=Severity.WARNING if built else None,
        )


def is_of_system(path: str, context: LintContext) -> bool:
    """Whether a path is the loader's, or leads into one of its own directories."""
    if path == context.system.interpreter:
        return True
    real = context.system.tree.real_path(path)
    return any(begins(each, directory) for each in (path, real) for directory in context.system.default_dirs)


NEEDED_PATHS = (needed_by_relative_path, needed_by_absolute_path)
