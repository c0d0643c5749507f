"""What a libtorch's ELF libraries NEED, and where they themselves look for it."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import MalformedFileError
from torchlink.libtorch.names import PYTHON_LIBRARY, TEST_LIBRARIES, library_name
from torchlink.libtorch.system import on_every_system

if TYPE_CHECKING:
    from torchlink.binary.elf import ElfFile
    from torchlink.libtorch.layout import Layout

# Libraries that only Python or torch's own tests load; what they lack hurts nobody who links libtorch.
NOT_LINKED = TEST_LIBRARIES | {PYTHON_LIBRARY}
# What every program loads first, so that it is named as the one that asks.
FIRST = ("libtorch_cpu.", "libc10.")


class Needs(NamedTuple):
    """NEEDED names for which something has to be looked for: the C runtime's and those in reach are left out."""

    requesters: dict[str, str]  # name → file name of the first library that asks for it
    entries: dict[str, list[str]]  # name → search path entries of all that ask, as names in the tree
    conflicts: list[str]
    unreached: set[
        str
    ]  # those of the names that are in the library directory, where nothing of theirs points


def search_path_of(elf: ElfFile) -> tuple[str | None, tuple[str, ...]]:
    """Kind and entries of a library's search path. RPATH counts for nothing beside a RUNPATH (glibc)."""
    dynamic = elf.dynamic
    for kind, text in (("runpath", dynamic.runpath), ("rpath", dynamic.rpath)):
        if text is not None:
            return kind, tuple(entry for entry in text.split(":") if entry)
    return None, ()


def read_needs(layout: Layout, libraries: tuple[str, ...], arch: str) -> Needs:
    """Collect the needs of the libraries that a program may link, and name those that cannot be read."""
    needs = Needs({}, {}, [], set())
    own = frozenset(layout.tree.names(layout.library_dir))
    for name in sorted(libraries, key=lambda name: (not name.startswith(FIRST), name)):
        if library_name(name) in NOT_LINKED:
            continue
        try:
            elf = layout.tree.elf(layout.library(name))
        except MalformedFileError as error:
            needs.conflicts.append(error.message.rstrip("."))
            continue
        if elf is None:
            continue
        if elf.machine != arch:
            needs.conflicts.append(f"{name} is for {elf.machine}, libc10 for {arch}")
            continue
        entries = [expand(entry, layout.library_dir) for entry in search_path_of(elf)[1]]
        found_here = any(posixpath.normpath(entry) == (layout.library_dir or ".") for entry in entries)
        for needed in elf.dynamic.needed:
            if needed in own and not found_here:
                needs.unreached.add(needed)
            if (needed not in own or not found_here) and not on_every_system(needed):
                needs.requesters.setdefault(needed, name)
                needs.entries.setdefault(needed, []).extend(entries)
    return needs


def expand(entry: str, library_dir: str) -> str:
    """A search path entry with `$ORIGIN` as a name in the tree; an absolute one stays what it is."""
    origin = library_dir or "."
    return entry.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)
