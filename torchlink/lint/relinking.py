"""Link flags that let the loader find a missing library, tried on the loader's model before they are recommended.

The libraries that a new search path finds have dependencies of their own, which the binary's RUNPATH does not cover.
"""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, NamedTuple

from torchlink.binary.loader import OpenFiles, resolve
from torchlink.errors import ResourcesError, TorchlinkError
from torchlink.lint.context import file_name
from torchlink.lint.missing import nearby

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from torchlink.binary.closure import Closure, Edge, LoadedObject
    from torchlink.binary.elf import ElfFile
    from torchlink.binary.elf_dynamic import Dynamic
    from torchlink.lint.context import LintContext

MOST_STEPS = 12  # libraries below a missing one for which a search path is tried


class Link(NamedTuple):
    """An object to relink with more search path entries."""

    owner: LoadedObject
    entries: tuple[str, ...]  # added to its search path
    inherited: bool = (
        False  # its search path becomes an RPATH, searched also for the dependencies of what it loads
    )

    def __str__(self) -> str:
        tags = "-Wl,--disable-new-dtags " if self.inherited else ""
        return f"{file_name(self.owner.path)} with {tags}-Wl,-rpath,'{':'.join(self.entries)}'"

    def applied(self, dynamic: Dynamic) -> Dynamic:
        """Return the dynamic section that the linker would write."""
        present = dynamic.rpath if dynamic.runpath is None else dynamic.runpath
        path = ":".join((*((present,) if present else ()), *self.entries))
        if self.inherited or (dynamic.rpath is not None and dynamic.runpath is None):
            return dynamic._replace(rpath=path, runpath=None)
        return dynamic._replace(rpath=None, runpath=path)


class Advice(NamedTuple):
    """What to relink, and what is still missing afterwards."""

    links: tuple[Link, ...]
    missing: tuple[Edge, ...] = ()


def advice(requester: LoadedObject, place: str, context: LintContext) -> Advice:
    """Return how to relink so that the libraries in `place` are found, and all that they need in turn.

    Args:
        requester: the object whose libraries are missing.
        place: their directory, as an entry for its search path.
        context: the binary.
    """
    start = Link(requester, (place,))
    try:
        missing = missing_with((start,), context)[0]
        if not missing:
            return Advice((start,))
        for strategy in (as_rpath, one_by_one):
            links = follow((start,), strategy, context)
            if links:
                return Advice(links)
    except ResourcesError:
        raise
    except (OSError, TorchlinkError):  # only a text names the file
        return Advice((start,))
    return Advice((start,), missing)


def follow(
    links: tuple[Link, ...], strategy: Callable[..., tuple[Link, ...] | None], context: LintContext
) -> tuple[Link, ...]:
    """Apply a strategy until nothing is missing; return () if it does not find everything."""
    for _ in range(MOST_STEPS):
        missing, closure = missing_with(links, context)
        if not missing:
            return links
        more = strategy(links, missing[0], closure, context)
        if more is None:
            break
        links = more
    return ()


def as_rpath(
    links: tuple[Link, ...], edge: Edge, closure: Closure, context: LintContext
) -> tuple[Link, ...] | None:
    """Turn the first object's search path into an RPATH, then add one more entry if that is not enough."""
    (link,) = links
    if not link.inherited:
        return (link._replace(inherited=True),)
    place = nearby(edge, link.owner, closure, context)
    if place is None or place in link.entries:
        return None
    return (link._replace(entries=(*link.entries, place)),)


def one_by_one(
    links: tuple[Link, ...], edge: Edge, closure: Closure, context: LintContext
) -> tuple[Link, ...] | None:
    """Give the object that lacks a library a search path of its own."""
    requester = closure.object(edge.needed_by)
    place = None if requester is None else nearby(edge, requester, closure, context)
    if requester is None or place is None:
        return None
    own = next((link for link in links if link.owner.path == requester.path), Link(requester, ()))
    if place in own.entries:
        return None
    others = tuple(link for link in links if link.owner.path != requester.path)
    return (*others, own._replace(entries=(*own.entries, place)))


def missing_with(links: Sequence[Link], context: LintContext) -> tuple[tuple[Edge, ...], Closure]:
    """Return what the newly found libraries lack after relinking some objects, and the resulting closure."""
    closure = modelled(links, context, context.options.environment)
    known = {each.path for each in context.closure.objects}
    # What the binary itself lacks has a finding of its own, whose fix also lets the others be found.
    own = {edge.name for edge in context.closure.missing if edge.needed_by == context.subject.path}
    missing = (edge for edge in closure.missing if edge.needed_by not in known and edge.name not in own)
    return tuple(missing), closure


def modelled(links: Sequence[Link], context: LintContext, environment: Mapping[str, str]) -> Closure:
    """Return the closure that the binary would have after relinking some objects."""
    files = _Relinked(links)
    return resolve(context.subject.file, system=context.system, environment=environment, files=files)


def needs_rpath(directories: Iterable[str], context: LintContext) -> bool:
    """Whether only an RPATH of the binary, not a RUNPATH, can replace these directories of LD_LIBRARY_PATH."""
    bare = {name: value for name, value in context.options.environment.items() if name != "LD_LIBRARY_PATH"}
    entries = tuple(os.path.abspath(each) for each in directories)  # noqa: PTH100 - a symlink must stay one
    link = Link(context.subject, entries)
    runpath, rpath = (modelled((each,), context, bare) for each in (link, link._replace(inherited=True)))
    return len(rpath.missing) < len(runpath.missing)


class _Relinked(OpenFiles):
    """Open files, with the new search paths of those to relink."""

    def __init__(self, links: Sequence[Link]) -> None:
        super().__init__()
        self._links = {identity(os.stat(link.owner.file)): link for link in links}  # noqa: PTH116 - as in `get`

    def get(self, path: str, status: os.stat_result) -> ElfFile:
        """Return the open file, with the search path that it would have."""
        elf = super().get(path, status)
        link = self._links.get(identity(status))
        if link is None:
            return elf
        changed = copy.copy(elf)
        changed.dynamic = link.applied(elf.dynamic)
        return changed


def identity(status: os.stat_result) -> tuple[int, int]:
    """Return what identifies a file, whatever the path to it."""
    return status.st_dev, status.st_ino
