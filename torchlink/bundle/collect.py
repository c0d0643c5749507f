"""The files of a bundle: the closure of the binary without the libraries that are left to the system."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from torchlink.binary.closure import FoundVia
from torchlink.bundle.contents import LeftOut, Why
from torchlink.errors import BundleFailedError

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.binary.closure import Closure, Edge, LoadedObject
    from torchlink.binary.elf import ElfFile
    from torchlink.bundle.policy import Policy


LOADED = FoundVia("loaded")
MOST_SEARCHED = 12  # directories that an error lists for one missing library


@dataclass(slots=True, eq=False)
class CollectedFile:
    """A file that goes into the bundle."""

    elf: ElfFile
    source: Path  # symlinks followed
    reached: str  # as the loader reached it
    origin: str  # what `$ORIGIN` stands for in it now
    found_via: str
    found: str  # `FoundVia.kind`
    why: Why | None  # None for the binary
    names: dict[str, None] = field(default_factory=dict)  # by which it is requested, in order
    at_start: bool = False  # it is loaded before the program's first line runs
    searches: bool = False  # it must find another part by its search path, or one that it inherits

    @property
    def file_name(self) -> str:
        """The last component of `reached`."""
        return posixpath.basename(self.reached)


class Walk(NamedTuple):
    """What `Collection.follow` found in a closure."""

    steps: tuple[
        tuple[LoadedObject, str, Edge, LoadedObject], ...
    ]  # requesting object, name, edge, the object that it resolved to
    left_out: tuple[LeftOut, ...]
    missing: tuple[Edge, ...]


class Collection:
    """The set of files, while it is being collected.

    Args:
        policy: what is not bundled.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.items: list[CollectedFile] = []  # the binary first
        self.by_name: dict[str, CollectedFile] = {}  # by every name that a request may use
        self.left_out: dict[str, LeftOut] = {}
        self.shared_with_system = False  # a library that is not bundled needs one that is
        self._by_source: dict[str, CollectedFile] = {}

    def start(self, closure: Closure) -> None:
        """Add the binary and everything that it needs.

        Raises:
            BundleFailedError: a library is missing.
        """
        subject = closure.subject
        binary = CollectedFile(
            subject.elf, subject.file.resolve(), subject.path, subject.origin, "", "program", None
        )
        self._remember(binary, (subject.elf.dynamic.soname,))
        walk = self.follow(closure)
        if walk.missing:
            raise missing_error(walk.missing, subject.file.name)
        self.take(walk, first=True)
        for item in self.items:
            item.at_start = True
        asking = {each.path for each, *_ in walk.steps}
        self.shared_with_system = any(
            edge.needed_by not in asking and edge.name in self.by_name for edge in closure.edges
        )

    def follow(self, closure: Closure) -> Walk:
        """Follow everything that a closure's subject needs, but not through libraries that are left to the system."""
        steps: list[tuple[LoadedObject, str, Edge, LoadedObject]] = []
        left_out: dict[str, LeftOut] = {}
        missing: list[Edge] = []
        queue = [closure.subject]
        seen = {closure.subject.path}
        for each in queue:
            for edge in closure.edges_of(each.path):
                name = posixpath.basename(edge.name)
                target = closure.object(edge.path) if edge.path else None
                reason = self.policy.reason(name, target.elf.dynamic.soname if target else None)
                if reason:
                    by = posixpath.basename(each.path)
                    left_out.setdefault(name, LeftOut(name, by, reason, target is not None))
                elif target is not None:
                    steps.append((each, name, edge, target))
                    if target.path not in seen:
                        seen.add(target.path)
                        queue.append(target)
                elif edge.missing and name not in self.by_name:
                    missing.append(edge)
        return Walk(tuple(steps), tuple(left_out.values()), tuple(missing))

    def take(self, walk: Walk, *, first: bool = False) -> None:
        """Add what a walk found; a name keeps its first file, as in the loader.

        Args:
            walk: without anything missing.
            first: it is the binary's own, whose libraries are loaded in this order at the start: a name that was loaded
                before is found without a search.
        """
        for asking, name, edge, target in walk.steps:
            item = self.by_name.get(name) or self._by_source.get(os.path.realpath(target.file))
            if item is None:
                why = Why("needed", posixpath.basename(asking.path))
                item = self.add(target, why)
            self._remember(item, (name,))
            asks = self._by_source.get(os.path.realpath(asking.file))
            if asks is not None and asks is not item and not (first and edge.found_via == LOADED):
                asks.searches = True
        for each in walk.left_out:
            self.left_out.setdefault(each.name, each)

    def add(self, target: LoadedObject, why: Why) -> CollectedFile:
        """Add one file, unless it was added before."""
        source = target.file.resolve()
        known = self._by_source.get(str(source))
        if known is not None:
            return known
        item = CollectedFile(
            target.elf, source, target.path, target.origin, str(target.found_via), target.found_via.kind, why
        )
        self._remember(item, (target.elf.dynamic.soname,))
        return item

    def item_of(self, path: Path) -> CollectedFile | None:
        """Return the entry of this file, or None."""
        return self._by_source.get(os.path.realpath(path))

    def _remember(self, item: CollectedFile, names: tuple[str | None, ...]) -> None:
        if self._by_source.setdefault(str(item.source), item) is item and item not in self.items:
            self.items.append(item)
        for name in names:
            if name and self.by_name.setdefault(name, item) is item:
                item.names.setdefault(name)


def missing_error(edges: tuple[Edge, ...], binary: str) -> BundleFailedError:
    """Return the error for missing libraries: each with what needs it and where it was searched for."""
    names = list(dict.fromkeys(edge.name for edge in edges))
    details = []
    shown: set[str] = set()
    for name in names:
        requesters = [edge for edge in edges if edge.name == name]
        by = ", ".join(dict.fromkeys(posixpath.basename(edge.needed_by) for edge in requesters))
        details.append(
            f"{name}, needed by {by}" + (f": {requesters[0].fatal}" if requesters[0].fatal else "")
        )
        tried = dict.fromkeys(
            f"  {posixpath.normpath(each.path)}: {each.reason}" for each in requesters[0].tried
        )
        new = [line for line in tried if line not in shown]
        shown.update(new)
        details += new[:MOST_SEARCHED]
        if len(new) > MOST_SEARCHED:
            details.append(f"  and {len(new) - MOST_SEARCHED} more places")
    what = f"{names[0]} is" if len(names) == 1 else f"{len(names)} libraries are"
    return BundleFailedError(
        f"{what} missing, so {binary} cannot be bundled; nothing was written.",
        hint="Install it, or name its directory with --env LD_LIBRARY_PATH=DIR (with --sysroot DIR for a binary of "
        "another machine); see `torchlink lint` for more.",
        details=tuple(details),
    )
