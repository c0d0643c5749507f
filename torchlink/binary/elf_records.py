"""What is said of one symbol, and of one use of a symbol of another file."""

from __future__ import annotations

from typing import NamedTuple

BINDINGS = {0: "local", 1: "global", 2: "weak", 10: "unique"}
KINDS = {0: "notype", 1: "object", 2: "func", 3: "section", 4: "file", 5: "common", 6: "tls", 10: "ifunc"}
VISIBILITIES = ("default", "internal", "hidden", "protected")


# An undefined symbol that must be served: its GNU hash, mangled name, version and index in the table. Plain tuples,
# because a closure of libtorch has many thousand.
Wanted = tuple[int, bytes, "str | None", int]


class Symbol(NamedTuple):
    """One dynamic symbol. `value` is an address (0 when undefined), `size` is in bytes."""

    name: str
    number: int  # its index in the table
    defined: bool
    binding: str  # "local" | "global" | "weak" | "unique"
    kind: str  # "func" | "object" | "tls" | "ifunc" | "notype" | …
    visibility: str  # "default" | "protected" | "hidden" | "internal"
    value: int
    size: int
    version: str | None  # `GLIBC_2.34`; None without a version
    version_library: str | None  # of an undefined symbol: the library that the version is needed of
    hidden_version: bool  # of a defined symbol: `name@VERSION` rather than `name@@VERSION`


class Reference(NamedTuple):
    """A symbol that a file takes from elsewhere."""

    name: bytes  # mangled
    number: int  # its index in the table
    version: str | None
    version_library: str | None  # the NEEDED name that the version was linked against
    weak: bool  # may stay undefined
    copied: bool  # a copy relocation: the program itself does not count as its provider


class Definition(NamedTuple):
    """A symbol that a file defines for others, and for itself where its relocations name it."""

    name: bytes  # mangled
    number: int  # its index in the table
    version: str | None
    strong: bool  # neither weak, as every copy of an inline function is, nor unique
