"""Symbol versions: those that a file needs from its libraries, and those that it defines itself."""

from __future__ import annotations

import struct
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from torchlink.binary.data import LazyNumbers
from torchlink.binary.elf_dynamic import (
    DT_STRSZ,
    DT_STRTAB,
    DT_VERDEF,
    DT_VERDEFNUM,
    DT_VERNEED,
    DT_VERNEEDNUM,
    DT_VERSYM,
)

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator

    from torchlink.binary.elf_dynamic import Dynamic
    from torchlink.binary.elf_layout import Image

VER_FLG_BASE, VER_FLG_WEAK = 1, 2
HIDDEN = 0x8000  # in a symbol's version index: not the version that unversioned references bind to
MOST_VERSIONS = HIDDEN  # an index has 15 bits


class VersionNeed(NamedTuple):
    """A version that a file needs: `GLIBC_2.34` of `libc.so.6`."""

    library: str  # the NEEDED name that it was linked against
    version: str
    weak: bool  # the loader only warns when it is missing
    number: int  # the symbols' version indices refer to it


class VersionDefinition(NamedTuple):
    """A version that a file defines."""

    version: str
    base: bool  # the file's own name rather than a version of symbols
    number: int


class Versions:
    """The version tables of one file, read when asked for."""

    def __init__(self, image: Image, dynamic: Dynamic) -> None:
        self._image = image
        self._tags = dynamic.tags
        order = "<" if image.byteorder == "little" else ">"
        self._need = struct.Struct(order + "HHIII")
        self._need_aux = struct.Struct(order + "IHHII")
        self._definition = struct.Struct(order + "HHHHIII")
        self._definition_aux = struct.Struct(order + "II")

    @cached_property
    def needs(self) -> tuple[VersionNeed, ...]:
        """Every needed version, library by library."""
        return tuple(self._walk_needs())

    @cached_property
    def definitions(self) -> tuple[VersionDefinition, ...]:
        """Every defined version, in the file's order: linkers write the base version first."""
        return tuple(self._walk_definitions())

    @cached_property
    def names(self) -> dict[int, tuple[str, str | None]]:
        """Version index → (version, library that should define it, or None for one defined here)."""
        names: dict[int, tuple[str, str | None]] = {
            definition.number: (definition.version, None)
            for definition in self.definitions
            if not definition.base
        }
        names.update((need.number, (need.version, need.library)) for need in self.needs)
        return names

    def lazy_indices(self) -> LazyNumbers | None:
        """The raw version indices by symbol, each read when asked for; None in a file without symbol versions."""
        start = self._indices_start
        return None if start is None else LazyNumbers(self._image.data, start, self._image.layout.half)

    def indices(self, count: int) -> array[int] | None:
        """The raw version indices of the first `count` symbols, or None in a file without symbol versions."""
        start = self._indices_start
        if start is None:
            return None
        return self._image.data.numbers("H", start, 2 * count, self._image.byteorder)

    @cached_property
    def _indices_start(self) -> int | None:
        return self._image.locate(self._tags[DT_VERSYM])[0] if DT_VERSYM in self._tags else None

    def _strings(self) -> tuple[int, int]:
        start, end = self._image.locate(self._tags.get(DT_STRTAB, 0))
        return start, min(end, start + self._tags.get(DT_STRSZ, end))

    def _records(
        self, offset: int, count: int, shape: struct.Struct
    ) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Records chained by their last field, the distance to the next."""
        if count > MOST_VERSIONS:
            raise self._image.data.malformed(f"it claims {count} symbol versions")
        for _ in range(count):
            fields = self._image.data.unpack(shape, offset)
            yield offset, fields
            if not fields[-1]:
                return
            offset += fields[-1]

    def _walk_needs(self) -> Iterator[VersionNeed]:
        if DT_VERNEED not in self._tags:
            return
        start, end = self._strings()
        text = self._image.data.string
        table, _ = self._image.locate(self._tags[DT_VERNEED])
        total = 0
        for offset, (_, count, file, aux, _) in self._records(
            table, self._tags.get(DT_VERNEEDNUM, 0), self._need
        ):
            library = text(start + file, end)
            for _, (_, flags, index, name, _) in self._records(offset + aux, count, self._need_aux):
                total += 1
                if total > MOST_VERSIONS:
                    raise self._image.data.malformed("its needed symbol versions have no end")
                yield VersionNeed(
                    library, text(start + name, end), bool(flags & VER_FLG_WEAK), index & ~HIDDEN
                )

    def _walk_definitions(self) -> Iterator[VersionDefinition]:
        if DT_VERDEF not in self._tags:
            return
        start, end = self._strings()
        table, _ = self._image.locate(self._tags[DT_VERDEF])
        count = self._tags.get(DT_VERDEFNUM, 0)
        for offset, (_, flags, index, _, _, aux, _) in self._records(table, count, self._definition):
            name, _ = self._image.data.unpack(self._definition_aux, offset + aux)
            version = self._image.data.string(start + name, end)
            yield VersionDefinition(version, bool(flags & VER_FLG_BASE), index & ~HIDDEN)
