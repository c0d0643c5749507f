"""Windows binaries (PE): machine, imported DLLs, exported symbols.

Source: Microsoft's PE format specification. No package is used: pefile takes 90 ms to import and
reads all exports of torch_cpu.dll to look one up, lief takes 500 ms.
"""

from __future__ import annotations

import struct
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from torchlink.binary.reader import BinaryFile
from torchlink.errors import MalformedFileError

if TYPE_CHECKING:
    from torchlink.binary.data import Data

KIND = "PE file"
MACHINES = {0x8664: "x86_64", 0x14C: "x86", 0xAA64: "arm64", 0x1C4: "arm"}
OPTIONAL_MAGICS = {0x10B: 96, 0x20B: 112}  # PE32, PE32+: where the data directories begin
EXPORTS, IMPORTS, DELAYED_IMPORTS = 0, 1, 13  # numbers of data directories
DLL = 0x2000
MOST_IMPORTS = 1 << 12

WORD = struct.Struct("<I")
HALF = struct.Struct("<H")
COFF = struct.Struct("<HHIIIHH")
SECTION = struct.Struct("<8sIIII16s")
EXPORT_DIRECTORY = struct.Struct("<10I")


class Section(NamedTuple):
    """A section; addresses are relative to where the image is loaded, all in bytes."""

    address: int
    size: int  # in the file
    offset: int


class PeFile(BinaryFile):
    """A lazy reader of one PE file; a context manager if it was opened from a path.

    Every property and method may raise MalformedFileError: a table is checked when it is read.
    """

    KIND = KIND

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        if data.take(0, min(2, data.size)) != b"MZ" or data.size < 64:
            raise not_a_pe_file(data)
        (header,) = data.unpack(WORD, 60)
        if header + 4 + COFF.size > data.size or data.take(header, 4) != b"PE\0\0":
            raise not_a_pe_file(data)
        machine, sections, _, _, _, optional_size, characteristics = data.unpack(COFF, header + 4)
        self.machine = MACHINES.get(machine, f"machine-{machine}")  # "x86_64", "arm64", …
        self.is_dll = bool(characteristics & DLL)
        optional = header + 4 + COFF.size
        magic = data.unpack(HALF, optional)[0] if optional_size else 0
        if magic not in OPTIONAL_MAGICS:
            raise data.malformed("its optional header is of no known kind")
        self._directories = optional + OPTIONAL_MAGICS[magic]
        (self._directory_count,) = data.unpack(WORD, self._directories - 4)
        self._sections = self._read_sections(optional + optional_size, sections)

    @cached_property
    def imports(self) -> tuple[str, ...]:
        """Names of the DLLs that are loaded with it, in order."""
        return self._imported(IMPORTS, 20, 12)

    @cached_property
    def delayed_imports(self) -> tuple[str, ...]:
        """Names of the DLLs that are loaded when first called (`/DELAYLOAD`)."""
        return self._imported(DELAYED_IMPORTS, 32, 4)

    def defines(self, symbol: str) -> bool:
        """Whether it exports this decorated name; a binary search over the sorted names."""
        wanted = symbol.encode("utf-8", "surrogateescape")
        count, names = self._export_names
        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            name = self._export_name(names, middle)
            if name == wanted:
                return True
            if name < wanted:
                low = middle + 1
            else:
                high = middle
        return False

    def exports(self) -> list[str]:
        """All exported names, sorted as in the file."""
        count, names = self._export_names
        return [
            self._export_name(names, number).decode("utf-8", "surrogateescape") for number in range(count)
        ]

    @cached_property
    def _export_names(self) -> tuple[int, int]:
        """The number of exported names, and the file offset of the table of their addresses."""
        address, size = self._directory(EXPORTS)
        if not address or not size:
            return 0, 0
        fields = self._data.unpack(EXPORT_DIRECTORY, self._locate(address))
        count, names = fields[6], fields[8]
        if not count:
            return 0, 0
        start = self._locate(names)
        if start + 4 * count > self._data.size:
            raise self._data.malformed(f"it claims {count} exported names, more than it can hold")
        return count, start

    def _export_name(self, names: int, number: int) -> bytes:
        (address,) = self._data.unpack(WORD, names + 4 * number)
        return self._data.raw_string(self._locate(address), self._data.size)

    def _read_sections(self, offset: int, count: int) -> tuple[Section, ...]:
        sections = []
        for number in range(count):
            _, _, address, size, start, _ = self._data.unpack(SECTION, offset + number * SECTION.size)
            sections.append(Section(address, size, start))
        return tuple(sections)

    def _directory(self, number: int) -> tuple[int, int]:
        """Return the relative address and size of a data directory; zeros if there is none."""
        if number >= self._directory_count:
            return 0, 0
        position = self._directories + 8 * number
        return self._data.unpack(WORD, position)[0], self._data.unpack(WORD, position + 4)[0]

    def _locate(self, address: int) -> int:
        """Return the file offset of a relative address."""
        for section in self._sections:
            if 0 <= address - section.address < section.size:
                return section.offset + address - section.address
        raise self._data.malformed(f"the address {address:#x} is not in any of its sections")

    def _imported(self, directory: int, size: int, name_field: int) -> tuple[str, ...]:
        """Return the names in a table of descriptors that ends with an empty one."""
        address, length = self._directory(directory)
        if not address or not length:
            return ()
        offset = self._locate(address)
        names: list[str] = []
        for number in range(MOST_IMPORTS):
            (name,) = self._data.unpack(WORD, offset + number * size + name_field)
            if not name:
                return tuple(names)
            names.append(self._data.string(self._locate(name), self._data.size))
        raise self._data.malformed("its table of imported libraries has no end")


def not_a_pe_file(data: Data) -> MalformedFileError:
    """Return the error for a file of another kind."""
    return MalformedFileError(f"{data.name} is not a {KIND}.", hint="Name a Windows program or library.")
