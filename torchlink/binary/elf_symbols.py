"""An ELF file's dynamic symbols: one by name through the hash table, or all of them."""

from __future__ import annotations

import sys
from array import array
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torchlink.binary.elf_dynamic import (
    DT_GNU_HASH,
    DT_HASH,
    DT_STRSZ,
    DT_STRTAB,
    DT_SYMENT,
    DT_SYMTAB,
    DT_VERDEF,
    DT_VERNEED,
    DT_VERSYM,
)
from torchlink.binary.elf_hash import GnuTable, gnu_hash, hash_table
from torchlink.binary.elf_layout import PT_INTERP, SHT_DYNSYM
from torchlink.binary.elf_records import BINDINGS, KINDS, VISIBILITIES, Reference, Symbol
from torchlink.binary.elf_versions import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torchlink.binary.elf_dynamic import Dynamic
    from torchlink.binary.elf_hash import SysvTable
    from torchlink.binary.elf_image import Image
    from torchlink.binary.elf_versions import Versions

NO_VERSION: tuple[None, None] = (None, None)
LOCAL, WEAK = 0, 2  # symbol bindings
OVERLAP = "its symbol names overlap without measure"
CHUNK = 1 << 12  # symbols read at once
MANY = 500  # references that are worth reading the whole table of a library for
FIRST_VERSION = 2  # indices 0 and 1 stand for no version; the first one serves references without version


class SymbolTable:
    """The dynamic symbol table of one file; nothing of it is read before it is asked for."""

    def __init__(self, image: Image, dynamic: Dynamic, versions: Versions) -> None:
        self._image = image
        self._tags = dynamic.tags
        self._versions = versions

    @cached_property
    def _hash(self) -> GnuTable | SysvTable | None:
        return hash_table(self._image, self._tags)

    @cached_property
    def _start(self) -> int | None:
        """File offset of the table, or None in a file without one."""
        if DT_SYMTAB not in self._tags:
            return None
        size = self._tags.get(DT_SYMENT, self._image.layout.symbol.size)
        if size != self._image.layout.symbol.size:
            raise self._image.data.malformed(f"its symbols are {size} bytes long")
        return self._image.locate(self._tags[DT_SYMTAB])[0]

    @cached_property
    def _strings(self) -> tuple[int, int]:
        start, end = self._image.locate(self._tags.get(DT_STRTAB, 0))
        return start, min(end, start + self._tags.get(DT_STRSZ, end))

    @cached_property
    def count(self) -> int:
        """How many symbols there are, the empty first one included."""
        if self._start is None:
            return 0
        counted = self._hash.count() if self._hash is not None else None
        if counted is None:
            counted = self._count_from_sections()
        if counted is None:
            counted = self._count_from_neighbour()
        if self._start + counted * self._image.layout.symbol.size > self._image.data.size:
            raise self._image.data.malformed(f"it claims {counted} symbols, more than it can hold")
        return counted

    @cached_property
    def _records(self) -> tuple[array[int], array[int]]:
        """Of every symbol where its name begins, and the word that holds its section and its binding."""
        return self._read_records(self.count)

    def _read_records(self, count: int) -> tuple[array[int], array[int]]:
        """The first of them; the cost is the same for each."""
        if self._start is None:
            return array("I"), array("I")
        size = self._image.layout.symbol.size
        words = array("I", self._image.data.take(self._start, count * size))
        if self._image.byteorder != sys.byteorder:
            words.byteswap()
        step = size // words.itemsize
        return words[::step], words[1 if self._image.bits == 64 else 3 :: step]

    @property
    def _section_bits(self) -> int:
        """Where the second word of `_records` has the section: 0 there means undefined."""
        return 0xFFFF0000 if self._image.byteorder == "little" else 0xFFFF

    @property
    def _binding_shift(self) -> int:
        """How far the binding stands to the left in the second word of `_records`."""
        return 4 if self._image.byteorder == "little" else 28

    def _count_from_sections(self) -> int | None:
        offset, count = self._image.section_table
        shape = self._image.layout.section
        for number in range(count):
            position = offset + number * shape.size
            if not offset or position + shape.size > self._image.data.size:
                return None
            _, kind, _, address, _, size, *_ = self._image.data.unpack(shape, position)
            if kind == SHT_DYNSYM and address == self._tags[DT_SYMTAB]:
                return int(size) // self._image.layout.symbol.size
        return None

    def _count_from_neighbour(self) -> int:
        """Without a hashed symbol and without sections: up to the next table, which linkers put behind."""
        start = self._tags[DT_SYMTAB]
        neighbours = (DT_STRTAB, DT_VERSYM, DT_VERNEED, DT_VERDEF, DT_GNU_HASH, DT_HASH)
        behind = [self._tags[tag] for tag in neighbours if self._tags.get(tag, 0) > start]
        return (min(behind) - start) // self._image.layout.symbol.size if behind else 0

    def at(self, index: int) -> Symbol:
        """The symbol with this index."""
        start = self._start
        if start is None:
            raise self._image.data.malformed("a relocation names a symbol, but there is no symbol table")
        shape = self._image.layout.symbol
        fields = self._image.data.unpack(shape, start + index * shape.size)
        strings, end = self._strings
        name = self._image.data.string(strings + fields[0], end)
        return self._symbol(index, name, fields, self._versions.index_of(index))

    def _symbol(self, number: int, name: str, fields: tuple[Any, ...], raw: int | None) -> Symbol:
        """A symbol from its record and its raw version index."""
        if self._image.bits == 64:
            _, info, other, section, value, size = fields
        else:
            _, value, size, info, other, section = fields
        version, library = NO_VERSION if raw is None else self._versions.names.get(raw & ~HIDDEN, NO_VERSION)
        return Symbol(
            name,
            number,
            section != 0,
            BINDINGS.get(info >> 4) or f"binding-{info >> 4}",
            KINDS.get(info & 15) or f"kind-{info & 15}",
            VISIBILITIES[other & 3],
            value,
            size,
            version,
            library,
            raw is not None and raw >= HIDDEN,
        )

    def references(self, numbers: Iterable[int] | None, *, copies: frozenset[int]) -> Iterator[Reference]:
        """The undefined symbols among these, and the copied ones; None for all of the table.

        The symbols that DT_GNU_HASH does not cover come first in the table. Outside programs, which may hold
        a function's address in place of its definition, only those can be undefined.
        """
        if self._start is None:
            return
        places, infos = self._records
        section_bits, shift = self._section_bits, self._binding_shift
        (strings, end), buffer = self._strings, self._image.data.buffer
        find = buffer.find
        versions, known_versions = self._versions.indices(self.undefined_end), self._versions.names
        version: tuple[str | None, str | None] = NO_VERSION
        for number in range(1, self.undefined_end) if numbers is None else numbers:
            info = infos[number]
            if not info & section_bits or number in copies:
                if versions:
                    version = known_versions.get(versions[number] & ~HIDDEN, NO_VERSION)
                begin = strings + places[number]
                stop = find(b"\0", begin, end)
                if stop < 0:
                    raise self._image.data.malformed(f"the string at byte {begin} has no end")
                weak = info >> shift & 15 == WEAK
                yield Reference(buffer[begin:stop], number, *version, weak, number in copies)

    @cached_property
    def undefined_end(self) -> int:
        """From this number on no symbol is undefined; in a program, the number of symbols."""
        program = self._image.type != "dyn" or self._image.segment(PT_INTERP) is not None
        if not program and isinstance(self._hash, GnuTable) and self._hash.covers_symbols:
            return min(int(self._hash.first), self.count)
        return self.count

    def names(self, numbers: Iterable[int]) -> list[bytes]:
        """The mangled names of the symbols with these numbers."""
        if self._start is None:
            return []
        places, _ = self._records
        return self._texts(places[number] for number in numbers)

    def undefined_names(self) -> list[bytes]:
        """The mangled names of the undefined symbols, and of the others too where the table mixes them.

        A table that does not is read that far only: a thousand symbols of libtorch_cpu's hundred thousand.
        """
        if self._start is None or not isinstance(self._hash, GnuTable) or not self._hash.covers_symbols:
            return self.names(range(1, self.count))
        return self._texts(self._read_records(self._hash.first)[0][1:])

    def _texts(self, places: Iterable[int]) -> list[bytes]:
        """The strings that begin at these places of the string table."""
        (strings, end), buffer = self._strings, self._image.data.buffer
        find = buffer.find
        allowed = self._most_text()
        names = []
        for place in places:
            begin = strings + place
            stop = find(b"\0", begin, end)
            allowed += begin - stop
            if stop < 0 or allowed < 0:
                raise self._image.data.malformed(
                    OVERLAP if stop > 0 else f"the string at byte {begin} has no end"
                )
            names.append(buffer[begin:stop])
        return names

    def _most_text(self) -> int:
        """How long all names may be together: strings may share their tails, but not without measure."""
        strings, end = self._strings
        return 4 * (end - strings) + 4096

    def exports(self) -> frozenset[bytes]:
        """The mangled names that a look-up may find here."""
        first = self._hash.first if isinstance(self._hash, GnuTable) and self._hash.covers_symbols else 1
        return frozenset(self.names(range(first, self.count)))

    def provides(self, name: bytes, hashed: int, version: str | None) -> bool:
        """Whether a reference to `name` would bind here.

        Args:
            name: mangled name.
            hashed: its GNU hash; a file without a table of those does not look at it.
            version: what the reference asks for. Without one, hidden definitions do not serve; with one, a
                definition without version does (glibc's `check_match`).
        """
        table = self._hash
        if table is None or not table.may_hold(hashed):
            return False
        return any(
            section != 0
            and info >> 4 != LOCAL
            and self._version_fits(self._versions.index_of(number), version)
            for number, section, info in self._named(name, hashed)
        )

    def unserved(self, references: Sequence[Reference]) -> list[Reference]:
        """Those that would not bind here: `provides` for all; for many at a third of its cost."""
        table = self._hash
        if not isinstance(table, GnuTable) or len(references) < MANY:
            return [
                each for each in references if not self.provides(each.name, gnu_hash(each.name), each.version)
            ]
        places, infos = self._records
        (strings, end), buffer = self._strings, self._image.data.buffer
        section_bits, shift = self._section_bits, self._binding_shift
        versions = self._version_indices
        left: list[Reference] = []
        found = table.find_all([gnu_hash(each.name) for each in references], self.count)
        for each, numbers in zip(references, found, strict=True):
            for number in numbers:
                begin, info = strings + places[number], infos[number]
                stop = begin + len(each.name)
                if (
                    stop < end
                    and buffer[begin:stop] == each.name
                    and not buffer[stop]
                    and info & section_bits
                    and info >> shift & 15 != LOCAL
                    and (versions is None or self._version_fits(versions[number], each.version))
                ):
                    break
            else:
                left.append(each)
        return left

    @cached_property
    def _version_indices(self) -> array[int] | None:
        return self._versions.indices(self.count)

    def _version_fits(self, raw: int | None, version: str | None) -> bool:
        """Whether a definition with this raw version index serves a reference that asks for this version."""
        if raw is None:
            return True
        index = raw & ~HIDDEN
        if version is None:
            return not raw & HIDDEN or index <= FIRST_VERSION
        known = self._versions.names.get(index)
        return known[0] == version if known is not None else not raw & HIDDEN

    def all(self) -> Iterator[Symbol]:
        """Every symbol but the empty first one."""
        if self._start is None:
            return
        data = self._image.data
        strings, end = self._strings
        versions = self._version_indices
        allowed = self._most_text()
        shape, count = self._image.layout.symbol, self.count
        for first in range(1, count, CHUNK):
            table = data.take(self._start + first * shape.size, min(CHUNK, count - first) * shape.size)
            for number, fields in enumerate(shape.iter_unpack(table), first):
                name = data.string(strings + fields[0], end)
                allowed -= len(name)
                if allowed < 0:
                    raise data.malformed(OVERLAP)
                yield self._symbol(number, name, fields, versions[number] if versions else None)

    def matching(self, name: str) -> Iterator[Symbol]:
        """Definitions of `name`, one a version."""
        for number, section, info in self._named(name.encode("utf-8", "surrogateescape"), None):
            if section != 0 and info >> 4 != LOCAL:
                yield self.at(number)

    def _named(self, name: bytes, hashed: int | None) -> list[tuple[int, int, int]]:
        """(number, section, info) of every symbol with this name that the hash table leads to."""
        found: list[tuple[int, int, int]] = []
        start = self._start
        if start is None:
            return found
        data, shape = self._image.data, self._image.layout.symbol
        wide = self._image.bits == 64
        strings, end = self._strings
        terminated = name + b"\0"
        size = len(terminated)
        for number in range(1, self.count) if self._hash is None else self._hash.candidates(name, hashed):
            fields = data.unpack(shape, start + number * shape.size)
            begin = strings + fields[0]
            if begin + size <= end and data.buffer[begin : begin + size] == terminated:
                found.append((number, fields[3], fields[1]) if wide else (number, fields[5], fields[3]))
        return found
