"""The options of `torchlink bundle`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torchlink.binary.tree import Root


class BundleOptions(NamedTuple):
    """The options of `torchlink bundle`."""

    keep_system_cxx: bool = False
    exclude: tuple[str, ...] = ()  # globs over library names
    include: tuple[str, ...] = ()  # globs over library names that the policy would exclude
    add: tuple[Path, ...] = ()  # libraries that the program opens by name
    environment: Mapping[str, str] = MappingProxyType({})  # that the program runs in now: LD_LIBRARY_PATH
    sysroot: Path | None = None  # of another machine: its files hide this machine's

    @property
    def tree(self) -> Root:
        """The file system as the binary sees it."""
        from torchlink.binary.tree import Overlay, Root

        return Overlay(self.sysroot) if self.sysroot else Root()
