"""The C++ compilers on PATH, each program once with all its names."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.bounds import whole_number
from torchlink.doctor.report import FoundCompiler
from torchlink.errors import ResourcesError, ToolMissingError, TorchlinkError
from torchlink.libtorch.disk import names_in
from torchlink.process import which
from torchlink.toolchain.compiler import LAUNCHERS, find_compiler
from torchlink.toolchain.cross import cross_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torchlink.libtorch.facts import Libtorch
    from torchlink.toolchain.types import Compiler

NAME = re.compile(r"(c\+\+|g\+\+|clang\+\+)(-\d+(?:\.\d+)*)?")


def find_compilers() -> tuple[FoundCompiler, ...]:
    """Return the compilers: `$CXX`, then c++, g++, clang++ and the versioned ones on PATH."""
    groups: dict[str, list[str]] = {}
    for name in (*_chosen(), *compiler_names(os.environ.get("PATH", os.defpath).split(os.pathsep))):
        program = which(name)
        real = os.path.realpath(program) if program else name
        # A launcher such as ccache acts as several compilers.
        groups.setdefault(name if os.path.basename(real) in LAUNCHERS else real, []).append(name)  # noqa: PTH119 - a string
    found = [_examine(tuple(names)) for names in groups.values()]
    merged: dict[str, FoundCompiler] = {}
    for each in found:
        key = _same_program(each.compiler) if each.compiler else each.names[0]
        known = merged.get(key)
        merged[key] = (
            FoundCompiler((*known.names, *each.names), known.path, known.compiler, known.error)
            if known
            else each
        )
    return tuple(merged.values())


def with_cross_compilers(
    compilers: tuple[FoundCompiler, ...], libtorchs: Iterable[Libtorch]
) -> tuple[FoundCompiler, ...]:
    """Return the compilers, followed by those that are used for libtorchs of other machines."""
    found = dict.fromkeys(compilers)
    known = {_same_program(each.compiler) for each in compilers if each.compiler}
    for compiler in filter(None, map(cross_for, libtorchs)):
        if _same_program(compiler) not in known:
            known.add(_same_program(compiler))
            found[FoundCompiler((shlex.join(compiler.command),), compiler.path, compiler, None)] = None
    return tuple(found)


def default_for(libtorch: Libtorch | None, compilers: tuple[FoundCompiler, ...]) -> FoundCompiler | None:
    """Return the compiler that torchlink uses by default for a libtorch."""
    cross = cross_for(libtorch) if libtorch else None
    if cross is None:
        return default_of(compilers)
    wanted = _same_program(cross)
    return next(each for each in compilers if each.compiler and _same_program(each.compiler) == wanted)


def default_of(compilers: Iterable[FoundCompiler]) -> FoundCompiler | None:
    """Return the compiler that torchlink uses by default."""
    try:
        taken = find_compiler()
    except ToolMissingError:
        if not os.environ.get("CXX", "").strip():
            return None
        return next(iter(compilers))  # $CXX comes first, with its error
    except ResourcesError:
        raise
    except TorchlinkError:
        return next((each for each in compilers if each.error), None)
    wanted = _same_program(taken)
    return next(
        (each for each in compilers if each.compiler and _same_program(each.compiler) == wanted), None
    )


def compiler_names(directories: Iterable[str]) -> list[str]:
    """Return the names of programs that look like compilers, unversioned ones first."""
    names = {name for directory in directories for name in names_in(directory) if NAME.fullmatch(name)}
    return sorted(names, key=_rank)


def _rank(name: str) -> tuple[bool, str, list[int]]:
    match = NAME.fullmatch(name)
    assert match  # noqa: S101 - only such names come here
    version = [-whole_number(part) for part in (match[2] or "").strip("-").split(".") if part]
    return bool(match[2]), {"c++": "0", "g++": "1"}.get(match[1], "2"), version


def _same_program(compiler: Compiler) -> str:
    """Return a string that identifies a compiler; options such as -stdlib=libc++ make it a different one."""
    return f"{compiler.identity} {compiler.target} {compiler.standard_library}"


def _chosen() -> tuple[str, ...]:
    chosen = os.environ.get("CXX", "").strip()
    return (chosen,) if chosen else ()


def _examine(names: tuple[str, ...]) -> FoundCompiler:
    path = Path(which(names[0]) or names[0])
    try:
        return FoundCompiler(names, path, find_compiler(None if names[:1] == _chosen() else names[0]), None)
    except ResourcesError:
        raise
    except TorchlinkError as error:
        return FoundCompiler(names, path, None, error)
