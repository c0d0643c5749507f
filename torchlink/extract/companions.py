"""The libraries that libtorch needs from other wheels, and the search paths of all libraries.

In a wheel's layout libraries find one another through `$ORIGIN/../../nvidia/…` and the like; after extraction they are
in one directory. Nearly all of them search `$ORIGIN` too; `write_search_paths` adds it to those that do not.
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

ORIGIN = "$ORIGIN"


class WheelIndex(NamedTuple):
    """A wheel and the shared libraries in it."""

    wheel: Path
    archive: ZipFile
    libraries: tuple[ZipInfo, ...]


def index_wheel(wheel: Path, archive: ZipFile) -> WheelIndex:
    """List the shared libraries in a wheel."""
    libraries = (member for member in files(archive) if ".so" in member.filename)
    return WheelIndex(
        wheel, archive, tuple(member for member in libraries if library_name(_split(member)[1]) is not None)
    )


def search_dirs(home: str, entries: Iterable[str]) -> set[str]:
    """Return the directories, relative to site-packages, in the search path of a library that pip has installed.

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
    wanted: Iterable[str], indexes: Sequence[WheelIndex], reached: Collection[str]
) -> list[tuple[WheelIndex, str]]:
    """Return the wheels that contain these libraries, each with the directory in it; in the order of `indexes`.

    Args:
        wanted: SONAMEs.
        indexes: the wheels.
        reached: directories in search paths. These are preferred: Triton's wheel has a libcupti, too, which torch would
            never find.

    Raises:
        UsageError: two wheels contain the same library.
    """
    found: dict[tuple[int, str], None] = {}
    for name in wanted:
        holding = [
            (number, directory)
            for number, index in enumerate(indexes)
            for directory, file in map(_split, index.libraries)
            if file == name
        ]
        holding = [place for place in holding if place[1] in reached] or holding
        if len({number for number, _ in holding}) > 1:
            both = " and ".join(indexes[number].wheel.name for number, _ in holding[:2])
            raise UsageError(
                f"{both} both contain {name}.", hint="Name only the one that this libtorch needs."
            )
        if holding:
            found[holding[0]] = None
    return [(indexes[number], directory) for number, directory in sorted(found)]


def items_of(
    index: WheelIndex, directory: str, present: Collection[str], *, with_licences: bool
) -> list[ArchiveMember]:
    """Return all libraries in one directory of a wheel except those whose names are `present` already.

    All of them, because cuDNN and NVRTC open their other parts by name at run time.
    """
    libraries = [
        ArchiveMember(member, f"lib/{file}")
        for member in index.libraries
        for place, file in [_split(member)]
        if place == directory and file not in present
    ]
    return [*libraries, *(licences(index.archive) if with_licences else ())]


def _split(member: ZipInfo) -> tuple[str, str]:
    """Return the directory and the file name."""
    directory, _, name = member.filename.rpartition("/")
    return directory, name


class SearchFacts(NamedTuple):
    """The parts of a library's dynamic section that decide where it finds others."""

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
    """Return the ELF libraries among these files of a directory, by file name.

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


def lacking_origin(libraries: Mapping[str, SearchFacts]) -> list[str]:
    """Return the file names of libraries that need others in their directory and do not search it.

    A library without a search path uses those of the objects that load it, but only DT_RPATH is inherited (glibc).
    """
    torch = [libraries[name] for name in ("libtorch_cpu.so", "libtorch.so") if name in libraries]
    inherited = bool(torch) and torch[0].kind == "rpath" and torch[0].searches_origin
    return [
        name
        for name, library in libraries.items()
        if not libraries.keys().isdisjoint(library.needed)
        and not library.searches_origin
        and not (library.kind is None and inherited)
    ]


def write_search_paths(directory: Path, libraries: Mapping[str, SearchFacts]) -> tuple[str, ...]:
    """Add `$ORIGIN` to the search paths that lack it, and return the file names.

    Raises:
        ToolMissingError: a search path must be changed, and patchelf is missing.
        FileError: patchelf refuses a library.
    """
    names = lacking_origin(libraries)
    if names:
        from torchlink.toolchain.tools import find_patchelf, set_search_path

        patchelf = find_patchelf(f"to let {', '.join(names)} find the libraries in the same directory")
        for name in names:
            library = libraries[name]
            set_search_path(patchelf, directory / name, (*library.entries, ORIGIN), library.kind or "runpath")
    return tuple(names)
