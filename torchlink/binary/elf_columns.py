"""Stretches of an ELF file's symbol table as columns, for what is asked of thousands of symbols."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable

    from torchlink.binary.elf_image import Image

LOCAL, GLOBAL, WEAK = 0, 1, 2  # symbol bindings
OVERLAP = "its symbol names overlap without measure"


class Columns:
    """Where the names of symbols begin, and the word that holds their binding and section.

    Args:
        image: the file.
        start: file offset of the symbol table.
        strings: file offsets at which its string table begins and ends.
    """

    __slots__ = ("_end", "_image", "_start", "_strings", "binding", "section", "shift", "visibility")

    def __init__(self, image: Image, start: int, strings: tuple[int, int]) -> None:
        self._image = image
        self._start = start
        self._strings, self._end = strings
        little = image.byteorder == "little"
        # Masks of the second column's words: the section, 0 of which means undefined, the binding, and the
        # visibility, 0 of which is the default.
        self.section = 0xFFFF0000 if little else 0xFFFF
        self.shift = 4 if little else 28
        self.binding = 15 << self.shift
        self.visibility = 3 << (8 if little else 16)

    def read(self, first: int, end: int) -> tuple[array[int], array[int]]:
        """Of the symbols from number `first` up to `end`: the names' places, the fields of binding and section."""
        size = self._image.layout.symbol.size
        bytes_ = max(end - first, 0) * size
        words = self._image.data.numbers("I", self._start + first * size, bytes_, self._image.byteorder)
        step = size // words.itemsize
        return words[::step], words[1 if self._image.bits == 64 else 3 :: step]

    def texts(self, places: Iterable[int]) -> list[bytes]:
        """The strings that begin at these places of the string table."""
        buffer, base = self._image.data.window(self._strings, self._end)
        start, end = self._strings - base, self._end - base
        find = buffer.find
        allowed = most_text(start, end)
        names = []
        for place in places:
            begin = start + place
            stop = find(b"\0", begin, end)
            allowed += begin - stop
            if stop < 0 or allowed < 0:
                reason = OVERLAP if stop > 0 else f"the string at byte {begin + base} has no end"
                raise self._image.data.malformed(reason)
            names.append(buffer[begin:stop])
        return names


def most_text(start: int, end: int) -> int:
    """How long all names of a string table may be together: they may share their tails, but not without measure."""
    return 4 * (end - start) + 4096
