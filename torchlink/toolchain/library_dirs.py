"""Where linker and loader look by themselves, and where a linker has to be told to."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.libtorch.floor import Linked
from torchlink.libtorch.machine import is_foreign
from torchlink.toolchain.compiler import runtime_libraries

if TYPE_CHECKING:
    from torchlink.libtorch.facts import Libtorch
    from torchlink.toolchain.facts import Compiler

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
