"""What an extraction did, as one frozen report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch


@dataclass(frozen=True, slots=True)
class Taken:
    """The libraries that a companion's wheel gave."""

    wheel: Path
    libraries: tuple[str, ...]  # file names, sorted


@dataclass(frozen=True, slots=True)
class ExtractReport:
    """One run of `torchlink extract`."""

    libtorch: Libtorch  # what is in the new directory, read from there
    wheel: Path  # what it was cut out of
    files: int
    size: int  # bytes
    left_out: tuple[str, ...]  # libraries of the wheel that only Python or torch's own tests use
    companions: tuple[Taken, ...]
    unused: tuple[Path, ...]  # wheels that were named and hold nothing that is needed
    patched: tuple[str, ...]  # libraries whose search path had to be changed
