"""Which of a libtorch's include directories a compiler is to be told, and whether before or behind its own.

Where linker and loader look by themselves, and where a linker has to be told to.
"""

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


def own_dirs(compiler: Compiler | None) -> set[str]:
    """What a compiler searches by itself, symlinks resolved."""
    return {*SYSTEM_INCLUDE_DIRS, *(compiler.include_dirs if compiler else ())}


def usable_include_dirs(
    wanted: tuple[Path, ...], libtorch: Libtorch, compiler: Compiler | None
) -> tuple[Path, ...]:
    """The include directories but those that the compiler searches by itself: repeating one reorders it."""
    own = own_dirs(compiler)
    return tuple(
        directory
        for directory in wanted
        if os.path.realpath(directory) not in own and (libtorch.packed or directory.is_dir())
    )


def headers_go(wished: str, libtorch: Libtorch, compiler: Compiler | None) -> str:
    """Where libtorch's headers go, `system` or `after`: as wished, but an unpacked system's behind the compiler's.

    They are the C library's too, of which half would be taken and half, from `<triple>/`, would not. Where the
    compiler finds another libtorch by itself, that one would win, so then they stay in front.
    """
    if wished == "after" or libtorch.layout != "system":
        return wished
    from torchlink.libtorch.system import has_c_headers

    shadowed = any(is_dir(f"{directory}/ATen") for directory in own_dirs(compiler))
    return wished if shadowed or not any(map(has_c_headers, libtorch.include_dirs)) else "after"


# Symlinks such as /lib -> /usr/lib are resolved before.
SYSTEM_LIBRARY_DIR = r"(/usr)?/lib(32|64|x32)?(/[\w.]+-linux-(gnu|musl)\w*)?"


def is_system_dir(directory: Path) -> bool:
    """Whether linker and loader look there by themselves."""
    return re.fullmatch(SYSTEM_LIBRARY_DIR, os.path.realpath(directory)) is not None


def linked(compiler: Compiler | None) -> Linked | None:
    """The C and C++ libraries of a compiler, for `libtorch.floor`."""
    if compiler is None:
        return None
    return Linked(compiler.name, {name: Path(file) for name, file in runtime_libraries(compiler).items()})


def linker_dirs(libtorch: Libtorch) -> tuple[Path, ...]:
    """Where no linker looks by itself for what libtorch's libraries need, for `-rpath-link`.

    A linker for another machine reads no library's own search path (ld's manual on -rpath-link).
    """
    if libtorch.platform != "linux":
        return ()
    foreign = is_foreign(libtorch)
    return ((libtorch.library_dir,) if foreign else ()) + tuple(
        companion.path
        for companion in libtorch.companion_dirs
        if foreign or companion.tangled or not companion.in_place
    )
