"""Section headers, for what the loader does not need: a stripped file may have none."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torchlink.binary.elf_image import Image

SHT_NOBITS = 8
MOST_SECTIONS = 1 << 16


def section_range(image: Image, name: str) -> tuple[int, int] | None:
    """File offsets where a section's bytes begin and end; None where there is no such section.

    Raises:
        MalformedFileError: the section headers lie outside the file.
    """
    table, count = image.section_table
    shape = image.layout.section
    if not table or not count or count > MOST_SECTIONS:
        return None
    headers = [image.data.unpack(shape, table + number * shape.size) for number in range(count)]
    (names,) = image.data.unpack(image.layout.half, 62 if image.bits == 64 else 50)
    if names >= count:
        return None
    start, size = headers[names][4], headers[names][5]
    for header in headers:
        label, kind, offset, length = header[0], header[1], header[4], header[5]
        if kind != SHT_NOBITS and label < size and image.data.string(start + label, start + size) == name:
            return offset, min(offset + length, image.data.size)
    return None
