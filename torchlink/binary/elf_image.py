"""What the loader sees of an ELF file: its header, its segments, and addresses turned into file offsets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.binary.elf_layout import (
    PN_XNUM,
    PT_LOAD,
    TYPES,
    Segment,
    layout_of,
    machine_name,
    segments_from,
)
from torchlink.errors import MalformedFileError

if TYPE_CHECKING:
    from torchlink.binary.data import Data

MAGIC = b"\x7fELF"
MOST_SEGMENTS = 1 << 16


class Image:
    """Header and program headers of one ELF file; section headers are not needed and may be absent.

    Raises:
        MalformedFileError: the bytes are no ELF file, or its header or program headers are cut off.
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
            raise data.malformed("its header names neither 32 nor 64 bits, or no byte order")
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
            raise self.data.malformed("its program headers lie beyond its end")
        return segments_from(self.data.take(offset, count * size), self.layout)

    def segment(self, kind: int) -> Segment | None:
        """The first program header of a type, or None."""
        return next((segment for segment in self.segments if segment.type == kind), None)

    def in_file(self, address: int) -> bool:
        """Whether the file holds the byte at a virtual address (separate debug files do not)."""
        return any(0 <= address - load.address < load.file_size for load in self.loads)

    def locate(self, address: int) -> tuple[int, int]:
        """File offset of a virtual address, and the offset where the bytes from there on end.

        They go on in the next segment where that continues the first in memory and in the file: patchelf puts a
        string table across two.

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
        raise self.data.malformed(f"the address {address:#x} is in none of its segments")
