"""One ELF file, read on demand: block by block, and through its program headers.

Relocations are read only as far as they name symbols, and section headers only to search a section's bytes: a stripped
file may have none.

Why not pyelftools: before it gives the dynamic section it parses the hash table bucket by bucket, 14 ms for
libtorch_cpu.so where this takes 0.1. The tests compare the two on real files.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from torchlink.binary.elf_dynamic import (
    DT_JMPREL,
    DT_PLTREL,
    DT_PLTRELSZ,
    DT_REL,
    DT_RELA,
    DT_RELACOUNT,
    DT_RELASZ,
    DT_RELCOUNT,
    DT_RELSZ,
    Dynamic,
    read_dynamic,
)
from torchlink.binary.elf_layout import (
    MOST_SYMBOLS,
    PF_X,
    PLAIN_STACK,
    PT_GNU_STACK,
    PT_INTERP,
    PT_NOTE,
    Definition,
    Image,
    Reference,
    Symbol,
    Wanted,
)
from torchlink.binary.elf_symbols import SymbolTable
from torchlink.binary.elf_versions import VersionDefinition, VersionNeed, Versions
from torchlink.binary.reader import BinaryFile

if TYPE_CHECKING:
    import re
    from array import array
    from collections.abc import Iterable, Iterator

    from torchlink.binary.data import Data


SHT_NOBITS = 8
MOST_SECTIONS = 1 << 16
# The relocation that copies a library's variable into the program, per machine (<elf.h>).
COPY = {
    "x86_64": 5,
    "x32": 5,
    "x86": 5,
    "aarch64": 1024,
    "arm": 20,
    "ppc64le": 19,
    "ppc64": 19,
    "ppc": 19,
    "riscv64": 4,
    "riscv32": 4,
    "s390x": 9,
    "s390": 9,
    "loongarch64": 4,
}
LARGEST = 1 << 29  # bytes of a table; libtorch_cpu.so's has 8 MB
CHUNK = 1 << 20  # bytes of a table read at once, rounded to whole entries
KIND = "ELF file"
NT_GNU_BUILD_ID = 3
__all__ = ["Definition", "Dynamic", "ElfFile", "Reference", "Symbol", "VersionDefinition", "VersionNeed"]


def section_range(image: Image, name: str) -> tuple[int, int] | None:
    """Return the file offsets at which a section begins and ends; None if there is no such section.

    Raises:
        MalformedFileError: the section headers are outside the file.
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


def relocated_indices(image: Image, dynamic: Dynamic) -> tuple[frozenset[int], frozenset[int]]:
    """Return the indices of the symbols that relocations name, and of those that copy relocations name.

    DT_RELR and the leading relative relocations (DT_RELACOUNT) name no symbol and are not read.
    """
    names: set[int] = set()
    copies: set[int] = set()
    copy = COPY.get(image.machine, -1)
    for words, entry_words in relocation_chunks(image, dynamic):
        view = memoryview(words)
        if image.bits == 64:
            low, high = (2, 3) if image.byteorder == "little" else (3, 2)
            kinds, symbols = view[low::entry_words], view[high::entry_words]
            names.update(symbols)
            if copy in kinds:
                copies.update(symbol for kind, symbol in zip(kinds, symbols, strict=True) if kind == copy)
        else:
            infos = view[1::entry_words]
            names.update(info >> 8 for info in infos)
            copies.update(info >> 8 for info in infos if info & 0xFF == copy)
        if len(names) > MOST_SYMBOLS:
            raise image.data.malformed("its relocations name more symbols than there can be")
    names.discard(0)
    copies.discard(0)
    return frozenset(names), frozenset(copies)


def relocation_chunks(image: Image, dynamic: Dynamic) -> Iterator[tuple[array[int], int]]:
    """Yield the relocation tables in chunks, as (32-bit words, words per entry)."""
    tags = dynamic.tags
    width = image.bits // 8
    with_addend, without = 3 * width, 2 * width
    tables = (
        (DT_RELA, tags.get(DT_RELASZ, 0), with_addend, tags.get(DT_RELACOUNT, 0)),
        (DT_REL, tags.get(DT_RELSZ, 0), without, tags.get(DT_RELCOUNT, 0)),
        (DT_JMPREL, tags.get(DT_PLTRELSZ, 0), with_addend if tags.get(DT_PLTREL) == DT_RELA else without, 0),
    )
    for tag, size, entry, relative in tables:
        if tag not in tags or not size:
            continue
        start, end = image.locate(tags[tag])
        if start + size > end or size > LARGEST:
            raise image.data.malformed("its relocations extend past their segment")
        step = CHUNK // entry * entry
        stop = start + size // entry * entry
        for offset in range(min(start + relative * entry, stop), stop, step):
            yield image.data.numbers("I", offset, min(step, stop - offset), image.byteorder), entry // 4


class ElfFile(BinaryFile):
    """A lazy reader of one ELF file; a context manager if it was opened from a path.

    Every property and method may raise MalformedFileError: a table is checked when it is read, not before.
    """

    KIND = KIND

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self._image = Image(data)

    @property
    def name(self) -> str:
        """The path that it was opened from, or the name that it was given."""
        return self._data.name

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return self._data.size

    @property
    def bits(self) -> int:
        """32 or 64."""
        return self._image.bits

    @property
    def byteorder(self) -> str:
        """`little` or `big`."""
        return self._image.byteorder

    @property
    def machine(self) -> str:
        """`x86_64`, `aarch64`, `x86`, `arm`, `ppc64le`, `riscv64`, `s390x`, …, else `machine-N`."""
        return self._image.machine

    @property
    def type(self) -> str:
        """`exec`, `dyn` (shared library or position-independent program), `rel`, `core`, else `type-N`."""
        return self._image.type

    @cached_property
    def interpreter(self) -> str | None:
        """Path of the dynamic loader that the program asks for; None for libraries and static programs."""
        segment = self._image.segment(PT_INTERP)
        if segment is None:
            return None
        return self._data.string(segment.offset, segment.offset + segment.file_size)

    @cached_property
    def dynamic(self) -> Dynamic:
        """The dynamic section; empty (`present` is False) in a static program or an object file."""
        return read_dynamic(self._image)

    @property
    def is_aligned(self) -> bool:
        """Whether every loaded segment's address and offset agree modulo its alignment, as glibc requires."""
        return all(
            (load.address - load.offset) % load.alignment == 0
            for load in self._image.loads
            if load.alignment > 1
        )

    @property
    def exec_stack(self) -> bool:
        """Whether it needs executable stacks: PT_GNU_STACK says so, or is absent where that means yes."""
        segment = self._image.segment(PT_GNU_STACK)
        if segment is None:
            return self.machine not in PLAIN_STACK
        return bool(segment.flags & PF_X)

    @cached_property
    def build_id(self) -> str | None:
        """The build id in hexadecimal, or None."""
        for segment in self._image.segments:
            if segment.type == PT_NOTE:
                found = self._build_id_in(segment.offset, segment.offset + segment.file_size)
                if found:
                    return found
        return None

    def _build_id_in(self, offset: int, end: int) -> str | None:
        word = self._image.layout.word
        while offset + 12 <= min(end, self._data.size):
            name_size, size, kind = (self._data.unpack(word, offset + 4 * number)[0] for number in range(3))
            content = offset + 12 + (name_size + 3) // 4 * 4
            if kind == NT_GNU_BUILD_ID and name_size == 4 and self._data.take(offset + 12, 4) == b"GNU\0":
                return self._data.take(content, min(size, 64)).hex()
            offset = content + (size + 3) // 4 * 4
        return None

    @cached_property
    def _versions(self) -> Versions:
        return Versions(self._image, self.dynamic)

    @cached_property
    def _symbols(self) -> SymbolTable:
        return SymbolTable(self._image, self.dynamic, self._versions)

    @cached_property
    def _relocated(self) -> tuple[frozenset[int], frozenset[int]]:
        return relocated_indices(self._image, self.dynamic)

    def defines(self, symbol: str) -> bool:
        """Whether it exports a definition of `symbol` (mangled), in any version; one hash look-up."""
        return next(self._symbols.matching(symbol), None) is not None

    def find_symbol(self, symbol: str) -> Symbol | None:
        """The exported definition of `symbol` that a reference without a version binds to, or None."""
        first = None
        for found in self._symbols.matching(symbol):
            if not found.hidden_version:
                return found
            first = first or found
        return first

    def dynamic_symbols(self) -> Iterator[Symbol]:
        """All dynamic symbols, defined and undefined, in the table's order without the empty first."""
        return self._symbols.all()

    def relocated_symbols(self) -> list[Symbol]:
        """The symbols that some relocation names, each once, in the table's order."""
        return [self._symbols.at(index) for index in sorted(self._relocated[0])]

    def references(self, *, relocated: bool = True) -> Iterator[Reference]:
        """Yield what it uses of other objects: undefined symbols, and the variables of copy relocations.

        Args:
            relocated: only those that some relocation names, which are those that a loader looks up. Otherwise all
                undefined symbols of the table: cheaper for a large library, but some may never be looked up.
        """
        if not relocated:
            return self._symbols.references(None, copies=frozenset())
        return self.references_at(self.reference_numbers())

    def reference_numbers(self) -> list[int]:
        """The indices of the symbols that `references` goes through."""
        end = self._symbols.undefined_end
        return sorted(number for number in self._relocated[0] if number < end)

    def references_at(self, numbers: Iterable[int]) -> Iterator[Reference]:
        """The references among the symbols with these indices."""
        return self._symbols.references(numbers, copies=self._relocated[1])

    def symbol_names(self, numbers: Iterable[int]) -> list[bytes]:
        """The mangled names of the symbols with these indices."""
        return self._symbols.names(numbers)

    def undefined_names(self) -> list[bytes]:
        """Return the mangled names of the undefined symbols, in the symbol table's order."""
        return self._symbols.undefined_names()

    @property
    def symbol_count(self) -> int:
        """How many dynamic symbols there are, the empty first one included."""
        return self._symbols.count

    def exports(self) -> frozenset[bytes]:
        """Return the mangled names that references may bind to; the cost grows with the library."""
        return self._symbols.exports()

    def exports_like(self, pattern: re.Pattern[bytes], most: int) -> list[str]:
        """Return up to `most` of the mangled names that match and that references may bind to.

        Args:
            pattern: matches a whole name, and no NUL. Beginning with fixed letters, it is found fast.
            most: how many names are looked at.
        """
        names = [name.decode(errors="replace") for name in self._symbols.named_like(pattern, most)]
        return [name for name in names if self.defines(name)]

    def definitions(self) -> list[Definition]:
        """Return what it defines for others; the cost grows with the library."""
        return self._symbols.definitions(None, preemptible=False)

    def preemptible(self) -> list[Definition]:
        """Return what it defines and its own relocations look up by name: an object loaded earlier may preempt these.

        Protected symbols are not among them, nor anything in an object with DF_SYMBOLIC. What the linker has bound
        already (-Bsymbolic, hidden visibility) is named by no relocation.
        """
        if self.dynamic.symbolic:
            return []
        numbers = [number for number in sorted(self._relocated[0]) if number < self._symbols.count]
        return self._symbols.definitions(numbers, preemptible=True)

    def is_relocated(self, number: int) -> bool:
        """Whether some relocation names the symbol with this index."""
        return number in self._relocated[0]

    def provides(self, name: bytes, gnu_hash: int, version: str | None) -> bool:
        """Whether a reference to the mangled `name` in `version` (None: without one) would bind to it."""
        return self._symbols.provides(name, gnu_hash, version)

    def strong(self) -> list[Wanted]:
        """Return the undefined symbols that are not weak, whether or not a relocation names them."""
        return self._symbols.strong()

    def likely(self, wanted: list[Wanted]) -> list[Wanted]:
        """Return those of these symbols that the filter of its hash table does not rule out."""
        return self._symbols.likely(wanted)

    def unresolved(self, wanted: list[Wanted]) -> list[Wanted]:
        """Those of these symbols that would not bind to it."""
        return self._symbols.unresolved(wanted)

    def read(self, address: int, size: int) -> bytes:
        """Return up to `size` bytes at a virtual address, fewer at the end of a segment."""
        offset, end = self._image.locate(address)
        return self._data.take(offset, min(size, end - offset))

    def find_in_section(self, section: str, needle: bytes, before: int, after: int) -> bytes | None:
        """Return the first `needle` in a section with up to `before` bytes ahead of it and `after` bytes behind.

        None if the needle is not found, or if the file has no such section header.
        """
        bounds = section_range(self._image, section)
        if bounds is None:
            return None
        start, end = bounds
        found = self._data.find(needle, start, end)
        if found < 0:
            return None
        begin = max(start, found - before)
        return self._data.take(begin, min(end, found + len(needle) + after) - begin)

    def version_needs(self) -> tuple[VersionNeed, ...]:
        """Return the symbol versions that it needs from its libraries."""
        return self._versions.needs

    def version_definitions(self) -> tuple[VersionDefinition, ...]:
        """Return the symbol versions that it defines."""
        return self._versions.definitions
