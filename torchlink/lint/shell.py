"""What the loader's variables that are set where lint runs would change, although it checks without them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.lint.context import VARIABLES, file_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torchlink.binary.closure import Closure
    from torchlink.lint.context import LintContext, LintOptions

SHOWN = 6  # names in a sentence


def of_shell(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of an environment that change which libraries a program loads."""
    return {name: environ[name] for name in VARIABLES if environ.get(name)}


def changes(context: LintContext, again: Callable[[LintOptions], LintContext]) -> Iterator[str]:
    """A sentence a variable that would change the closure; nothing of one that is checked with, or changes nothing.

    Args:
        context: a binary, checked without them.
        again: the same binary as it is to be checked with other options.
    """
    options = context.options
    if context.system.tree.root is not None:  # an image has a shell of its own
        return
    for name, value in options.shell.items():
        if name in options.environment:
            continue
        environment = {**options.environment, name: value}
        there = again(options._replace(environment=environment, shell={})).closure
        differences = "; ".join(compared(context.closure, there))
        if differences:
            yield (
                f"{context.name} is taken to run without the {name} that is set in this shell ({value}). With it, it "
                f'{differences}. --env {name}="${name}" checks it so.'
            )


def compared(before: Closure, after: Closure) -> Iterator[str]:
    """How one closure of a binary differs from another, in clauses."""
    old, new = taken(before), taken(after)
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
            why = f", for {edge.tried[-1].path} {edge.fatal}" if edge.fatal and edge.tried else ""
            yield f"does not find {edge.name}{why}"


def taken(closure: Closure) -> dict[str, str | None]:
    """The libraries of a closure by name: the real path of each; None of one that is not found."""
    paths: dict[str, str | None] = {file_name(edge.name): None for edge in closure.missing}
    paths.update((file_name(each.name), each.real_path) for each in closure.objects[1:])
    return paths


def directory(path: str) -> str:
    """The directory of a real path."""
    return path.rpartition("/")[0] or "/"


def some(names: list[str]) -> str:
    """The first few names."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def through_shell(shell: Mapping[str, str], paths: list[str]) -> Iterator[str]:
    """A sentence where libraries of a text are in a directory of this shell's LD_LIBRARY_PATH."""
    entries = [entry.rstrip("/") for entry in shell.get("LD_LIBRARY_PATH", "").replace(";", ":").split(":")]
    names = [file_name(path) for path in paths if path.rpartition("/")[0] in filter(None, entries)]
    if names:
        yield (
            f"LD_LIBRARY_PATH is set in this shell ({shell['LD_LIBRARY_PATH']}) and names the directory of "
            f"{some(names)}: where ldd ran in this shell, that is why it was found there. Run it with "
            "`env -u LD_LIBRARY_PATH ldd` to see what the program finds by itself."
        )
