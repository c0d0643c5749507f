"""What the system itself brings: libraries that are everywhere, and those that its loader finds by default.

A libtorch in an unpacked system, such as Debian's packages below a directory that is not `/`.

Its libraries carry no search path: they rely on the loader of their own system. What that loader would find is
looked up here, so that a program of this system can be told the same directories.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.binary.elf import ElfFile
from torchlink.binary.system import system_for
from torchlink.errors import FileError, MalformedFileError
from torchlink.libtorch.disk import is_file, names_in
from torchlink.libtorch.machine import this_machine
from torchlink.libtorch.names import EVERYWHERE, LOADERS

if TYPE_CHECKING:
    from collections.abc import Callable


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


C_HEADER = "features.h"  # glibc's and musl's own; every header of the C library includes it


class Sysroot:
    """The libraries of an unpacked system.

    Args:
        root: libtorch's, which is `/` or `/usr` of that system.
        library_dir: libtorch's, which is looked into first.
        main: one of libtorch's libraries, for its kind of machine.
    """

    def __init__(self, root: Path, library_dir: Path, main: ElfFile) -> None:
        self.library_dir = library_dir
        self._system = system_for(main, root.parent if root.name == "usr" else root)
        defaults = (Path(self._system.tree.on_host(name)) for name in self._system.default_dirs)
        others = dict.fromkeys(directory for directory in defaults if directory.is_dir())
        real = os.path.realpath(library_dir)
        self._others = [directory for directory in others if os.path.realpath(directory) != real]

    def elsewhere(self, name: str) -> Path | None:
        """The directory outside of libtorch's that holds a library.

        Debian gives the name of some libraries (BLAS, LAPACK) to one of several packages when these are installed:
        each has a directory of its own below `lib/<triple>`, and OpenBLAS's sorts behind the reference ones.
        """
        for directory in self._others:
            if is_file(directory / name):
                return directory
        for directory in (self.library_dir, *self._others):
            # A link may be absolute, as Debian's alternatives are: it stands for a place below the system's root.
            inside = self._system.tree.inside(os.path.realpath(directory))
            real = Path(self._system.tree.on_host(f"{inside}/{name}")) if inside else None
            if real and is_file(real) and is_file(real.parent / name):
                return real.parent
        inner = (
            self.library_dir / each for each in reversed(names_in(self.library_dir)) if ".so" not in each
        )
        return next((directory for directory in inner if is_file(directory / name)), None)


def find_in_system(
    requesters: dict[str, str], sysroot: Sysroot, by_default: Callable[[list[str]], set[str]]
) -> tuple[dict[Path, list[str]], dict[str, str]]:
    """Follow names to the directories of an unpacked system, and on through what the libraries there need.

    What this system has anyway is taken from it, but for what is in libtorch's own directory: that one the
    program's search path names in any case.

    Args:
        requesters: NEEDED name → file name of the libtorch library that asks for it.
        sysroot: where to look.
        by_default: which names this system's loader finds by itself.

    Returns:
        Directory → names found there, and the names that are nowhere → the libtorch library that started it.
    """
    found: dict[Path, list[str]] = {}
    nowhere: dict[str, str] = {}
    known = dict(requesters)
    level = list(requesters)
    while level:
        away = [name for name in level if not is_file(sysroot.library_dir / name)]
        default = by_default(away) if away else set()
        following: list[str] = []
        for name in level:
            if name in default:
                continue
            home = sysroot.elsewhere(name) if name in away else sysroot.library_dir
            if home is None:
                nowhere[name] = known[name]
                continue
            found.setdefault(home, []).append(name)
            for needed in needed_by(home / name):
                if needed not in known and not on_every_system(needed):
                    known[needed] = known[name]
                    following.append(needed)
        level = following
    return found, nowhere


def needed_by(library: Path) -> tuple[str, ...]:
    """The NEEDED names of a library; none where it cannot be read, which the linker will say."""
    try:
        return ElfFile.open(library).dynamic.needed
    except (FileError, MalformedFileError):
        return ()


def has_c_headers(directory: Path) -> bool:
    """Whether an include directory holds a C library's headers too, which must not go before the compiler's."""
    return is_file(directory / C_HEADER)
