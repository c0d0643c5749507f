"""The closure: the objects that the dynamic loader would load for a binary, in load order."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.binary.elf import ElfFile


class FoundVia(NamedTuple):
    """How an object was found, or why a place was searched.

    `kind` is one of: `program` (the subject itself), `rpath`, `runpath`, `LD_LIBRARY_PATH`,
    `ld.so.cache`, `default` (a default directory), `path` (a NEEDED name with a slash), `loaded` (an object
    loaded before has this name), `preload`, `interpreter` (the dynamic loader itself), `text` (nothing was
    searched: the output of `ldd` or the like says so).
    """

    kind: str
    entry: str | None = (
        None  # of rpath, runpath and LD_LIBRARY_PATH: the entry as written, `$ORIGIN` unexpanded
    )
    owner: str | None = None  # of rpath and runpath: path of the object that carries the entry

    def __str__(self) -> str:
        if self.kind in {"rpath", "runpath"}:
            return f"{self.kind.upper()} {self.entry or '(empty: the current directory)'} of {self.owner}"
        if self.kind == "LD_LIBRARY_PATH":
            return f"LD_LIBRARY_PATH {self.entry or '(empty: the current directory)'}"
        descriptions = {
            "program": "the file itself",
            "default": "default directory",
            "path": "the path in its NEEDED entry",
            "loaded": "already loaded",
            "preload": "preloaded",
            "interpreter": "the program's interpreter",
            "text": "named in the text",
        }
        return descriptions.get(self.kind, self.kind)


class Attempt(NamedTuple):
    """A place where a library was searched for in vain, or was found and rejected."""

    found_via: FoundVia
    path: str  # the file where there is one, else the directory
    reason: str  # e.g. "no such directory", "no such file", "is for aarch64"


class LoadedObject(NamedTuple):
    """One object of a closure. Paths are as the loader sees them: in an image, below its root."""

    name: str  # the name by which it was first asked for; of the subject its path
    path: str  # as the loader reached it, symlinks not followed
    file: Path  # where its bytes are on this machine
    real_path: str  # `path` with symlinks followed
    origin: str  # what `$ORIGIN` stands for in it
    needed_by: str | None  # path of the object that first asked for it; None for the subject
    found_via: FoundVia
    elf: ElfFile  # stays open as long as the closure is kept


class Edge(NamedTuple):
    """One DT_NEEDED (or DT_FILTER, DT_AUXILIARY, preload) entry of an object, and the object that it resolved to."""

    needed_by: str  # path of the object that asks
    name: str  # as written
    path: str | None  # of the object that it resolved to; None when there is none
    found_via: FoundVia | None
    tried: tuple[Attempt, ...]  # where it was searched for before, in order
    fatal: str | None = None  # why the loader stops here rather than search on
    optional: bool = False  # DT_AUXILIARY or a preload: the program starts without it

    @property
    def missing(self) -> bool:
        """Whether the program does not start because of it."""
        return self.path is None and not self.optional


class Closure(NamedTuple):
    """What would be loaded, in load order (breadth first), and every request on the way."""

    objects: tuple[LoadedObject, ...]  # the subject first
    edges: tuple[Edge, ...]  # in the order in which the loader asks
    secure: bool = False  # the program runs set-uid: the loader ignores much of the environment

    @property
    def subject(self) -> LoadedObject:
        """The binary that the closure is of."""
        return self.objects[0]

    @property
    def missing(self) -> tuple[Edge, ...]:
        """The requests that stop the program from starting."""
        return tuple(edge for edge in self.edges if edge.missing)

    def object(self, path: str) -> LoadedObject | None:
        """The object with this path, as the loader sees it."""
        return next((each for each in self.objects if each.path == path), None)

    def edges_of(self, path: str) -> tuple[Edge, ...]:
        """The requests of the object with this path."""
        return tuple(edge for edge in self.edges if edge.needed_by == path)
