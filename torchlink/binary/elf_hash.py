"""The two hash tables through which a loader finds a symbol by name: DT_GNU_HASH and DT_HASH."""

from __future__ import annotations

from array import array
from functools import lru_cache
from itertools import accumulate, repeat
from typing import TYPE_CHECKING

from torchlink.binary.data import LazyNumbers
from torchlink.binary.elf_dynamic import DT_GNU_HASH, DT_HASH
from torchlink.binary.elf_layout import MOST_SYMBOLS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torchlink.binary.elf_layout import Image, Wanted

MASK = 0xFFFFFFFF
LONGEST_NUMERAL = 512  # bytes of a name; the few longer ones are hashed byte by byte
START_TIMES_POWERS = tuple(
    accumulate(repeat(33, LONGEST_NUMERAL), lambda power, _: power * 33 & MASK, initial=5381)
)
# A byte as two digits of base 33, which `int` reads: its upper five bits and its lower three.
DIGITS = b"0123456789abcdefghijklmnopqrstuv"
UPPER = bytes(DIGITS[byte >> 3] for byte in range(256))
LOWER = bytes(DIGITS[byte & 7] for byte in range(256))
MOST_BUCKETS = 1 << 22
LONGEST_CHAIN = 1 << 20  # far beyond what any linker writes; a damaged file may never end a chain
WIDE_HASH_MACHINES = frozenset({"s390x", "alpha"})  # their 64-bit DT_HASH has 64-bit words


@lru_cache(maxsize=1 << 14)
def gnu_hash(name: bytes) -> int:
    """The 32-bit hash that DT_GNU_HASH uses: 5381, then times 33 plus the next byte.

    A name is thus the digits of a number in base 33, and `int` reads those four times as fast as a loop adds them up.
    A closure of libtorch has many thousand names to hash.
    """
    length = len(name)
    if length <= LONGEST_NUMERAL:
        value = START_TIMES_POWERS[length]
        if name:
            value += 8 * int(name.translate(UPPER), 33) + int(name.translate(LOWER), 33)
        return value & MASK
    value = 5381
    for byte in name:
        value = value * 33 + byte & MASK
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
    """DT_GNU_HASH: a Bloom filter, then buckets of symbol indices, then one chained hash per symbol."""

    __slots__ = (
        "_bits",
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
        if max(self._bucket_count, self._bloom_words) > MOST_BUCKETS:
            raise image.data.malformed("its symbol hash table is implausibly large")
        self._bloom = start + 16
        self._buckets = self._bloom + self._bloom_words * image.bits // 8
        self._chains = self._buckets + 4 * self._bucket_count
        self._bits = image.bits
        self._filter: array[int] | None = None

    def sift(self, wanted: Iterable[Wanted]) -> list[Wanted]:
        """Return those that the Bloom filter does not rule out."""
        words = self._read_filter()
        bits, shift, count = self._bits, self._shift, len(words)
        return [
            each
            for each in wanted
            if words[(hashed := each[0]) // bits % count] >> hashed % bits
            & words[hashed // bits % count] >> (hashed >> shift) % bits
            & 1
        ]

    def find(self, wanted: Iterable[Wanted], count: int | None) -> list[tuple[Wanted, int]]:
        """Return what `sift` let pass, each with the index of every symbol that has the same hash.

        Args:
            wanted: what is looked for.
            count: how many symbols the file has, for many names: the tables are then read as a whole. None for few.
        """
        found: list[tuple[Wanted, int]] = []
        first, bucket_count = self.first, self._bucket_count
        if not bucket_count:
            return found
        buckets: array[int] | LazyNumbers
        chains: array[int] | LazyNumbers
        if count is None:
            data, word = self._image.data, self._image.layout.word
            buckets, chains = LazyNumbers(data, self._buckets, word), LazyNumbers(data, self._chains, word)
            end = MOST_SYMBOLS
        else:
            end = max(count - first, 0)
            buckets, chains = self._read_buckets(), self._numbers("I", self._chains, 4 * end)
        for each in wanted:
            hashed = each[0]
            position = buckets[hashed % bucket_count] - first
            while 0 <= position < end:
                stored = chains[position]
                if stored ^ hashed < 2:  # the lowest bit marks the end of a chain
                    found.append((each, first + position))
                if stored & 1:
                    break
                position += 1
            else:
                if position >= end:
                    raise self._image.data.malformed("a chain of its symbol hash table has no end")
        return found

    @property
    def covers_symbols(self) -> bool:
        """Whether any symbol is hashed; an empty table's `first` says nothing."""
        return any(self._read_buckets())

    def count(self) -> int | None:
        """Return the number of symbols, or None when no symbol is hashed (the table does not say then)."""
        data, layout = self._image.data, self._image.layout
        index = max(self._read_buckets(), default=0)
        if index < self.first or not index:
            return None
        for number in range(index, index + LONGEST_CHAIN):
            if data.unpack(layout.word, self._chains + (number - self.first) * 4)[0] & 1:
                return number + 1
        raise data.malformed("a chain of its symbol hash table has no end")

    def _read_filter(self) -> array[int]:
        if self._filter is None:
            size = self._bits // 8
            words = self._numbers("Q" if size == 8 else "I", self._bloom, self._bloom_words * size)
            self._filter = words or array("Q", (0,))  # an empty filter lets nothing pass
        return self._filter

    def _read_buckets(self) -> array[int]:
        return self._numbers("I", self._buckets, 4 * self._bucket_count)

    def _numbers(self, kind: str, offset: int, size: int) -> array[int]:
        return self._image.data.numbers(kind, offset, size, self._image.byteorder)


class SysvTable:
    """DT_HASH: buckets and chains of symbol indices."""

    __slots__ = ("_bucket_count", "_chain_count", "_image", "_start", "_word")

    def __init__(self, image: Image, address: int) -> None:
        self._image = image
        self._start, _ = image.locate(address)
        self._word = image.layout.address if image.machine in WIDE_HASH_MACHINES else image.layout.word
        self._bucket_count, self._chain_count = self._entry(0), self._entry(1)
        if (2 + self._bucket_count + self._chain_count) * self._word.size > image.data.size:
            raise image.data.malformed("its symbol hash table is larger than the file")

    def sift(self, wanted: list[Wanted]) -> list[Wanted]:
        """Return all: DT_HASH has no filter."""
        return wanted

    def find(self, wanted: Iterable[Wanted], count: int | None) -> list[tuple[Wanted, int]]:
        """Return what is looked for, each with the index of every symbol in its bucket."""
        del count  # the table has its own
        return [(each, number) for each in wanted for number in self._chain(each[1])]

    def count(self) -> int | None:
        """Return the number of symbols."""
        return self._chain_count

    def _chain(self, name: bytes) -> Iterator[int]:
        if not self._bucket_count:
            return
        index = self._entry(2 + sysv_hash(name) % self._bucket_count)
        seen = 0
        while index:
            if index >= self._chain_count or seen >= min(self._chain_count, LONGEST_CHAIN):
                raise self._image.data.malformed("a chain of its symbol hash table has no end")
            seen += 1
            yield index
            index = self._entry(2 + self._bucket_count + index)

    def _entry(self, number: int) -> int:
        value: int = self._image.data.unpack(self._word, self._start + number * self._word.size)[0]
        return value


def hash_table(image: Image, tags: Mapping[int, int]) -> GnuTable | SysvTable | None:
    """Return the table that the loader would use, or None if only a walk over all symbols finds one."""
    if DT_GNU_HASH in tags:
        return GnuTable(image, tags[DT_GNU_HASH])
    if DT_HASH in tags:
        return SysvTable(image, tags[DT_HASH])
    return None
