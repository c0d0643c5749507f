"""Which symbols an ELF file's relocations bind, without a walk over the relocations that name none."""

from __future__ import annotations

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
)

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator

    from torchlink.binary.elf_dynamic import Dynamic
    from torchlink.binary.elf_image import Image

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
MOST_SYMBOLS = 1 << 21
LARGEST = 1 << 29  # bytes of a table; libtorch_cpu.so's has 8 MB
CHUNK = 1 << 20  # bytes of a table read at once, rounded to whole entries


def relocated_indices(image: Image, dynamic: Dynamic) -> tuple[frozenset[int], frozenset[int]]:
    """Indices of the symbols that relocations name, and of those among them that are copy relocations.

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
    """Pieces of the relocation tables as (32-bit words, words an entry)."""
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
            raise image.data.malformed("its relocations lie beyond their segment")
        step = CHUNK // entry * entry
        stop = start + size // entry * entry
        for offset in range(min(start + relative * entry, stop), stop, step):
            yield image.data.numbers("I", offset, min(step, stop - offset), image.byteorder), entry // 4
