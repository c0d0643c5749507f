"""An ELF file's dynamic symbols: looked up by name through the hash table, or read as columns.

`Columns` reads two fields of many symbols at once. `SymbolTable` answers everything else.
"""

from __future__ import annotations

from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from torchlink.binary.data import LazyBytes, LazyNumbers
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
from torchlink.binary.elf_layout import (
    BINDINGS,
    KINDS,
    MOST_SYMBOLS,
    PT_INTERP,
    SHT_DYNSYM,
    VISIBILITIES,
    Definition,
    Reference,
    Symbol,
    Wanted,
)
from torchlink.binary.elf_versions import HIDDEN

if TYPE_CHECKING:
    import re
    from array import array
    from collections.abc import Iterable, Iterator

    from torchlink.binary.elf_dynamic import Dynamic
    from torchlink.binary.elf_hash import SysvTable
    from torchlink.binary.elf_layout import Image
    from torchlink.binary.elf_versions import Versions


LOCAL, GLOBAL, WEAK = 0, 1, 2  # symbol bindings
OVERLAP = "its symbol names overlap far more than any linker makes them"
NO_VERSION: tuple[None, None] = (None, None)
CHUNK = 1 << 12  # symbols read at once
# From this many names on, a look-up reads whole tables rather than single entries. Checking libtorch_python.so's 5,600
# undefined names takes 23 ms; 42 ms with single entries alone, 38 ms with whole tables alone, which also slow a single
# look-up in libtorch_cpu.so from 0.3 ms to 3.4 ms.
MANY = 100
FIRST_VERSION = 2  # indices 0 and 1 mean no version; references without a version bind to the first one


class Columns:
    """The symbol table by column: where each name begins, and the word that holds its binding and section.

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
        """Return the name offsets, and the words with binding and section, of the symbols from `first` up to `end`."""
        size = self._image.layout.symbol.size
        bytes_ = max(end - first, 0) * size
        words = self._image.data.numbers("I", self._start + first * size, bytes_, self._image.byteorder)
        step = size // words.itemsize
        return words[::step], words[1 if self._image.bits == 64 else 3 :: step]

    def texts(self, places: Iterable[int]) -> list[bytes]:
        """Return the strings that begin at these offsets of the string table."""
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
    """Return the limit on the total length of a table's names: they may share tails, but not arbitrarily often."""
    return 4 * (end - start) + 4096


class SymbolTable:
    """The dynamic symbol table of one file; each part is read when it is first needed."""

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
        size = self._image.data.size
        if counted > MOST_SYMBOLS or self._start + counted * self._image.layout.symbol.size > size:
            raise self._image.data.malformed(f"it claims {counted} symbols, more than it can hold")
        return counted

    @cached_property
    def _columns(self) -> Columns:
        return Columns(self._image, self._start or 0, self._strings)

    @cached_property
    def _undefined(self) -> tuple[array[int], array[int]]:
        """The columns of the symbols up to `undefined_end`."""
        return self._columns.read(0, self.undefined_end)

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
        """Count up to the next table, which linkers place right after: for files with neither hashes nor sections."""
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
        versions = self._versions.lazy_indices()
        return self._symbol(index, name, fields, versions[index] if versions else None)

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
        """Yield the undefined symbols among these, and the copied ones; None for the whole table.

        The symbols that DT_GNU_HASH does not cover come first in the table. Outside programs, which may hold
        a function's address in place of its definition, only those can be undefined.
        """
        if self._start is None:
            return
        places, infos = self._undefined
        section, binding, weak = self._columns.section, self._columns.binding, WEAK << self._columns.shift
        buffer, base = self._image.data.window(*self._strings)
        strings, end = (place - base for place in self._strings)
        find = buffer.find
        versions, known_versions = self._undefined_versions, self._versions.names
        version: tuple[str | None, str | None] = NO_VERSION
        for number in range(1, len(places)) if numbers is None else numbers:
            info = infos[number]
            if not info & section or number in copies:
                if versions:
                    version = known_versions.get(versions[number] & ~HIDDEN, NO_VERSION)
                begin = strings + places[number]
                stop = find(b"\0", begin, end)
                if stop < 0:
                    raise self._image.data.malformed(f"the string at byte {begin + base} has no end")
                yield Reference(
                    buffer[begin:stop], number, *version, info & binding == weak, number in copies
                )

    def strong(self) -> list[Wanted]:
        """Return the undefined symbols that are not weak, whether or not a relocation names them."""
        if self._start is None:
            return []
        places, infos = self._undefined
        section, binding, weak = self._columns.section, self._columns.binding, WEAK << self._columns.shift
        numbers = [
            number
            for number, info in enumerate(infos[1:], 1)
            if not info & section and info & binding != weak
        ]
        names = self._columns.texts([places[number] for number in numbers])
        versions, known = self._undefined_versions, self._versions.names
        asked: list[str | None] = [None] * len(numbers)
        if versions:
            asked = [known.get(versions[number] & ~HIDDEN, NO_VERSION)[0] for number in numbers]
        return list(zip(map(gnu_hash, names), names, asked, numbers, strict=True))

    @cached_property
    def undefined_end(self) -> int:
        """The index from which on no symbol is undefined; in a program, the number of symbols."""
        program = self._image.type != "dyn" or self._image.segment(PT_INTERP) is not None
        if not program and isinstance(self._hash, GnuTable) and self._hash.covers_symbols:
            return min(int(self._hash.first), self.count)
        return self.count

    def names(self, numbers: Iterable[int]) -> list[bytes]:
        """The mangled names of the symbols with these numbers, which are below `undefined_end`."""
        places, _ = self._undefined
        return self._columns.texts([places[number] for number in numbers])

    def undefined_names(self) -> list[bytes]:
        """The mangled names of the undefined symbols: the first thousand of libtorch_cpu's hundred thousand."""
        if self._start is None:
            return []
        section = self._columns.section
        places, infos = self._undefined
        pairs = zip(places[1:], infos[1:], strict=True)
        return self._columns.texts([place for place, info in pairs if not info & section])

    def exports(self) -> frozenset[bytes]:
        """Return the mangled names that a look-up can find here."""
        if self._start is None:
            return frozenset()
        first = self._hash.first if isinstance(self._hash, GnuTable) and self._hash.covers_symbols else 1
        return frozenset(self._columns.texts(self._columns.read(first, self.count)[0]))

    def named_like(self, pattern: re.Pattern[bytes], most: int) -> list[bytes]:
        """Return up to `most` names in the string table that match, whether they are of definitions or references."""
        if self._start is None:
            return []
        buffer, base = self._image.data.window(*self._strings)
        start, end = (place - base for place in self._strings)
        names = (found[0] for found in pattern.finditer(buffer, start, end))
        return list(islice(dict.fromkeys(names), most))

    def definitions(self, numbers: Iterable[int] | None, *, preemptible: bool) -> list[Definition]:
        """The definitions among the symbols with these numbers; None for all that a look-up may find here.

        Args:
            numbers: indices in the table, or None.
            preemptible: only those to which the file's own references may bind elsewhere: of default visibility.
        """
        if self._start is None:
            return []
        if numbers is None:
            first = self._hash.first if isinstance(self._hash, GnuTable) and self._hash.covers_symbols else 1
            numbers = range(first, self.count)
        columns, versions, known = self._columns, self._versions.indices(self.count), self._versions.names
        places, infos = columns.read(0, self.count)
        section, binding, shift = columns.section, columns.binding, columns.shift
        bound_here = columns.visibility if preemptible else 0
        found = [
            (number, (info & binding) >> shift)
            for number in numbers
            if (info := infos[number]) & section and info & binding and not info & bound_here
        ]
        names = columns.texts([places[number] for number, _ in found])
        return [
            Definition(
                name,
                number,
                known.get(versions[number] & ~HIDDEN, NO_VERSION)[0] if versions else None,
                bound == GLOBAL,
            )
            for name, (number, bound) in zip(names, found, strict=True)
        ]

    def provides(self, name: bytes, hashed: int, version: str | None) -> bool:
        """Whether a reference to `name` would bind here.

        Args:
            name: mangled name.
            hashed: its GNU hash; a file without a table of those does not look at it.
            version: what the reference asks for. Without one, hidden definitions do not match; with one, a
                definition without a version does (glibc's `check_match`).
        """
        return not self.unresolved([(hashed, name, version, 0)])

    def likely(self, wanted: list[Wanted]) -> list[Wanted]:
        """Return those that the hash table's filter does not rule out."""
        return self._hash.sift(wanted) if self._hash is not None else []

    def unresolved(self, wanted: list[Wanted]) -> list[Wanted]:
        """Return those that would not bind here."""
        bound = {each[3] for each, _ in self._find(self.likely(wanted), any_version=False)}
        return [each for each in wanted if each[3] not in bound] if bound else wanted

    @cached_property
    def _undefined_versions(self) -> array[int] | None:
        return self._versions.indices(self.undefined_end)

    def _version_fits(self, raw: int, version: str | None) -> bool:
        """Whether a reference that asks for this version binds to a definition with this raw version index."""
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
        versions = self._versions.indices(self.count)
        allowed = most_text(strings, end)
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
        """Definitions of `name`, one per version."""
        mangled = name.encode("utf-8", "surrogateescape")
        wanted: list[Wanted] = [(gnu_hash(mangled), mangled, None, 0)]
        likely = wanted if self._hash is None else self._hash.sift(wanted)
        return (self.at(number) for _, number in self._find(likely, any_version=True))

    def _find(self, wanted: list[Wanted], *, any_version: bool) -> list[tuple[Wanted, int]]:
        """Look up symbols by name.

        Looking up one name and thousands differs only in the view of the tables: single entries
        or the whole.

        Args:
            wanted: what to look up; where there is a hash table, what its filter lets pass.
            any_version: accept definitions in versions other than the one wanted.

        Returns:
            Each symbol that is defined here for others, with its index.
        """
        found: list[tuple[Wanted, int]] = []
        start = self._start
        if start is None or not wanted:
            return found
        image, shape, (strings, end) = self._image, self._image.layout.symbol, self._strings
        table: bytes | LazyBytes
        names: bytes | LazyBytes
        versions: array[int] | LazyNumbers | None
        count = self.count if len(wanted) >= MANY else None
        if count is None:
            table, names, base = LazyBytes(image.data, start), LazyBytes(image.data, 0), strings
            versions = self._versions.lazy_indices()
        else:
            table = image.data.take(start, count * shape.size)
            names, first = image.data.window(strings, end)
            base, end = strings - first, end - first
            versions = self._versions.indices(count)
        if any_version:
            versions = None
        info, section = (1, 3) if image.bits == 64 else (3, 5)
        size, unpack, fits = shape.size, shape.unpack, self._version_fits
        for each, number in self._candidates(wanted, count):
            fields = unpack(table[number * size : (number + 1) * size])
            begin = base + fields[0]
            stop = begin + len(each[1])
            if (
                stop < end
                and names[begin : stop + 1] == each[1] + b"\0"
                and fields[section]
                and fields[info] >> 4 != LOCAL
                and (versions is None or fits(versions[number], each[2]))
            ):
                found.append((each, number))
        return found

    def _candidates(self, wanted: list[Wanted], count: int | None) -> Iterable[tuple[Wanted, int]]:
        """Each of these with the indices of the symbols that may have its name."""
        if self._hash is None:
            return ((each, number) for each in wanted for number in range(1, self.count))
        return self._hash.find(wanted, count)
