"""The shapes of ELF's records in both widths and byte orders, and the numbers that name things.

Source: the System V gABI and <elf.h>.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE, PT_PHDR, PT_TLS = 1, 2, 3, 4, 6, 7
PT_GNU_STACK = 0x6474E551
PF_X = 1
PN_XNUM = 0xFFFF  # the number of program headers did not fit; section 0 holds it
SHT_DYNSYM = 11

TYPES = {1: "rel", 2: "exec", 3: "dyn", 4: "core"}
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


def machine_name(number: int, bits: int, byteorder: str) -> str:
    """`x86_64`, `aarch64`, …, or `machine-N` for one that has no name here."""
    if number == 21:
        return "ppc64le" if byteorder == "little" else "ppc64"
    return MACHINES.get((number, bits), f"machine-{number}")


class Layout(NamedTuple):
    """The record shapes of one class (32 or 64 bits) and byte order."""

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
def layout_of(bits: int, byteorder: str) -> Layout:
    """The layout for 32 or 64 bits and `little` or `big`."""
    order = "<" if byteorder == "little" else ">"
    wide = bits == 64
    return Layout(
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


def segments_from(table: bytes, layout: Layout) -> tuple[Segment, ...]:
    """Program headers from their bytes (the two classes order the fields differently)."""
    # field numbers of type, flags, offset, address, file size, memory size and alignment
    order = (0, 1, 2, 3, 5, 6, 7) if layout.bits == 64 else (0, 6, 1, 2, 4, 5, 7)
    return tuple(map(Segment._make, map(itemgetter(*order), layout.segment.iter_unpack(table))))
