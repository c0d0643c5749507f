"""The key of a built program: a hash of everything that it depends on, cheap enough for every start."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torchlink.plan import LinkPlan
    from torchlink.toolchain.facts import Compiler

# What compilers read beside their command line.
COMPILER_VARIABLES = (
    "CPATH",
    "C_INCLUDE_PATH",
    "CPLUS_INCLUDE_PATH",
    "LIBRARY_PATH",
    "GCC_EXEC_PREFIX",
    "COMPILER_PATH",
    "CCC_OVERRIDE_OPTIONS",
    "SDKROOT",
)
# Headers that every loader reads; an upgrade or a rebuild touches them, and two builds of one place are two keys.
# Which others were read, the entry itself remembers: `build.headers`.
TELLING_HEADERS = (
    "ATen/core/ivalue.h",
    "ATen/core/TensorBody.h",
    "c10/core/TensorImpl.h",
    "torch/csrc/jit/api/module.h",
    "torch/headeronly/version.h",
    "torch/version.h",
)


def key(plan: LinkPlan, compiler: Compiler, parts: Sequence[str]) -> str:
    """The key of a program, as 32 hexadecimal digits.

    Libraries and headers count by path, size, modification time and inode, not by their hundreds of
    megabytes: an installer changes at least one of them.

    Args:
        plan: names the libtorch and its libraries.
        compiler: what compiles.
        parts: what else the program depends on: sources, words, other programs.
    """
    libtorch = plan.libtorch
    files = [library.file for library in plan.libraries]
    files += [directory / header for directory in libtorch.include_dirs for header in TELLING_HEADERS]
    everything = [
        str(libtorch.root),
        libtorch.version or "",
        *map(_stamp, files),
        *compiler.command,
        str(compiler.path),
        compiler.identity,
        compiler.target,
        *(f"{name}={os.environ.get(name, '')}" for name in COMPILER_VARIABLES),
        *parts,
    ]
    text = json.dumps(everything)  # lists of strings that differ never give the same text
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _stamp(path: Path) -> str:
    """What changes whenever a file does; empty where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a dozen on every start
    except OSError:
        return ""
    return f"{path}:{status.st_size}:{status.st_mtime_ns}:{status.st_ino}"
