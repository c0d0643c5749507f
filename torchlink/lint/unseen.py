"""A stand-in for a binary that a text names and this machine does not have."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from torchlink.binary.data import Data
from torchlink.binary.elf import KIND, ElfFile
from torchlink.binary.elf_dynamic import EMPTY

if TYPE_CHECKING:
    from torchlink.binary.elf import VersionNeed
    from torchlink.binary.elf_dynamic import Dynamic

# A shared library for x86-64 with nothing in it: the header and one segment, a stack that is not executable.
HEADER = struct.pack("<4sBBB9xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 3, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
STACK = struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)


class Unseen(ElfFile):
    """An empty ELF file but for what a text tells: no symbols, nothing to complain of.

    Args:
        name: as the text calls it.
        machine: of the files beside it, in the flags of `ElfFile.machine`.
        dynamic: its dynamic section, as `readelf -d` printed it.
        needs: the versions that it needs, as `ldd -v` printed them.
    """

    def __init__(
        self,
        name: str,
        machine: str,
        *,
        dynamic: Dynamic | None = None,
        needs: tuple[VersionNeed, ...] = (),
    ) -> None:
        super().__init__(Data(HEADER + STACK, name, KIND))
        self._of_machine = machine
        self._needs = needs
        self.dynamic = dynamic or EMPTY

    @property
    def machine(self) -> str:
        """That of the files beside it."""
        return self._of_machine

    def version_needs(self) -> tuple[VersionNeed, ...]:
        """Those that the text tells."""
        return self._needs
