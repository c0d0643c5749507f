"""What the system itself brings: libraries that are everywhere, and those that its loader finds by default."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.libtorch.disk import is_file
from torchlink.libtorch.machine import this_machine
from torchlink.libtorch.names import EVERYWHERE, LOADERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from torchlink.binary.elf import ElfFile


def on_every_system(name: str) -> bool:
    """Whether a SONAME is the C runtime's, the C++ runtime's or a driver's."""
    return name.partition(".so")[0] in EVERYWHERE or name.startswith(LOADERS)


def found_by_default(names: list[str], requester: ElfFile, packaged: Callable[[str], bool]) -> set[str]:
    """Those SONAMEs that this system's loader finds without a search path.

    Another machine's system cannot be looked at: there everything is taken to be found that is not `packaged`,
    which is to say that a PyPI package brings it.
    """
    if requester.machine != this_machine().arch:
        return {name for name in names if not packaged(name)}
    from torchlink.binary.system import system_for

    system = system_for(requester)
    return {
        name
        for name in names
        if any(is_file(f"{directory}/{name}") for directory in system.default_dirs) or system.cached(name)
    }
