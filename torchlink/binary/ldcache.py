"""ld.so.cache: what ldconfig found in the directories of ld.so.conf, by name.

Source: glibc's `dl-cache.h`: the format since 2.2, with the extension for glibc-hwcaps (2.33).
"""

from __future__ import annotations

import struct
import sys
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

MAGIC = b"glibc-ld.so.cache1.1"
HEADER_SIZE = 48
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

    @cached_property
    def _entries(self) -> dict[bytes, list[tuple[int, int, int]]]:
        """Name → (flags, hwcap, offset of the path) of every entry, in the file's order."""
        entries: dict[bytes, list[tuple[int, int, int]]] = {}
        blob = self._blob
        if not blob:
            return entries
        (count,) = struct.unpack_from(self._order + "I", blob, 20)
        shape = struct.Struct(self._order + "iIIIQ")
        end = HEADER_SIZE + count * shape.size
        if end > len(blob):
            return entries
        for flags, key, value, _, hwcap in shape.iter_unpack(blob[HEADER_SIZE:end]):
            stop = blob.find(b"\0", key)
            if stop > 0 and value < len(blob):
                entries.setdefault(blob[key:stop], []).append((flags, hwcap, value))
        return entries

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

    def lookup(self, name: str, flags: Collection[int], hwcaps: Callable[[], Sequence[str]]) -> str | None:
        """The path that the loader takes from the cache for a NEEDED name, or None.

        Args:
            name: SONAME, e.g. `libz.so.1`.
            flags: what entries of the machine carry; others are passed over.
            hwcaps: gives the processor's glibc-hwcaps names, the best first; called only when entries ask.
        """
        best: tuple[int, str] | None = None
        for entry_flags, hwcap, value in self._entries.get(name.encode("utf-8", "surrogateescape"), ()):
            if entry_flags not in flags:
                continue
            rank = sys.maxsize
            if (hwcap >> 32) & ~ISA_LEVEL_MASK == HWCAP_EXTENSION:
                index, names = hwcap & 0xFFFFFFFF, self._hwcap_names
                if index >= len(names) or names[index] not in hwcaps():
                    continue
                rank = list(hwcaps()).index(names[index])
            elif hwcap:
                continue  # a legacy hardware directory, which no loader since 2.37 takes
            if best is None or rank < best[0]:
                best = (rank, self._text(value))
        return best and best[1]
