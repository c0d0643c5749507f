"""Headers of other projects in libtorch's include directory that a source includes instead of the system's."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import TorchlinkError
from torchlink.process import run
from torchlink.status import status_of
from torchlink.toolchain.arguments import NO_LINK, expand
from torchlink.toolchain.directories import own_dirs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from torchlink.toolchain.types import Compiler

# Libtorch's own headers, which are meant even if a system directory has others.
LIBTORCH = frozenset({"ATen", "c10", "caffe2", "torch", "libshm.h"})
INCLUDED = re.compile(r"^(\.+) (.+)$", re.MULTILINE)  # a line of -H: one dot per level
SECONDS = 60  # time limit for preprocessing
DEPENDENCY_OPTIONS = frozenset({"-MF", "-MT", "-MQ", "-MJ", "-o", "--output"})  # with a value


class Shadow(NamedTuple):
    """A header in libtorch's copy of another project, included by a file outside libtorch."""

    name: str  # of the directory or file in both places: `fmt`
    header: str
    includer: str  # empty for the source itself
    bundled: Path  # libtorch's include directory
    own: str  # the compiler's own include directory with the same name


def common_names(bundled: Sequence[Path], own: Collection[str]) -> dict[str, tuple[Path, str]]:
    """Return the names that are both in libtorch's include directories and in the compiler's own."""
    there: dict[str, str] = {}
    for directory in sorted(own):
        there.update(dict.fromkeys(_names(directory), directory))
    return {
        name: (directory, there[name])
        for directory in bundled
        for name in _names(directory)
        if name in there and name not in LIBTORCH
    }


def shadows(
    compiler: Compiler, arguments: Sequence[str], bundled: Sequence[Path], env: Mapping[str, str]
) -> tuple[Shadow, ...]:
    """Preprocess the sources of a command line again, and return the first use of each shadowed name.

    Includes in libtorch's own headers are not reported.

    Args:
        compiler: the compiler.
        arguments: all arguments after its name.
        bundled: libtorch's include directories.
        env: the environment that it ran in.
    """
    common = common_names(bundled, own_dirs(compiler))
    again = _preprocessing(arguments)
    if not common or not all(map(_is_rereadable, again)):
        return ()
    try:
        done = run([*compiler.command, *again], env=env, timeout=SECONDS)
    except TorchlinkError:
        return ()
    found: dict[str, Shadow] = {}
    above = [""]
    for dots, header in INCLUDED.findall(done.stderr):
        del above[len(dots) :]
        for directory in bundled:
            name = header.removeprefix(f"{directory}/").partition("/")[0]
            by_libtorch = any(above[-1].startswith(f"{each}/") for each in bundled)
            if header.startswith(f"{directory}/") and name in common and not by_libtorch:
                found.setdefault(name, Shadow(name, header, above[-1], *common[name]))
        above.append(header)
    return tuple(found.values())


def _preprocessing(arguments: Sequence[str]) -> list[str]:
    """Return arguments that only list the headers (-H) and write no file."""
    kept: list[str] = []
    rest = expand(arguments)
    for argument in rest:
        if argument in DEPENDENCY_OPTIONS:
            next(rest, None)
        elif argument not in NO_LINK and not re.match(r"-M|-o.|--output=", argument):
            kept.append(argument)
    return [*kept, "-M", "-H", "-w"]


def _is_rereadable(argument: str) -> bool:
    """Whether an argument is neither standard input nor a file that can be read only once, such as a FIFO."""
    if argument == "-":
        return False
    status = status_of(argument.removeprefix("@"))
    return status is None or stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)


def _names(directory: Path | str) -> list[str]:
    try:
        return os.listdir(directory)  # noqa: PTH208 - names, not paths
    except OSError:
        return []
