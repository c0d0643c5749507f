"""An ELF file's dynamic section."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torchlink.binary.elf_layout import PT_DYNAMIC
from torchlink.errors import MalformedFileError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torchlink.binary.elf_layout import Image

DT_NEEDED, DT_PLTRELSZ, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_RELASZ = 1, 2, 4, 5, 6, 7, 8
DT_STRSZ, DT_SYMENT, DT_SONAME, DT_RPATH, DT_SYMBOLIC, DT_REL, DT_RELSZ = 10, 11, 14, 15, 16, 17, 18
DT_PLTREL, DT_TEXTREL, DT_JMPREL, DT_RUNPATH, DT_FLAGS = 20, 22, 23, 29, 30
DT_GNU_HASH, DT_VERSYM, DT_RELACOUNT, DT_RELCOUNT = 0x6FFFFEF5, 0x6FFFFFF0, 0x6FFFFFF9, 0x6FFFFFFA
DT_FLAGS_1, DT_VERDEF, DT_VERDEFNUM = 0x6FFFFFFB, 0x6FFFFFFC, 0x6FFFFFFD
DT_VERNEED, DT_VERNEEDNUM = 0x6FFFFFFE, 0x6FFFFFFF
DT_AUXILIARY, DT_FILTER = 0x7FFFFFFD, 0x7FFFFFFF

DF_SYMBOLIC, DF_TEXTREL = 0x2, 0x4
DF_1_NODEFLIB, DF_1_PIE = 0x800, 0x08000000

TEXT_TAGS = frozenset({DT_NEEDED, DT_SONAME, DT_RPATH, DT_RUNPATH, DT_AUXILIARY, DT_FILTER})
MOST_ENTRIES = 1 << 16  # no real file has as many; a damaged one may


class Dynamic(NamedTuple):
    """The dynamic section. A file without one (static, or an object file) has an empty `Dynamic`."""

    present: bool
    soname: str | None
    needed: tuple[str, ...]  # DT_NEEDED as written, in order
    rpath: str | None  # DT_RPATH as written, `$ORIGIN` unexpanded
    runpath: str | None  # DT_RUNPATH as written
    auxiliary: tuple[str, ...]  # DT_AUXILIARY: optional objects to search first
    filter: tuple[str, ...]  # DT_FILTER: objects that define this one's symbols in its place
    flags: int  # DT_FLAGS
    flags_1: int  # DT_FLAGS_1
    textrel: bool  # relocations write into read-only segments
    tags: Mapping[int, int]  # last value of every tag, for the readers of tables

    @property
    def is_pie(self) -> bool:
        """Whether DF_1_PIE says that this shared object is a program."""
        return bool(self.flags_1 & DF_1_PIE)

    @property
    def runpath_present(self) -> bool:
        """Whether there is a DT_RUNPATH, be it empty: glibc then ignores every RPATH."""
        return self.runpath is not None

    @property
    def nodeflib(self) -> bool:
        """Whether its libraries must not be searched in the default directories or their cache entries."""
        return bool(self.flags_1 & DF_1_NODEFLIB)

    @property
    def symbolic(self) -> bool:
        """Whether its own definitions win over those of objects loaded earlier."""
        return bool(self.flags & DF_SYMBOLIC) or DT_SYMBOLIC in self.tags


EMPTY = Dynamic(False, None, (), None, None, (), (), 0, 0, False, {})  # a static program, an object file


def read_dynamic(image: Image) -> Dynamic:
    """Parse the dynamic section through PT_DYNAMIC.

    Raises:
        MalformedFileError: it or its string table is outside the file.
    """
    segment = image.segment(PT_DYNAMIC)
    if segment is None:
        return EMPTY
    if image.loads:
        if not image.in_file(segment.address):
            raise MalformedFileError(
                f"{image.data.name} is a separate debug file: it holds no code.",
                hint="Name the program or library itself.",
            )
        offset, end = image.locate(segment.address)
    else:
        offset, end = segment.offset, image.data.size
    entries = read_entries(image, offset, min(end, offset + segment.file_size))
    tags = dict(entries)

    start = limit = 0
    if DT_STRTAB in tags:
        start, limit = image.locate(tags[DT_STRTAB])
        limit = min(limit, start + tags.get(DT_STRSZ, limit))

    texts: dict[int, list[str]] = {}
    for tag, value in entries:
        if tag in TEXT_TAGS:
            texts.setdefault(tag, []).append(image.data.string(start + value, limit))

    flags = tags.get(DT_FLAGS, 0)
    return Dynamic(
        present=True,
        soname=last(texts.get(DT_SONAME)),
        needed=tuple(texts.get(DT_NEEDED, ())),
        rpath=last(texts.get(DT_RPATH)),
        runpath=last(texts.get(DT_RUNPATH)),
        auxiliary=tuple(texts.get(DT_AUXILIARY, ())),
        filter=tuple(texts.get(DT_FILTER, ())),
        flags=flags,
        flags_1=tags.get(DT_FLAGS_1, 0),
        textrel=DT_TEXTREL in tags or bool(flags & DF_TEXTREL),
        tags=tags,
    )


def read_entries(image: Image, offset: int, end: int) -> list[tuple[int, int]]:
    """The (tag, value) pairs up to DT_NULL or the section's end."""
    size = image.layout.pair.size
    count = min(max(end - offset, 0) // size, MOST_ENTRIES)
    words = image.data.numbers("Q" if image.bits == 64 else "I", offset, count * size, image.byteorder)
    tags, values = words[::2], words[1::2]
    if 0 in tags:
        return list(zip(tags[: tags.index(0)], values, strict=False))  # what follows DT_NULL is padding
    if count == MOST_ENTRIES:
        raise image.data.malformed("its dynamic section has no end")
    return list(zip(tags, values, strict=True))


def last(values: list[str] | None) -> str | None:
    """Return the last entry of a tag that may appear once, which is the one that the loader keeps."""
    return values[-1] if values else None
