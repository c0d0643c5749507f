"""The contents of a text about one binary, in the same form for every tool."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torchlink.binary.elf_dynamic import Dynamic


LDD = "ldd text"
LDDTREE = "lddtree text"
READELF = "readelf text"

# The file names of dynamic loaders; `musl-ldd` is musl's under another name.
LOADER = re.compile(r"(?:.*/)?(?:ld-linux[^/]*|ld-musl-[^/]*|ld(?:64)?\.so\.\d|ld-[\d.]+\.so|musl-ldd)")


class ListedLibrary(NamedTuple):
    """A library that a text names."""

    name: str  # as in NEEDED
    path: str | None  # None: the tool did not find it
    needed_by: str | None = None  # path or name of the object that needs it, if the text says so
    reason: str = ""  # why it was not loaded, if the text says more than that it does not exist


class ListedSymbol(NamedTuple):
    """An undefined symbol that a text names."""

    symbol: str  # mangled
    version: str | None
    object: str | None  # path or name of the object that refers to it, if the text says so


class ListedVersion(NamedTuple):
    """A symbol version that an object needs, and the library that should define it."""

    object: str  # path or name of the object that needs it
    library: str  # path of the library, or the NEEDED name
    version: str
    found: bool


class Listing(NamedTuple):
    """The contents of a text about one binary."""

    kind: str  # LDD, LDDTREE or READELF
    subject: str | None = None  # the binary's path in the text, if it is there
    libraries: tuple[ListedLibrary, ...] = ()
    interpreter: str | None = None
    undefined: tuple[ListedSymbol, ...] = ()
    versions: tuple[ListedVersion, ...] = ()
    dynamic: Dynamic | None = None  # the binary's dynamic section
    static: bool = False  # there is nothing to load, or it is not a dynamic ELF file
    musl: bool = False
    imported: bool = False  # the text is Python's, from importing the binary
    errors: tuple[str, ...] = ()  # errors of the loader or Python that are not recognised
    unknown: tuple[str, ...] = ()  # other lines that are not the tool's
    complaints: tuple[str, ...] = ()  # lines in which the tool says that it failed
