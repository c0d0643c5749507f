"""The libraries that libtorch needs from other wheels: where each is, and what comes along with it."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import UsageError
from torchlink.extract.members import Item, files, licences
from torchlink.libtorch.names import library_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
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
) -> list[Item]:
    """All libraries that are in one directory of a wheel, but those whose names are `present` already.

    All, because cuDNN and NVRTC open their other parts by name when they run; pip installs them all, too.
    """
    libraries = [
        Item(member, f"lib/{file}")
        for member in shelf.libraries
        for place, file in [_split(member)]
        if place == directory and file not in present
    ]
    return [*libraries, *(licences(shelf.archive) if with_licences else ())]


def _split(member: ZipInfo) -> tuple[str, str]:
    """Directory and file name."""
    directory, _, name = member.filename.rpartition("/")
    return directory, name
