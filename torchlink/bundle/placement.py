"""Where each file goes, and what must be rewritten in it so that the loader finds the others from there.

All libraries are in one directory, so `$ORIGIN` leads each of them to all others. Files that work there already are
left unchanged: a library whose own search path contains `$ORIGIN`, and one without a search path, which inherits the
program's if that is a DT_RPATH (a DT_RUNPATH is not inherited). So the program's search path is rewritten first, and a
library's only where it would lead elsewhere.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, NamedTuple

from torchlink.binary.search import expand
from torchlink.bundle.contents import Patch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torchlink.binary.elf import ElfFile
    from torchlink.binary.system import LoaderSystem

ROOT = "/bundle"  # represents the bundle's directory, wherever that will be
LIBRARIES = "lib"
DEEPER = "inner"
DEEPEST = 8
ORIGIN = re.compile(r"\$(?:ORIGIN|\{ORIGIN\})(?=/|$)")


class Piece(NamedTuple):
    """The properties of one file that decide where it goes and whether it is rewritten."""

    elf: ElfFile
    searches: bool  # it must find another file through a search path
    packaged: bool  # it belongs to a package: it is changed only if necessary


class Placement(NamedTuple):
    """The directory of the libraries, relative to the bundle's, and what is rewritten in the order of the pieces."""

    library_dir: str
    patches: tuple[Patch | None, ...]  # the binary's first


def placement_of(
    binary: Piece, libraries: Sequence[Piece], system: LoaderSystem, *, inherit: bool
) -> Placement:
    """Place all files.

    Args:
        binary: the program or library that is bundled.
        libraries: all others.
        system: expands `$LIB` and `$PLATFORM`.
        inherit: libraries that are not in the bundle depend on the binary's search path, too.
    """
    directory = library_dir([*libraries], system) if libraries else LIBRARIES
    depth = directory.count("/") + 1
    patches = []
    for piece in libraries:
        path = SearchPath(piece.elf, f"{ROOT}/{directory}", f"{ROOT}/{directory}", system)
        patch = library_patch(piece, path, depth)
        patches.append(patch)
        finds = path.reaches or (patch is not None and patch.search_path is not None)
        inherit |= piece.searches and not finds
    path = SearchPath(binary.elf, ROOT, f"{ROOT}/{directory}", system)
    program = binary_patch(binary, path, directory, inherit=inherit, alone=not libraries)
    return Placement(directory, (program, *patches))


def library_dir(libraries: Sequence[Piece], system: LoaderSystem) -> str:
    """Return the directory for the libraries, deep enough that no `$ORIGIN/../..` of theirs leads out of the bundle.

    The libraries of CUDA wheels search `$ORIGIN/../../nvidia/cudnn/lib` and the like before `$ORIGIN`: from `lib` that
    would be a directory next to the bundle, with unknown contents.
    """
    climbs = [0]
    for piece in libraries:
        path = SearchPath(piece.elf, f"{ROOT}/{LIBRARIES}", f"{ROOT}/{LIBRARIES}", system)
        if path.reaches and not any(climb is None for climb in path.ahead):
            climbs += [climb for climb in path.ahead if climb is not None]
    extra = min(max(climbs), DEEPEST) - 1
    return "/".join((LIBRARIES, *(DEEPER for _ in range(extra))))


class SearchPath:
    """An object's own search path as the loader would search it in the bundle.

    Args:
        elf: the object.
        origin: its directory in the bundle.
        goal: the directory of the libraries.
        system: the loader.
    """

    def __init__(self, elf: ElfFile, origin: str, goal: str, system: LoaderSystem) -> None:
        dynamic = elf.dynamic
        self.both = dynamic.rpath is not None and dynamic.runpath is not None
        self.kind = "runpath" if dynamic.runpath is not None else None if dynamic.rpath is None else "rpath"
        text = dynamic.runpath if dynamic.runpath is not None else dynamic.rpath
        self.entries = text.split(":") if text else []
        self.reaches = False
        self.depends_on_cwd = False  # an entry is relative to the working directory of the program
        # The entries before the goal (all, where it is never reached) and after it: how many levels each climbs above
        # `$ORIGIN`; None: it does not begin with `$ORIGIN`.
        self.ahead: list[int | None] = []
        self.behind: list[int | None] = []
        for entry in self.entries:
            where = expand(entry, origin, system)
            if where is None:
                continue
            self.depends_on_cwd |= not where.startswith("/")
            if ORIGIN.match(entry) and posixpath.normpath(where) == goal:
                self.reaches = True
            else:
                (self.behind if self.reaches else self.ahead).append(climb(entry))

    def leaves(self, depth: int, *, wholly: bool) -> bool:
        """Whether an entry before the goal leads out of the bundle.

        Args:
            depth: how many levels the object is below the bundle's directory.
            wholly: check the entries after the goal, too.
        """
        entries = [*self.ahead, *(self.behind if wholly else ())]
        return any(each is None or each > depth for each in entries)


def climb(entry: str) -> int | None:
    """Return how many levels above `$ORIGIN` an entry climbs; None: it does not begin there."""
    if not ORIGIN.match(entry):
        return None
    height = highest = 0
    for part in ORIGIN.sub("", entry, count=1).split("/"):
        if part == "..":
            height += 1
            highest = max(highest, height)
        elif part not in {"", "."}:
            height -= 1
    return highest


def library_patch(piece: Piece, path: SearchPath, depth: int) -> Patch | None:
    """Return what must be rewritten in a library `depth` levels below the bundle's directory, or None."""
    lost = piece.searches and (
        path.leaves(depth, wholly=False) or (path.kind == "runpath" and not path.reaches)
    )
    untidy = path.depends_on_cwd or (not piece.packaged and path.leaves(depth, wholly=True))
    needed = tuple(renamed(piece.elf))
    if not (lost or untidy or needed):
        return None
    entries = ("$ORIGIN",) if lost or untidy else None
    return Patch(entries, path.kind or "rpath", needed)


def binary_patch(
    piece: Piece, path: SearchPath, directory: str, *, inherit: bool, alone: bool
) -> Patch | None:
    """Return what must be rewritten in the binary, or None.

    A rewritten search path is a DT_RPATH: everything that is loaded later inherits it, and LD_LIBRARY_PATH cannot
    override it.
    """
    lost = (
        path.leaves(0, wholly=True)
        or (piece.searches and not path.reaches)
        or (inherit and path.kind != "rpath")
        or (path.both and not alone)
    )
    needed = tuple(renamed(piece.elf))
    if not (lost or needed):
        return None
    entries = () if alone else (f"$ORIGIN/{directory}",)
    return Patch(entries if lost else None, "rpath", needed)


def renamed(elf: ElfFile) -> Iterator[tuple[str, str]]:
    """Yield the NEEDED entries that are paths, and the names that replace them."""
    for name in elf.dynamic.needed:
        if "/" in name:
            yield name, posixpath.basename(name)
