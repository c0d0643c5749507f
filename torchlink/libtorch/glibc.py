"""Whether another release of the C library is in the search path of a libtorch's programs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.binary.elf import ElfFile
from torchlink.binary.system import system_for
from torchlink.bounds import whole_number
from torchlink.errors import FileError, MalformedFileError
from torchlink.libtorch.machine import is_foreign

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torchlink.libtorch.facts import Libtorch

C_LIBRARY = "libc.so.6"
Release = tuple[int, ...]


def glibc_conflict(libtorch: Libtorch) -> str | None:
    """A sentence, without a final full stop, where programs of this system cannot run with a libtorch; else None.

    Its companions may be next to a C library of another release, which the program would load though the loader is
    this system's: the two belong together. Of a libtorch that needs a newer system `floor` speaks.
    """
    core = next((file for name in ("torch_cpu", "c10") if (file := _file(libtorch, name))), None)
    if core is None or libtorch.packed or libtorch.platform != "linux" or is_foreign(libtorch):
        return None
    try:
        library = ElfFile.open(core)
        dirs = system_for(library).default_dirs
    except (FileError, MalformedFileError):
        return None
    ours = next((release for directory in dirs if (release := release_in(Path(directory)))), ())
    has = f"this system has {'.'.join(map(str, ours)) or 'none'}"
    for companion in libtorch.companion_dirs:
        theirs = () if companion.in_place else release_in(companion.path)
        if theirs and theirs != ours:
            return (
                f"{companion.path} holds glibc {'.'.join(map(str, theirs))} and {has}: programs that find their "
                "libraries there do not start, so leave libc6, libc6-dev and libstdc++6 out of what is unpacked there"
            )
    return None


def release_in(directory: Path) -> Release:
    """The release of a directory's glibc, (2, 36): the newest version that it defines; () where there is none."""
    try:
        library = ElfFile.open(directory / C_LIBRARY)
        return newest(each.version for each in library.version_definitions())
    except (FileError, MalformedFileError):
        return ()


def newest(versions: Iterable[str]) -> Release:
    """The newest of some symbol versions `GLIBC_2.36`, others skipped; () where there is none."""
    matches = (re.fullmatch(r"GLIBC_(\d+(?:\.\d+)+)", version) for version in versions)
    return max((tuple(map(whole_number, match[1].split("."))) for match in matches if match), default=())


def _file(libtorch: Libtorch, name: str) -> Path | None:
    found = (file for file in libtorch.libraries if file.startswith(f"lib{name}.so"))
    return next((libtorch.library_dir / file for file in found), None)
