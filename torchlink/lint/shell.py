"""The effect of LD_LIBRARY_PATH and LD_PRELOAD in lint's own environment, which it does not check with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.lint.context import VARIABLES, file_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torchlink.binary.closure import Closure
    from torchlink.lint.context import LintContext, LintOptions

SHOWN = 6  # names in a sentence


def of_shell(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of an environment that change which libraries a program loads."""
    return {name: environ[name] for name in VARIABLES if environ.get(name)}


def changes(context: LintContext, again: Callable[[LintOptions], LintContext]) -> Iterator[str]:
    """Return a sentence per variable that would change the closure and that the binary is not checked with.

    Args:
        context: a binary, checked without them.
        again: returns the same binary with other options.
    """
    options = context.options
    if context.system.tree.root is not None:  # a binary in an image does not run in this shell
        return
    for name, value in options.shell.items():
        if name in options.environment:
            continue
        environment = {**options.environment, name: value}
        there = again(options._replace(environment=environment, shell={})).closure
        differences = "; ".join(compared(context.closure, there))
        if differences:
            yield (
                f"{context.name} is checked without the {name} of this shell ({value}). With it, it {differences}. "
                f'Pass --env {name}="${name}" to check with it.'
            )


def compared(before: Closure, after: Closure) -> Iterator[str]:
    """Return clauses: how a closure of a binary differs from an earlier one."""
    old, new = paths_by_name(before), paths_by_name(after)
    moved: dict[tuple[str, str], list[str]] = {}
    found: dict[str, list[str]] = {}
    more: dict[str, list[str]] = {}
    for name, path in new.items():
        if path is None or old.get(name) == path:
            continue
        other = old.get(name)
        if other is not None:
            moved.setdefault((directory(path), directory(other)), []).append(name)
        else:
            (found if name in old else more).setdefault(directory(path), []).append(name)
    for (place, other), names in moved.items():
        yield f"loads {some(names)} from {place} instead of {other}"
    for place, names in found.items():
        yield f"finds {some(names)} in {place}, and not at all without it"
    for place, names in more.items():
        yield f"loads {some(names)} from {place} as well"
    for edge in after.missing:
        if old.get(file_name(edge.name)) is not None:
            why = f", because {edge.tried[-1].path} {edge.fatal}" if edge.fatal and edge.tried else ""
            yield f"does not find {edge.name}{why}"


def paths_by_name(closure: Closure) -> dict[str, str | None]:
    """Return the real path of each library of a closure by name; None for one that is not found."""
    paths: dict[str, str | None] = {file_name(edge.name): None for edge in closure.missing}
    paths.update((file_name(each.name), each.real_path) for each in closure.objects[1:])
    return paths


def directory(path: str) -> str:
    """Return the directory of a real path."""
    return path.rpartition("/")[0] or "/"


def some(names: list[str]) -> str:
    """Return the first few names and the number of further ones."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def through_shell(shell: Mapping[str, str], paths: list[str]) -> Iterator[str]:
    """Return a sentence if libraries of a text are in a directory of this shell's LD_LIBRARY_PATH."""
    entries = [entry.rstrip("/") for entry in shell.get("LD_LIBRARY_PATH", "").replace(";", ":").split(":")]
    names = [file_name(path) for path in paths if path.rpartition("/")[0] in filter(None, entries)]
    if names:
        yield (
            f"LD_LIBRARY_PATH is set in this shell ({shell['LD_LIBRARY_PATH']}) and names the directory of "
            f"{some(names)}: if ldd ran in this shell, that may be how it was found. Run `env -u LD_LIBRARY_PATH ldd` "
            "to see what the program finds without it."
        )
