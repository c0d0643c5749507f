"""Which of a libtorch's include directories a compiler is to be told, and whether before or behind its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from torchlink.libtorch.disk import is_dir

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch
    from torchlink.toolchain.facts import Compiler

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
    from torchlink.libtorch.sysroot import has_c_headers

    shadowed = any(is_dir(f"{directory}/ATen") for directory in own_dirs(compiler))
    return wished if shadowed or not any(map(has_c_headers, libtorch.include_dirs)) else "after"
