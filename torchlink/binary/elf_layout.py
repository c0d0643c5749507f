"""The layout of ELF files: record formats and constants, symbols, and the header with its segments.

`Image` is a file as the loader sees it: it turns virtual addresses into file offsets and needs no section headers.

Sources: the System V gABI and <elf.h>.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import MalformedFileError

if TYPE_CHECKING:
    from torchlink.binary.data import Data


PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE, PT_PHDR, PT_TLS = 1, 2, 3, 4, 6, 7
PT_GNU_STACK = 0x6474E551
PF_X = 1
PN_XNUM = 0xFFFF  # the number of program headers did not fit; section 0 holds it
SHT_DYNSYM = 11

TYPES = {1: "rel", 2: "exec", 3: "dyn", 4: "core"}
# By e_machine and class.
MACHINES = {
    (2, 32): "sparc",
    (43, 64): "sparc64",
    (3, 32): "x86",
    (62, 64): "x86_64",
    (62, 32): "x32",
    (40, 32): "arm",
    (183, 64): "aarch64",
    (20, 32): "ppc",
    (22, 64): "s390x",
    (22, 32): "s390",
    (243, 64): "riscv64",
    (243, 32): "riscv32",
    (258, 64): "loongarch64",
    (8, 32): "mips",
    (8, 64): "mips64",
    (15, 32): "hppa",
    (4, 32): "m68k",
    (0x9026, 64): "alpha",
    (50, 64): "ia64",
}
# Where the stack is not executable unless PT_GNU_STACK asks (glibc's DEFAULT_STACK_PERMS without PF_X).
PLAIN_STACK = frozenset({"aarch64", "riscv64", "riscv32", "loongarch64"})
BINDINGS = {0: "local", 1: "global", 2: "weak", 10: "unique"}
KINDS = {0: "notype", 1: "object", 2: "func", 3: "section", 4: "file", 5: "common", 6: "tls", 10: "ifunc"}
VISIBILITIES = ("default", "internal", "hidden", "protected")
# A symbol to look up: its GNU hash, mangled name, version, and index in its own table. Plain tuples, because
# a closure of libtorch has many thousand.
Wanted = tuple[int, bytes, "str | None", int]
MOST_SYMBOLS = 1 << 21  # in one table; libtorch_cpu.so has 75,000
MAGIC = b"\x7fELF"
MOST_SEGMENTS = 1 << 16


def machine_name(number: int, bits: int, byteorder: str) -> str:
    """`x86_64`, `aarch64`, …, or `machine-N` for one without a name in `MACHINES`."""
    if number == 21:
        return "ppc64le" if byteorder == "little" else "ppc64"
    return MACHINES.get((number, bits), f"machine-{number}")


class RecordLayout(NamedTuple):
    """The record formats of one class (32 or 64 bits) and byte order."""

    bits: int
    byteorder: str  # "little" | "big"
    header: struct.Struct  # from byte 16 on: type, machine, version, entry, phoff, shoff, flags, ehsize, …
    segment: struct.Struct
    section: struct.Struct
    pair: struct.Struct  # a dynamic entry: tag, value
    symbol: struct.Struct
    address: struct.Struct  # one word of an address's width
    word: struct.Struct  # 32 bits
    half: struct.Struct  # 16 bits


@lru_cache(maxsize=4)
def layout_of(bits: int, byteorder: str) -> RecordLayout:
    """The layout for 32 or 64 bits and `little` or `big`."""
    order = "<" if byteorder == "little" else ">"
    wide = bits == 64
    return RecordLayout(
        bits=bits,
        byteorder=byteorder,
        header=struct.Struct(order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH")),
        segment=struct.Struct(order + ("IIQQQQQQ" if wide else "IIIIIIII")),
        section=struct.Struct(order + ("IIQQQQIIQQ" if wide else "IIIIIIIIII")),
        pair=struct.Struct(order + ("QQ" if wide else "II")),
        symbol=struct.Struct(order + ("IBBHQQ" if wide else "IIIBBH")),
        address=struct.Struct(order + ("Q" if wide else "I")),
        word=struct.Struct(order + "I"),
        half=struct.Struct(order + "H"),
    )


class Segment(NamedTuple):
    """One program header. Offsets, addresses and sizes are in bytes."""

    type: int
    flags: int
    offset: int
    address: int
    file_size: int
    memory_size: int
    alignment: int


def segments_from(table: bytes, layout: RecordLayout) -> tuple[Segment, ...]:
    """Program headers from their bytes (the two classes order the fields differently)."""
    # field numbers of type, flags, offset, address, file size, memory size and alignment
    order = (0, 1, 2, 3, 5, 6, 7) if layout.bits == 64 else (0, 6, 1, 2, 4, 5, 7)
    return tuple(map(Segment._make, map(itemgetter(*order), layout.segment.iter_unpack(table))))


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
    version_library: str | None  # of an undefined symbol: the library that should define the version
    hidden_version: bool  # of a defined symbol: `name@VERSION` rather than `name@@VERSION`


class Reference(NamedTuple):
    """A symbol that a file uses and another object defines."""

    name: bytes  # mangled
    number: int  # its index in the table
    version: str | None
    version_library: str | None  # the NEEDED name that the version was linked against
    weak: bool  # may stay undefined
    copied: bool  # by a copy relocation: the program's own copy does not count as its definition


class Definition(NamedTuple):
    """A symbol that a file defines for other objects, and for itself where its relocations name it."""

    name: bytes  # mangled
    number: int  # its index in the table
    version: str | None
    strong: bool  # neither weak (as copies of inline functions are) nor unique


class Image:
    """Header and program headers of one ELF file; section headers are not needed and may be absent.

    Raises:
        MalformedFileError: the bytes are not an ELF file, or its header or program headers are cut off.
    """

    __slots__ = (
        "bits",
        "byteorder",
        "data",
        "layout",
        "loads",
        "machine",
        "section_table",
        "segments",
        "type",
    )

    def __init__(self, data: Data) -> None:
        self.data = data
        if data.take(0, min(4, data.size)) != MAGIC:
            raise MalformedFileError(
                f"{data.name} is not an ELF file.", hint="Name a Linux program or shared library."
            )
        if data.size < 52:
            raise data.malformed("its header is cut off")
        width, order = data.take(4, 2)
        if width not in {1, 2} or order not in {1, 2}:
            raise data.malformed("its header has no valid class (32 or 64 bits) or byte order")
        self.bits = 32 * width
        self.byteorder = "little" if order == 1 else "big"
        self.layout = layout_of(self.bits, self.byteorder)
        fields = data.unpack(self.layout.header, 16)
        kind, machine, _, _, phoff, shoff, _, _, phentsize, phnum, shentsize, shnum, _ = fields
        self.type = TYPES.get(kind, f"type-{kind}")
        self.machine = machine_name(machine, self.bits, self.byteorder)
        self.section_table = (shoff, shnum if shentsize == self.layout.section.size else 0)
        if phnum == PN_XNUM:
            phnum = data.unpack(self.layout.section, shoff)[7]
        self.segments = self._read_segments(phoff, phnum, phentsize)
        self.loads = tuple(segment for segment in self.segments if segment.type == PT_LOAD)

    def _read_segments(self, offset: int, count: int, size: int) -> tuple[Segment, ...]:
        if not count:
            return ()
        shape = self.layout.segment
        if size != shape.size:
            raise self.data.malformed(f"its program headers are {size} bytes long instead of {shape.size}")
        if count > MOST_SEGMENTS or offset + count * size > self.data.size:
            raise self.data.malformed("its program headers extend past its end")
        return segments_from(self.data.take(offset, count * size), self.layout)

    def segment(self, kind: int) -> Segment | None:
        """The first program header of a type, or None."""
        return next((segment for segment in self.segments if segment.type == kind), None)

    def in_file(self, address: int) -> bool:
        """Whether the file holds the byte at a virtual address (separate debug files do not)."""
        return any(0 <= address - load.address < load.file_size for load in self.loads)

    def locate(self, address: int) -> tuple[int, int]:
        """Return the file offset of a virtual address, and the offset at which its segment ends.

        Segments that are adjacent both in memory and in the file count as one: patchelf may spread a
        string table over two.

        Raises:
            MalformedFileError: no loaded segment holds the address in the file.
        """
        for number, load in enumerate(self.loads):
            distance = address - load.address
            if 0 <= distance < load.file_size:
                size = load.file_size
                for other in self.loads[number + 1 :]:
                    if (other.address - load.address, other.offset - load.offset) != (size, size):
                        break
                    size += other.file_size
                return load.offset + distance, min(load.offset + size, self.data.size)
        raise self.data.malformed(f"the address {address:#x} is not in any of its segments")
