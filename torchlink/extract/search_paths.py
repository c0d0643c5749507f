"""Which libraries would not find their neighbours from the new place, and fixing that.

In a wheel's layout libraries find one another through `$ORIGIN/../../nvidia/…` and the like; from now on
they are in one directory. Nearly all of them search `$ORIGIN` too, so nearly never is there anything to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torchlink.binary.elf import ElfFile
from torchlink.errors import MalformedFileError
from torchlink.libtorch.names import library_name
from torchlink.libtorch.needs import search_path_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

ORIGIN = "$ORIGIN"


class Dynamic(NamedTuple):
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


def read_dynamic(directory: Path, names: Iterable[str]) -> dict[str, Dynamic]:
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
            found[name] = Dynamic(elf.machine, tuple(elf.dynamic.needed), *search_path_of(elf))
        except MalformedFileError as error:
            raise MalformedFileError(error.message, hint="Download the wheel again.") from error
    return found


def stranded(libraries: Mapping[str, Dynamic]) -> list[str]:
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


def write_search_paths(directory: Path, libraries: Mapping[str, Dynamic]) -> tuple[str, ...]:
    """Add `$ORIGIN` to the search paths that lack it; returns the file names.

    Raises:
        ToolMissingError: there is something to fix, and no patchelf.
        FileError: patchelf refuses a library.
    """
    names = stranded(libraries)
    if names:
        from torchlink.toolchain.patchelf import find_patchelf, set_search_path

        patchelf = find_patchelf(f"to let {', '.join(names)} find the libraries beside it")
        for name in names:
            library = libraries[name]
            set_search_path(patchelf, directory / name, (*library.entries, ORIGIN), library.kind or "runpath")
    return tuple(names)
