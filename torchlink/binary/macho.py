"""Load commands of macOS binaries (Mach-O), thin and fat.

Source: <mach-o/loader.h>, <mach-o/fat.h>. No package is used: macholib takes 20 ms to import and
reads only from paths, lief takes 500 ms; this reads the load commands in 0.2 ms.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchlink.binary.reader import BinaryFile
from torchlink.errors import MalformedFileError

if TYPE_CHECKING:
    from torchlink.binary.data import Data

KIND = "Mach-O file"
THIN_MAGICS = {
    b"\xfe\xed\xfa\xce": (32, ">"),
    b"\xce\xfa\xed\xfe": (32, "<"),
    b"\xfe\xed\xfa\xcf": (64, ">"),
    b"\xcf\xfa\xed\xfe": (64, "<"),
}
FAT_MAGICS = {b"\xca\xfe\xba\xbe": struct.Struct(">IIIII"), b"\xca\xfe\xba\xbf": struct.Struct(">IIQQII")}
MOST_SLICES = 32  # a Java class has a fat file's magic, and a version of 45 or more in place of the count
MOST_COMMANDS = 1 << 14
ARCHITECTURES = {
    0x01000007: "x86_64",
    7: "x86",
    0x0100000C: "arm64",
    12: "arm",
    0x0200000C: "arm64_32",
    18: "ppc",
    0x01000012: "ppc64",
}
FILE_TYPES = {1: "object", 2: "exec", 6: "dylib", 8: "bundle"}

LC_ID_DYLIB, LC_VERSION_MIN_MACOSX, LC_BUILD_VERSION, LC_RPATH = 0xD, 0x24, 0x32, 0x8000001C
# LC_LOAD_DYLIB, LC_LAZY_LOAD_DYLIB, LC_LOAD_WEAK_DYLIB, LC_REEXPORT_DYLIB, LC_LOAD_UPWARD_DYLIB
LOADS = frozenset({0xC, 0x20, 0x80000018, 0x8000001F, 0x80000023})
PLATFORM_MACOS = 1


@dataclass(frozen=True, slots=True)
class MachOSlice:
    """The binary for one architecture; a thin file has one."""

    arch: str  # "arm64" | "x86_64" | …, else "cpu-N"
    file_type: str  # "exec" | "dylib" | "bundle" (what Python loads) | "object", else "type-N"
    install_name: (
        str | None
    )  # LC_ID_DYLIB: what programs that link it will ask for, e.g. `@rpath/libc10.dylib`
    libraries: tuple[str, ...]  # LC_LOAD_DYLIB and its kin as written, in order
    rpaths: tuple[str, ...]  # LC_RPATH as written, e.g. `@loader_path`
    minimum_macos: str | None  # "11.0"


class MachOFile(BinaryFile):
    """One Mach-O file; a context manager if it was opened from a path."""

    KIND = KIND

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self.slices = tuple(read_slice(data, offset) for offset in slice_offsets(data))

    @property
    def architectures(self) -> tuple[str, ...]:
        """The architectures in the file."""
        return tuple(each.arch for each in self.slices)


def slice_offsets(data: Data) -> tuple[int, ...]:
    """Return the file offset of each architecture's binary."""
    magic = data.take(0, min(4, data.size))
    if magic in THIN_MAGICS:
        return (0,)
    shape = FAT_MAGICS.get(magic)
    count = data.unpack(struct.Struct(">I"), 4)[0] if shape and data.size >= 8 else 0
    if shape is None or not 0 < count <= MOST_SLICES:
        raise MalformedFileError(f"{data.name} is not a {KIND}.", hint="Name a macOS program or library.")
    return tuple(data.unpack(shape, 8 + number * shape.size)[2] for number in range(count))


def read_slice(data: Data, start: int) -> MachOSlice:
    """Read the load commands of one architecture's binary at `start` bytes."""
    known = THIN_MAGICS.get(data.take(start, 4))
    if known is None:
        raise data.malformed(f"at byte {start} there is no {KIND}")
    bits, order = known
    cpu, _, file_type, count, size, _ = data.unpack(struct.Struct(f"{order}6I"), start + 4)
    offset = start + (32 if bits == 64 else 28)
    end = offset + size
    word, pair = struct.Struct(f"{order}I"), struct.Struct(f"{order}II")
    if count > MOST_COMMANDS:
        raise data.malformed(f"it claims {count} load commands")

    install_name = minimum = None
    libraries: list[str] = []
    rpaths: list[str] = []
    for _ in range(count):
        command, length = data.unpack(pair, offset)
        if length < pair.size or offset + length > end:
            raise data.malformed("a load command is longer than all of them")

        if command in LOADS or command in {LC_ID_DYLIB, LC_RPATH}:
            (distance,) = data.unpack(word, offset + 8)
            text = data.string(offset + distance, offset + length)
            if command == LC_ID_DYLIB:
                install_name = text
            else:
                (rpaths if command == LC_RPATH else libraries).append(text)
        elif command == LC_VERSION_MIN_MACOSX:
            minimum = version_text(data.unpack(word, offset + 8)[0])
        elif command == LC_BUILD_VERSION:
            platform, version = data.unpack(pair, offset + 8)
            minimum = version_text(version) if platform == PLATFORM_MACOS else minimum
        offset += length
    return MachOSlice(
        arch=ARCHITECTURES.get(cpu, f"cpu-{cpu}"),
        file_type=FILE_TYPES.get(file_type, f"type-{file_type}"),
        install_name=install_name,
        libraries=tuple(libraries),
        rpaths=tuple(rpaths),
        minimum_macos=minimum,
    )


def version_text(packed: int) -> str:
    """`11.0` or `10.9.1` from X.Y.Z packed as 16, 8 and 8 bits."""
    major, minor, patch = packed >> 16, packed >> 8 & 0xFF, packed & 0xFF
    return f"{major}.{minor}.{patch}" if patch else f"{major}.{minor}"
