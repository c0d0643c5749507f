"""Compiler launchers (ccache, sccache): programs that answer a compilation from a cache, which a team may share.

A launcher recognises a compilation by its command line and by the files that it reads. A build directory is new for
each build, and libtorch, torchlink and the cache lie elsewhere for another user. So the compilation names all of them
relative to the build directory, through links in it: the same loader, compiled for the same libtorch by the same
compiler, is the same compilation for everyone. Linking is a step of its own, because no launcher caches it.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, NamedTuple

from torchlink.compilation.recipe import LISTING, MAIN, source_dir
from torchlink.emit import cxx
from torchlink.errors import ToolMissingError, TorchlinkError
from torchlink.process import run, which
from torchlink.toolchain.compiler import has_launcher
from torchlink.toolchain.tools import find_tool

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torchlink.compilation.recipe import Recipe
    from torchlink.plan import LinkPlan
    from torchlink.toolchain.types import Compiler

VARIABLE = "TORCHLINK_LAUNCHER"
NONE = "none"  # its value that switches launchers off
KNOWN = ("ccache", "sccache")
OBJECT = "loader.o"
SOURCES = "source"  # a link to the loader's sources
HEADERS = "include"  # links to the directories of headers: include-0, include-1, …
# What ccache is asked, unless its user says otherwise (ccache's manual, "Configuration options"). Depend mode takes the
# headers from the list that the compiler writes anyway: a miss costs no run of the preprocessor. The build directory
# counts with `-g`, although nobody will find anything in it. A header's change time is new whenever an installer (uv)
# links it into another environment; its modification time still counts.
CCACHE = {"CCACHE_DEPEND": "true", "CCACHE_NOHASHDIR": "true", "CCACHE_SLOPPINESS": "include_file_ctime"}


class Launched(NamedTuple):
    """How a loader is compiled through a launcher, in an empty directory."""

    name: str  # of the launcher, for messages
    links: Mapping[str, str]  # to make first: name in the directory -> what it leads to
    steps: tuple[tuple[str, ...], ...]
    env: Mapping[str, str]


def launcher() -> str | None:
    """Return the launcher that TORCHLINK_LAUNCHER names, else the bare name of one that is installed, or None.

    Raises:
        ToolMissingError: the variable names a program that is not there.
    """
    named = os.environ.get(VARIABLE, "").strip()
    if named == NONE:
        return None
    if not named:
        return next((name for name in KNOWN if find_tool(name)), None)
    if which(named) is None:
        raise ToolMissingError(
            f"${VARIABLE} names {named}, which is not a program on PATH.",
            hint=f"Install it, or set {VARIABLE}={NONE} to compile without a launcher.",
        )
    return named


def launched(way: Recipe, plan: LinkPlan, compiler: Compiler, directory: Path) -> Launched | None:
    """Return how the program of a recipe is built through a launcher; None if there is no launcher.

    Args:
        way: the recipe. Nim's is built without a launcher.
        plan: what to build against.
        compiler: compiles the program; its command may contain a launcher itself.
        directory: where it is built.

    Raises:
        ToolMissingError: TORCHLINK_LAUNCHER names a program that is not there.
    """
    if os.environ.get(VARIABLE, "").strip() == NONE:
        return None
    own = has_launcher(compiler)
    found = None if own else launcher()
    if not (own or found):
        return None
    program = str(which(found)) if found else ""
    env = {**CCACHE, **os.environ}
    if way.via == "cmake" and found:
        # CMake writes absolute paths, in which only ccache itself can leave the build directory out.
        by_cmake = {"CMAKE_CXX_COMPILER_LAUNCHER": program, "CCACHE_BASEDIR": str(directory)}
        return Launched(found, {}, way.steps, {**by_cmake, **env})
    if way.via != "cxx" or plan.platform == "windows":
        return None
    links = {SOURCES: str(source_dir())}
    names: dict[str, str] = {}
    for number, headers in enumerate(map(str, plan.all_include_dirs)):
        above = next((each for each in names if headers.startswith(f"{each.rstrip('/')}/")), None)
        if above is None:
            names[headers] = f"{HEADERS}-{number}"
            links[names[headers]] = headers
        else:
            names[headers] = f"{names[above]}/{headers[len(above) :].strip('/')}"
    flags = tuple(names.get(flag, flag) for flag in cxx.flags(plan, "compile"))
    command = (program, *compiler.command) if program else compiler.command
    compiling = (*command, *way.macros, "-c", f"{SOURCES}/{MAIN}", "-o", OBJECT, *LISTING, *flags)
    linking = (*compiler.command, OBJECT, "-o", way.program, *cxx.flags(plan, "link"))
    return Launched(found or shlex.join(compiler.command), links, (compiling, linking), env)


def build(way: Launched, directory: Path) -> str | None:
    """Build in a directory, and return the last line of output of a step that failed, or None.

    A launcher can fail where the compiler does not (a cache that it cannot write), and the compiler's messages name
    files by their links: the caller then builds again without the launcher, and reports what fails then.
    """
    for name, target in way.links.items():
        (directory / name).symlink_to(target, target_is_directory=True)
    for step in way.steps:
        try:
            done = run(step, cwd=directory, env=way.env)
        except TorchlinkError as error:  # no room for its cache, for example
            return str(error)
        if done.returncode != 0:
            lines = f"{done.stdout}{done.stderr}".strip().splitlines()
            return lines[-1] if lines else f"exit status {done.returncode}"
    return None
