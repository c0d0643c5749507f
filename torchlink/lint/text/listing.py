"""What a text says about one binary, whichever tool printed it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torchlink.binary.elf_dynamic import Dynamic


LDD = "ldd text"
LDDTREE = "lddtree text"
READELF = "readelf text"

# The file names of dynamic loaders; musl's is also what `musl-ldd` names itself.
LOADER = re.compile(r"(?:.*/)?(?:ld-linux[^/]*|ld-musl-[^/]*|ld(?:64)?\.so\.\d|ld-[\d.]+\.so|musl-ldd)")


class ListedLibrary(NamedTuple):
    """A library that a text names."""

    name: str  # as it was asked for
    path: str | None  # None: the tool did not find it
    asked_by: str | None = None  # path or name of what asks for it, where the text tells
    reason: str = ""  # why it was not taken, where the text tells more than that it is not there


class ListedSymbol(NamedTuple):
    """An undefined symbol that a text names."""

    symbol: str  # mangled
    version: str | None
    object: str | None  # path or name of the object that refers to it, where the text tells


class ListedVersion(NamedTuple):
    """A symbol version that an object needs, and which library serves it."""

    object: str  # path or name of the object that needs it
    library: str  # path of the library, or the NEEDED name
    version: str
    found: bool


class Listing(NamedTuple):
    """What a text says about one binary."""

    kind: str  # LDD, LDDTREE or READELF
    subject: str | None = None  # as the text calls the binary, where it does
    libraries: tuple[ListedLibrary, ...] = ()
    interpreter: str | None = None
    undefined: tuple[ListedSymbol, ...] = ()
    versions: tuple[ListedVersion, ...] = ()
    dynamic: Dynamic | None = None  # the binary's dynamic section
    static: bool = False  # there is nothing to load, or it is no dynamic ELF file
    musl: bool = False
    imported: bool = False  # Python said it, which was to import the binary
    errors: tuple[
        str, ...
    ] = ()  # lines in which the loader or Python reports an error of a kind not known here
    strange: tuple[str, ...] = ()  # other lines that are none of the tool's
    complaints: tuple[str, ...] = ()  # lines in which the tool says that it failed
