"""Directories in the flags: those that compiler, linker and loader search by default are left out."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.libtorch.disk import is_dir
from torchlink.libtorch.floor import Linked
from torchlink.libtorch.machine import is_foreign
from torchlink.toolchain.compiler import runtime_libraries

if TYPE_CHECKING:
    from torchlink.libtorch.facts import Libtorch
    from torchlink.toolchain.types import Compiler


SYSTEM_INCLUDE_DIRS = ("/usr/include", "/usr/local/include")
# Of real paths: symlinks such as /lib -> /usr/lib are resolved.
SYSTEM_LIBRARY_DIR = r"(/usr)?/lib(32|64|x32)?(/[\w.]+-linux-(gnu|musl)\w*)?"


def own_dirs(compiler: Compiler | None) -> set[str]:
    """Return the include directories that a compiler searches by default, symlinks resolved."""
    return {*SYSTEM_INCLUDE_DIRS, *(compiler.include_dirs if compiler else ())}


def usable_include_dirs(
    wanted: tuple[Path, ...], libtorch: Libtorch, compiler: Compiler | None
) -> tuple[Path, ...]:
    """Leave out the include directories that the compiler searches by default: repeating one reorders it."""
    own = own_dirs(compiler)
    return tuple(
        directory
        for directory in wanted
        if os.path.realpath(directory) not in own and (libtorch.packed or directory.is_dir())
    )


def header_position(wanted: str, libtorch: Libtorch, compiler: Compiler | None) -> str:
    """Return where libtorch's headers go: `wanted`, but `after` for the include directory of an unpacked system.

    That directory also has C library headers, of which some would be used and those in `<triple>/` would not. If the
    compiler's default directories contain another libtorch, that one would be found first, so then the wanted position
    stays.
    """
    if wanted == "after" or libtorch.layout != "system":
        return wanted
    from torchlink.libtorch.system import has_c_headers

    shadowed = any(is_dir(f"{directory}/ATen") for directory in own_dirs(compiler))
    return wanted if shadowed or not any(map(has_c_headers, libtorch.include_dirs)) else "after"


def is_system_dir(directory: Path) -> bool:
    """Whether linker and loader search a directory by default."""
    return re.fullmatch(SYSTEM_LIBRARY_DIR, os.path.realpath(directory)) is not None


def linked(compiler: Compiler | None) -> Linked | None:
    """Return the C and C++ libraries of a compiler, for `libtorch.floor`."""
    if compiler is None:
        return None
    return Linked(compiler.name, {name: Path(file) for name, file in runtime_libraries(compiler).items()})


def linker_dirs(libtorch: Libtorch) -> tuple[Path, ...]:
    """Return the directories for `-rpath-link`: dependencies of libtorch's libraries that the linker would not find.

    A linker for another machine ignores the search paths of libraries (ld's manual on -rpath-link).
    """
    if libtorch.platform != "linux":
        return ()
    foreign = is_foreign(libtorch)
    return ((libtorch.library_dir,) if foreign else ()) + tuple(
        companion.path
        for companion in libtorch.companion_dirs
        if foreign or companion.tangled or not companion.in_place
    )
