"""The libraries that libtorch needs from other wheels: where each lies, and what comes along with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import UsageError
from torchlink.extract.members import Item, files, licences
from torchlink.libtorch.layout import bare_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path
    from zipfile import ZipFile, ZipInfo


class Shelf(NamedTuple):
    """A wheel that may bring libraries."""

    wheel: Path
    archive: ZipFile
    libraries: Mapping[str, ZipInfo]  # by file name; of two with one name the first


def shelve(wheel: Path, archive: ZipFile) -> Shelf:
    """Look through a wheel for shared libraries."""
    found: dict[str, ZipInfo] = {}
    for member in files(archive):
        name = member.filename.rpartition("/")[2]
        if ".so" in name and bare_name(name) is not None:
            found.setdefault(name, member)
    return Shelf(wheel, archive, found)


def bringers(wanted: Iterable[str], shelves: Sequence[Shelf]) -> list[tuple[Shelf, str]]:
    """The wheels that bring these NEEDED names, each with the directory in it; in the order of `shelves`.

    Raises:
        UsageError: two wheels bring the same library.
    """
    found: dict[tuple[int, str], None] = {}
    for name in wanted:
        holding = [number for number, shelf in enumerate(shelves) if name in shelf.libraries]
        if len(holding) > 1:
            both = " and ".join(shelves[number].wheel.name for number in holding[:2])
            raise UsageError(f"{both} both bring {name}.", hint="Name only the one that this libtorch needs.")
        for number in holding:
            found[number, shelves[number].libraries[name].filename.rpartition("/")[0]] = None
    return [(shelves[number], directory) for number, directory in sorted(found)]


def items_of(shelf: Shelf, directory: str, present: Iterable[str], *, with_licences: bool) -> list[Item]:
    """All libraries that lie in one directory of a wheel, but those whose names are `present` already.

    All, because cuDNN and NVRTC open their other parts by name when they run; pip installs them all, too.
    """
    taken = set(present)
    libraries = [
        Item(member, f"lib/{name}")
        for name, member in shelf.libraries.items()
        if member.filename.rpartition("/")[0] == directory and name not in taken
    ]
    return [*libraries, *(licences(shelf.archive) if with_licences else ())]
