"""Libraries of the operating system: what its loader finds by default, and what an unpacked system contains.

The libraries of a libtorch in an unpacked system (Debian packages below a directory other than `/`) have no search
path: they rely on the loader of their own system. `Sysroot` looks up what that loader would find, so that a program of
this system can be linked with the same directories.
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


C_HEADER = "features.h"  # of glibc and musl; every header of the C library includes it


def on_every_system(name: str) -> bool:
    """Whether a SONAME belongs to the C runtime, the C++ runtime or a driver."""
    return name.partition(".so")[0] in EVERYWHERE or name.startswith(LOADERS)


def found_by_default(names: list[str], requester: ElfFile, packaged: Callable[[str], bool]) -> set[str]:
    """Return the SONAMEs that this system's loader finds without a search path.

    Another machine's system cannot be examined: every name that is not in a PyPI package (`packaged`) is assumed to
    be found there.
    """
    if requester.machine != this_machine().arch:
        return {name for name in names if not packaged(name)}
    system = system_for(requester)
    return {
        name
        for name in names
        if any(is_file(f"{directory}/{name}") for directory in system.default_dirs) or system.cached(name)
    }


class Sysroot:
    """The libraries of an unpacked system.

    Args:
        root: libtorch's root, which is `/` or `/usr` of that system.
        library_dir: libtorch's library directory, which is searched first.
        main: one of libtorch's libraries, which names the machine.
    """

    def __init__(self, root: Path, library_dir: Path, main: ElfFile) -> None:
        self.library_dir = library_dir
        self._system = system_for(main, root.parent if root.name == "usr" else root)
        defaults = (Path(self._system.tree.on_host(name)) for name in self._system.default_dirs)
        others = dict.fromkeys(directory for directory in defaults if directory.is_dir())
        real = os.path.realpath(library_dir)
        self._others = [directory for directory in others if os.path.realpath(directory) != real]

    def elsewhere(self, name: str) -> Path | None:
        """Return the directory, other than libtorch's, that contains a library.

        Several Debian packages provide BLAS and LAPACK under one name, each in a directory below `lib/<triple>`; one is
        chosen when they are installed. OpenBLAS's directory sorts after the reference ones.
        """
        for directory in self._others:
            if is_file(directory / name):
                return directory
        for directory in (self.library_dir, *self._others):
            # A link may be absolute, as Debian's alternatives are; it is relative to the system's root.
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
    """Find libraries, and their dependencies in turn, in the directories of an unpacked system.

    Libraries that this system has are used from it, except those in libtorch's own directory, which is on the
    program's search path in any case.

    Args:
        requesters: NEEDED name → file name of the libtorch library that needs it.
        sysroot: where to look.
        by_default: returns the names that this system's loader finds without a search path.

    Returns:
        Directory → names found there; and missing name → the libtorch library that needs it, perhaps indirectly.
    """
    found: dict[Path, list[str]] = {}
    missing: dict[str, str] = {}
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
                missing[name] = known[name]
                continue
            found.setdefault(home, []).append(name)
            for needed in needed_by(home / name):
                if needed not in known and not on_every_system(needed):
                    known[needed] = known[name]
                    following.append(needed)
        level = following
    return found, missing


def needed_by(library: Path) -> tuple[str, ...]:
    """Return the NEEDED names of a library; none where it cannot be read, which the linker will report."""
    try:
        return ElfFile.open(library).dynamic.needed
    except (FileError, MalformedFileError):
        return ()


def has_c_headers(directory: Path) -> bool:
    """Whether an include directory has C library headers too, which must not come before the compiler's."""
    return is_file(directory / C_HEADER)
