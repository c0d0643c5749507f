"""The libraries that libtorch needs from other wheels: where each is, and what comes along with it.

Which libraries would not find their neighbours from the new place, and fixing that.

In a wheel's layout libraries find one another through `$ORIGIN/../../nvidia/…` and the like; from now on
they are in one directory. Nearly all of them search `$ORIGIN` too, so nearly never is there anything to do.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, NamedTuple

from torchlink.binary.elf import ElfFile
from torchlink.errors import MalformedFileError, UsageError
from torchlink.extract.members import ArchiveMember, files, licences
from torchlink.libtorch.companions import search_path_of
from torchlink.libtorch.names import library_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path
    from zipfile import ZipFile, ZipInfo


class WheelIndex(NamedTuple):
    """A wheel that may bring libraries."""

    wheel: Path
    archive: ZipFile
    libraries: tuple[ZipInfo, ...]


def shelve(wheel: Path, archive: ZipFile) -> WheelIndex:
    """Look through a wheel for shared libraries."""
    libraries = (member for member in files(archive) if ".so" in member.filename)
    return WheelIndex(
        wheel, archive, tuple(member for member in libraries if library_name(_split(member)[1]) is not None)
    )


def search_dirs(home: str, entries: Iterable[str]) -> set[str]:
    """The directories, relative to site-packages, to which a library's search path leads where pip puts it.

    Args:
        home: the library's own directory there, such as `torch/lib`.
        entries: of its search path.
    """
    plain = (entry.replace("${ORIGIN}", "$ORIGIN") for entry in entries)
    return {
        posixpath.normpath(home + entry.removeprefix("$ORIGIN"))
        for entry in plain
        if entry.partition("/")[0] == "$ORIGIN"
    }


def providers(
    wanted: Iterable[str], shelves: Sequence[WheelIndex], reached: Collection[str]
) -> list[tuple[WheelIndex, str]]:
    """The wheels that bring these NEEDED names, each with the directory in it; in the order of `shelves`.

    Args:
        wanted: SONAMEs.
        shelves: the wheels.
        reached: directories to which search paths lead. What is there goes first: Triton's wheel has a
            libcupti, too, that torch would never find.

    Raises:
        UsageError: two wheels bring the same library.
    """
    found: dict[tuple[int, str], None] = {}
    for name in wanted:
        holding = [
            (number, directory)
            for number, shelf in enumerate(shelves)
            for directory, file in map(_split, shelf.libraries)
            if file == name
        ]
        holding = [place for place in holding if place[1] in reached] or holding
        if len({number for number, _ in holding}) > 1:
            both = " and ".join(shelves[number].wheel.name for number, _ in holding[:2])
            raise UsageError(f"{both} both bring {name}.", hint="Name only the one that this libtorch needs.")
        if holding:
            found[holding[0]] = None
    return [(shelves[number], directory) for number, directory in sorted(found)]


def items_of(
    shelf: WheelIndex, directory: str, present: Collection[str], *, with_licences: bool
) -> list[ArchiveMember]:
    """All libraries that are in one directory of a wheel, but those whose names are `present` already.

    All, because cuDNN and NVRTC open their other parts by name when they run; pip installs them all, too.
    """
    libraries = [
        ArchiveMember(member, f"lib/{file}")
        for member in shelf.libraries
        for place, file in [_split(member)]
        if place == directory and file not in present
    ]
    return [*libraries, *(licences(shelf.archive) if with_licences else ())]


def _split(member: ZipInfo) -> tuple[str, str]:
    """Directory and file name."""
    directory, _, name = member.filename.rpartition("/")
    return directory, name


ORIGIN = "$ORIGIN"


class SearchFacts(NamedTuple):
    """What of a library's dynamic section decides where it finds others."""

    machine: str
    needed: tuple[str, ...]
    kind: str | None  # "rpath" | "runpath" | None
    entries: tuple[str, ...]

    @property
    def searches_origin(self) -> bool:
        """Whether the library's own directory is searched."""
        plain = (entry.replace("${ORIGIN}", ORIGIN).rstrip("/.").rstrip("/") for entry in self.entries)
        return ORIGIN in plain


def read_dynamic(directory: Path, names: Iterable[str]) -> dict[str, SearchFacts]:
    """The ELF libraries among the files of these names in a directory, by file name.

    Raises:
        MalformedFileError: a library is damaged.
    """
    found = {}
    for name in sorted(names):
        path = directory / name
        if library_name(name) is None:
            continue
        with path.open("rb") as file:
            if file.read(4) != b"\x7fELF":
                continue
        try:
            elf = ElfFile.open(path)
            found[name] = SearchFacts(elf.machine, tuple(elf.dynamic.needed), *search_path_of(elf))
        except MalformedFileError as error:
            raise MalformedFileError(error.message, hint="Download the wheel again.") from error
    return found


def stranded(libraries: Mapping[str, SearchFacts]) -> list[str]:
    """File names of the libraries that need a neighbour and do not look beside themselves.

    A library without a search path uses those of whoever loads it, but only DT_RPATH is handed on (glibc).
    """
    torch = [libraries[name] for name in ("libtorch_cpu.so", "libtorch.so") if name in libraries]
    handed_on = bool(torch) and torch[0].kind == "rpath" and torch[0].searches_origin
    return [
        name
        for name, library in libraries.items()
        if not libraries.keys().isdisjoint(library.needed)
        and not library.searches_origin
        and not (library.kind is None and handed_on)
    ]


def write_search_paths(directory: Path, libraries: Mapping[str, SearchFacts]) -> tuple[str, ...]:
    """Add `$ORIGIN` to the search paths that lack it; returns the file names.

    Raises:
        ToolMissingError: there is something to fix, and no patchelf.
        FileError: patchelf refuses a library.
    """
    names = stranded(libraries)
    if names:
        from torchlink.toolchain.tools import find_patchelf, set_search_path

        patchelf = find_patchelf(f"to let {', '.join(names)} find the libraries beside it")
        for name in names:
            library = libraries[name]
            set_search_path(patchelf, directory / name, (*library.entries, ORIGIN), library.kind or "runpath")
    return tuple(names)
