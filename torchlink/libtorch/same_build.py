"""Whether libc10 and libtorch_cpu are of one build: mixed ones load and break, or do not even link."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.errors import MalformedFileError
from torchlink.libtorch.libraries import elf_library

if TYPE_CHECKING:
    from torchlink.libtorch.layout import Layout

C10 = (b"_ZN3c10", b"_ZNK3c10")  # functions of namespace c10, which libtorch_cpu takes from libc10 alone


def other_builds(layout: Layout) -> list[str]:
    """A sentence where libtorch_cpu needs functions of libc10 that the libc10 beside it does not have.

    Releases that differ in no such function, as patch releases may, go unnoticed.
    """
    try:
        c10, cpu = (
            None if layout.tree.packed else elf_library(layout, bare) for bare in ("c10", "torch_cpu")
        )
        if c10 is None or cpu is None:
            return []
        exports = c10.exports()
        lost = {name for name in cpu.undefined_names() if name.startswith(C10) and name not in exports}
        # Only now, as it takes ten times as long: some need not be there, and some tables mix in defined ones.
        needed = lost and [
            each.name for each in cpu.references(relocated=False) if each.name in lost and not each.weak
        ]
    except MalformedFileError:
        return []  # `abi` reads the same files, and says so
    if not needed:
        return []
    more = f" and {len(needed) - 1} more" if len(needed) > 1 else ""
    lost_names = f"{needed[0].decode(errors='replace')}{more}"
    mixed = "libtorch_cpu.so and libc10.so are of different builds"
    return [f"{mixed}: the one needs {lost_names}, which the other does not define"]
