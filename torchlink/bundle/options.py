"""What the user wants of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple


class BundleOptions(NamedTuple):
    """What the user wants of a bundle."""

    keep_system_cxx: bool = False
    exclude: tuple[str, ...] = ()  # globs over library names
    include: tuple[str, ...] = ()  # globs over library names that the policy would leave out
    add: tuple[Path, ...] = ()  # libraries that the program opens by name
    environment: Mapping[str, str] = MappingProxyType({})  # LD_LIBRARY_PATH as it runs now
