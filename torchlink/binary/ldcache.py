"""ld.so.cache: what ldconfig found in the directories of ld.so.conf, by name.

Source: glibc's `dl-cache.h`: the format since 2.2, with the extension for glibc-hwcaps (2.33).
"""

from __future__ import annotations

import re
import struct
import sys
from functools import cached_property
from typing import TYPE_CHECKING

from torchlink.bounds import whole_number

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

MAGIC = b"glibc-ld.so.cache1.1"
HEADER_SIZE = 48
ENTRY_SIZE = 24
RUNS = re.compile(rb"\d{1,9}|\D", re.DOTALL).findall
EXTENSION_MAGIC = 0xEAA42174
HWCAPS_SECTION = 1
HWCAP_EXTENSION = 1 << 30  # bit 62 of the 64-bit field: the low half is an index of a glibc-hwcaps name
ISA_LEVEL_MASK = 0x3FF
BIG_ENDIAN_CACHE = 3


class LibraryCache:
    """A parsed ld.so.cache. What is damaged in it is left out, as the loader leaves the whole file out.

    Args:
        blob: the file; the old format in front of the new one is skipped.
    """

    def __init__(self, blob: bytes) -> None:
        start = blob.find(MAGIC)
        self._blob = blob[start:] if start >= 0 and len(blob) - start >= HEADER_SIZE else b""
        self._order = "<"
        if self._blob:
            marked = self._blob[28] & 3
            big = marked == BIG_ENDIAN_CACHE or (marked == 0 and sys.byteorder == "big")
            self._order = ">" if big else "<"
        self._shape = struct.Struct(self._order + "iIIIQ")

    @cached_property
    def _count(self) -> int:
        """How many entries there are, those of a file that is cut off not counted."""
        if not self._blob:
            return 0
        (count,) = struct.unpack_from(self._order + "I", self._blob, 20)
        return int(count) if HEADER_SIZE + count * ENTRY_SIZE <= len(self._blob) else 0

    def _entry(self, number: int) -> tuple[bytes, int, int, int]:
        """Name, flags, hwcap and offset of the path of one entry."""
        flags, key, value, _, hwcap = self._shape.unpack_from(self._blob, HEADER_SIZE + number * ENTRY_SIZE)
        return self._blob[key : max(self._blob.find(b"\0", key), key)], flags, hwcap, value

    def _named(self, name: bytes) -> Iterator[tuple[int, int, int]]:
        """(flags, hwcap, offset of the path) of every entry with this name, in the file's order.

        The entries are sorted, the last name first, and the loader searches them by halves, as is done here.
        """
        wanted = collation(name)
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            if collation(self._entry(middle)[0]) > wanted:
                low = middle + 1
            else:
                high = middle
        for number in range(low, self._count):
            found, *rest = self._entry(number)
            if collation(found) != wanted:
                return
            if found == name and rest[-1] < len(self._blob):
                yield rest[0], rest[1], rest[2]

    @cached_property
    def _hwcap_names(self) -> tuple[str, ...]:
        """The glibc-hwcaps names that entries refer to by index."""
        blob, order = self._blob, self._order
        word = struct.Struct(order + "I")
        try:
            (offset,) = word.unpack_from(blob, 32)
            magic, count = struct.unpack_from(order + "II", blob, offset)
            if not offset or magic != EXTENSION_MAGIC:
                return ()
            for number in range(min(count, 64)):
                tag, _, start, size = struct.unpack_from(order + "IIII", blob, offset + 8 + 16 * number)
                if tag == HWCAPS_SECTION:
                    strings = (word.unpack_from(blob, start + step)[0] for step in range(0, size & ~3, 4))
                    return tuple(self._text(string) for string in strings)
        except struct.error:
            pass
        return ()

    def _text(self, offset: int) -> str:
        stop = self._blob.find(b"\0", offset)
        return self._blob[offset : max(stop, offset)].decode("utf-8", "surrogateescape")

    def lookup(
        self,
        name: str,
        flags: Collection[int],
        hwcaps: Callable[[], Sequence[str]],
        legacy: Callable[[int], bool] | None = None,
    ) -> str | None:
        """The path that the loader takes from the cache for a NEEDED name, or None.

        Args:
            name: SONAME, e.g. `libz.so.1`.
            flags: what entries of the machine carry; others are passed over.
            hwcaps: gives the processor's glibc-hwcaps names, the best first; called only when entries ask.
            legacy: whether the loader takes an entry with these bits, which stand for a legacy hardware
                directory; None for a loader since 2.37, which takes none.
        """
        best: tuple[int, str] | None = None
        for entry_flags, hwcap, value in self._named(name.encode("utf-8", "surrogateescape")):
            if entry_flags not in flags:
                continue
            rank = sys.maxsize
            if (hwcap >> 32) & ~ISA_LEVEL_MASK == HWCAP_EXTENSION:
                index, names = hwcap & 0xFFFFFFFF, self._hwcap_names
                if index >= len(names) or names[index] not in hwcaps():
                    continue
                rank = list(hwcaps()).index(names[index])
            elif hwcap and (legacy is None or not legacy(hwcap)):
                continue
            if best is None or rank < best[0]:
                best = (rank, self._text(value))
        return best and best[1]


def collation(name: bytes) -> list[int]:
    """What entries are sorted by: runs of digits as numbers, above every other byte (`_dl_cache_libcmp`)."""
    return [256 + whole_number(part) if part.isdigit() else part[0] for part in RUNS(name)]
