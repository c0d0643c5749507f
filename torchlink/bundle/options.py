"""What the user wants of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torchlink.binary.tree import Root


class BundleOptions(NamedTuple):
    """What the user wants of a bundle."""

    keep_system_cxx: bool = False
    exclude: tuple[str, ...] = ()  # globs over library names
    include: tuple[str, ...] = ()  # globs over library names that the policy would leave out
    add: tuple[Path, ...] = ()  # libraries that the program opens by name
    environment: Mapping[str, str] = MappingProxyType({})  # LD_LIBRARY_PATH as it runs now
    sysroot: Path | None = None  # of another machine: its libraries go before this machine's

    @property
    def tree(self) -> Root:
        """The files as the binary finds them."""
        from torchlink.binary.tree import Overlay, Root

        return Overlay(self.sysroot) if self.sysroot else Root()
