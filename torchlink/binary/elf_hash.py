"""The two hash tables through which a loader finds a symbol by name: DT_GNU_HASH and DT_HASH."""

from __future__ import annotations

from array import array
from functools import lru_cache
from itertools import accumulate, repeat
from typing import TYPE_CHECKING

from torchlink.binary.elf_dynamic import DT_GNU_HASH, DT_HASH

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torchlink.binary.elf_layout import Image, Wanted

MASK = 0xFFFFFFFF
LONGEST_NUMERAL = 512  # bytes of a name; the few longer ones take the slow way
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

    A name is thus the digits of a number in base 33, and reading numbers is what Python does fast: four times
    as fast as a sum, where a closure of libtorch has many thousand names to hash.
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
    """DT_GNU_HASH: a Bloom filter, then buckets of symbol indices, then one chained hash a symbol."""

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
            raise image.data.malformed("its symbol hash table is larger than any")
        self._bloom = start + 16
        self._buckets = self._bloom + self._bloom_words * image.bits // 8
        self._chains = self._buckets + 4 * self._bucket_count
        self._bits = image.bits
        self._filter: array[int] | None = None

    def may_hold(self, hashed: int) -> bool:
        """What the Bloom filter says of a hash; reads the filter as a whole, for callers with many names."""
        words = self._filter or self._read_filter()
        bits = self._bits
        word: int = words[hashed // bits % len(words)]
        return bool(word >> hashed % bits & word >> (hashed >> self._shift) % bits & 1)

    def _read_filter(self) -> array[int]:
        size = self._bits // 8
        words = self._numbers("Q" if size == 8 else "I", self._bloom, self._bloom_words * size)
        self._filter = words or array("Q", (0,))  # an empty filter lets nothing pass
        return self._filter

    def _numbers(self, kind: str, offset: int, size: int) -> array[int]:
        return self._image.data.numbers(kind, offset, size, self._image.byteorder)

    def candidates(self, name: bytes, hashed: int | None = None) -> list[int]:
        """Indices of symbols whose hash is that of `name`.

        Args:
            name: mangled name.
            hashed: its hash, where the caller has it and asked `may_hold`.
        """
        if not self._bucket_count:
            return []
        data, layout = self._image.data, self._image.layout
        if hashed is None:
            hashed = gnu_hash(name)
            if not self._passes_filter(hashed):
                return []
        (index,) = data.unpack(layout.word, self._buckets + hashed % self._bucket_count * 4)
        found: list[int] = []
        if index < self.first:
            return found
        wanted = hashed | 1
        for number in range(index, index + LONGEST_CHAIN):
            (stored,) = data.unpack(layout.word, self._chains + (number - self.first) * 4)
            if stored | 1 == wanted:
                found.append(number)
            if stored & 1:
                return found
        raise data.malformed("a chain of its symbol hash table has no end")

    def filter_paths(self, wanted: Iterable[Wanted]) -> list[Wanted]:
        """`may_hold` for many."""
        words = self._filter or self._read_filter()
        bits, shift, count = self._bits, self._shift, len(words)
        return [
            each
            for each in wanted
            if words[(hashed := each[0]) // bits % count] >> hashed % bits
            & words[hashed // bits % count] >> (hashed >> shift) % bits
            & 1
        ]

    def find_all(self, wanted: Iterable[Wanted], count: int) -> list[tuple[Wanted, int]]:
        """`candidates` for many that `sift` let pass, each beside what it is a candidate for.

        The tables are read as a whole, which takes a tenth of the time.

        Args:
            wanted: what is looked for.
            count: how many symbols the file has.
        """
        buckets = self._bucket_words()
        chains = self._numbers("I", self._chains, 4 * max(count - self.first, 0))
        first, end, bucket_count = self.first, len(chains), len(buckets) or 1
        found: list[tuple[Wanted, int]] = []
        for each in wanted if buckets else ():
            hashed = each[0]
            position = buckets[hashed % bucket_count] - first
            while 0 <= position < end:
                stored = chains[position]
                if stored ^ hashed < 2:  # the lowest bit marks the end of a chain
                    found.append((each, first + position))
                if stored & 1:
                    break
                position += 1
        return found

    def _passes_filter(self, hashed: int) -> bool:
        """What the Bloom filter says, by reading one word of it."""
        bits = self._bits
        if not self._bloom_words:
            return False
        position = self._bloom + hashed // bits % self._bloom_words * (bits // 8)
        (word,) = self._image.data.unpack(self._image.layout.address, position)
        return bool(word >> hashed % bits & word >> (hashed >> self._shift) % bits & 1)

    @property
    def covers_symbols(self) -> bool:
        """Whether any symbol is hashed; an empty table's `first` says nothing."""
        return any(self._bucket_words())

    def _bucket_words(self) -> array[int]:
        return self._numbers("I", self._buckets, 4 * self._bucket_count)

    def count(self) -> int | None:
        """How many symbols there are, or None when no symbol is hashed (the table does not say then)."""
        data, layout = self._image.data, self._image.layout
        index = max(self._bucket_words(), default=0)
        if index < self.first or not index:
            return None
        for number in range(index, index + LONGEST_CHAIN):
            if data.unpack(layout.word, self._chains + (number - self.first) * 4)[0] & 1:
                return number + 1
        raise data.malformed("a chain of its symbol hash table has no end")


class SysvTable:
    """DT_HASH: buckets and chains of symbol indices."""

    __slots__ = ("_bucket_count", "_chain_count", "_image", "_start", "_word")

    def __init__(self, image: Image, address: int) -> None:
        self._image = image
        self._start, _ = image.locate(address)
        self._word = image.layout.address if image.machine in WIDE_HASH_MACHINES else image.layout.word
        self._bucket_count, self._chain_count = self._entry(0), self._entry(1)
        if (2 + self._bucket_count + self._chain_count) * self._word.size > image.data.size:
            raise image.data.malformed("its symbol hash table is larger than itself")

    def _entry(self, number: int) -> int:
        value: int = self._image.data.unpack(self._word, self._start + number * self._word.size)[0]
        return value

    def candidates(self, name: bytes, hashed: int | None = None) -> list[int]:
        """Indices of the symbols in the bucket of `name`; `hashed` is of the other table and not used."""
        del hashed
        found: list[int] = []
        if not self._bucket_count:
            return found
        index = self._entry(2 + sysv_hash(name) % self._bucket_count)
        while index:
            if index >= self._chain_count or len(found) >= min(self._chain_count, LONGEST_CHAIN):
                raise self._image.data.malformed("a chain of its symbol hash table has no end")
            found.append(index)
            index = self._entry(2 + self._bucket_count + index)
        return found

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
