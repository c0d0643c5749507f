"""The two hash tables through which a loader finds a symbol by name: DT_GNU_HASH and DT_HASH."""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING

from torchlink.binary.elf_dynamic import DT_GNU_HASH, DT_HASH

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torchlink.binary.elf_image import Image

WIDE_HASH_MACHINES = frozenset({"s390x", "alpha"})  # their 64-bit DT_HASH has 64-bit words


def gnu_hash(name: bytes) -> int:
    """The 32-bit hash that DT_GNU_HASH uses."""
    value = 5381
    for byte in name:
        value = value * 33 + byte & 0xFFFFFFFF
    return value


def sysv_hash(name: bytes) -> int:
    """The hash that DT_HASH and the version records use."""
    value = 0
    for byte in name:
        value = (value << 4) + byte
        value ^= (value >> 24) & 0xF0
        value &= 0x0FFFFFFF
    return value


class GnuTable:
    """DT_GNU_HASH: a Bloom filter, then buckets of symbol indices, then one chained hash a symbol."""

    __slots__ = (
        "_bloom",
        "_bloom_words",
        "_bucket_count",
        "_buckets",
        "_chains",
        "_filter",
        "_image",
        "_shift",
        "first",
    )

    def __init__(self, image: Image, address: int) -> None:
        self._image = image
        start, _ = image.locate(address)
        word = image.layout.word
        self._bucket_count, self.first, self._bloom_words, self._shift = (
            image.data.unpack(word, start + 4 * number)[0] for number in range(4)
        )
        self._bloom = start + 16
        self._buckets = self._bloom + self._bloom_words * image.bits // 8
        self._chains = self._buckets + 4 * self._bucket_count
        self._filter: array[int] | None = None

    def may_hold(self, hashed: int) -> bool:
        """What the Bloom filter says of a hash; reads the filter as a whole, for callers with many names."""
        words = self._filter
        if words is None:
            layout = self._image.layout
            size = layout.bits // 8
            words = array(
                "Q" if size == 8 else "I", self._image.data.take(self._bloom, self._bloom_words * size)
            )
            if layout.byteorder != sys.byteorder:
                words.byteswap()
            self._filter = words
        if not words:
            return False
        bits = self._image.layout.bits
        word = words[hashed // bits % len(words)]
        return bool(word >> hashed % bits & word >> (hashed >> self._shift) % bits & 1)

    def candidates(self, name: bytes, hashed: int | None = None) -> Iterator[int]:
        """Indices of symbols whose hash is that of `name` (`hashed`, where the caller has it already)."""
        if not self._bucket_count or not self._bloom_words:
            return
        hashed = gnu_hash(name) if hashed is None else hashed
        data, layout = self._image.data, self._image.layout
        bits, width = layout.bits, layout.bits // 8
        (filtered,) = data.unpack(layout.address, self._bloom + (hashed // bits) % self._bloom_words * width)
        if not filtered >> (hashed % bits) & filtered >> ((hashed >> self._shift) % bits) & 1:
            return
        (index,) = data.unpack(layout.word, self._buckets + hashed % self._bucket_count * 4)
        if index < self.first:
            return
        wanted = hashed | 1
        while True:
            (stored,) = data.unpack(layout.word, self._chains + (index - self.first) * 4)
            if stored | 1 == wanted:
                yield index
            if stored & 1:
                return
            index += 1

    @property
    def covers_symbols(self) -> bool:
        """Whether any symbol is hashed; an empty table's `first` says nothing."""
        return any(self._bucket_words())

    def _bucket_words(self) -> array[int]:
        buckets = array("I", self._image.data.take(self._buckets, 4 * self._bucket_count))
        if self._image.layout.byteorder != sys.byteorder:
            buckets.byteswap()
        return buckets

    def count(self) -> int | None:
        """How many symbols there are, or None when no symbol is hashed (the table does not tell then)."""
        data, layout = self._image.data, self._image.layout
        index = max(self._bucket_words(), default=0)
        if index < self.first or not index:
            return None
        while not data.unpack(layout.word, self._chains + (index - self.first) * 4)[0] & 1:
            index += 1
        return index + 1


class SysvTable:
    """DT_HASH: buckets and chains of symbol indices."""

    __slots__ = ("_bucket_count", "_chain_count", "_image", "_start", "_word")

    def __init__(self, image: Image, address: int) -> None:
        self._image = image
        self._start, _ = image.locate(address)
        self._word = image.layout.address if image.machine in WIDE_HASH_MACHINES else image.layout.word
        self._bucket_count, self._chain_count = self._entry(0), self._entry(1)

    def _entry(self, number: int) -> int:
        value: int = self._image.data.unpack(self._word, self._start + number * self._word.size)[0]
        return value

    def candidates(self, name: bytes, hashed: int | None = None) -> Iterator[int]:
        """Indices of the symbols in the bucket of `name`; `hashed` is of the other table and not used."""
        del hashed
        if not self._bucket_count:
            return
        index = self._entry(2 + sysv_hash(name) % self._bucket_count)
        steps = 0
        while index:
            if index >= self._chain_count or steps >= self._chain_count:
                raise self._image.data.malformed("a chain of its symbol hash table has no end")
            yield index
            index = self._entry(2 + self._bucket_count + index)
            steps += 1

    def may_hold(self, hashed: int) -> bool:
        """DT_HASH has no filter: any name may be here."""
        del hashed
        return True

    def count(self) -> int | None:
        """How many symbols there are."""
        return self._chain_count


def hash_table(image: Image, tags: Mapping[int, int]) -> GnuTable | SysvTable | None:
    """The table that the loader would use, or None: then only a walk over all symbols finds one."""
    if DT_GNU_HASH in tags:
        return GnuTable(image, tags[DT_GNU_HASH])
    if DT_HASH in tags:
        return SysvTable(image, tags[DT_HASH])
    return None
