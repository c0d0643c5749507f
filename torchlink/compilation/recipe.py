"""How the reference loader is built: the files and commands, the cache key, and the headers that the build reads.

The key is a hash of everything that is known before anything is compiled, cheap enough for every start. Which of
libtorch's thousands of headers the sources include only the compiler knows: it lists them (`-MD`, GCC's manual,
"Preprocessor Options"), and the cache entry keeps that list with one hash over their sizes and modification times.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from torchlink.emit import cross, cxx
from torchlink.errors import ToolMissingError
from torchlink.libtorch.machine import is_foreign
from torchlink.paths import data_dir
from torchlink.toolchain.tools import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from torchlink.plan import LinkPlan
    from torchlink.toolchain.types import Compiler, Tool


LIST = "headers"  # the file of an entry that lists them, one per line
WORD = re.compile(r"(?:\\.|[^\s\\])+", re.DOTALL)
ESCAPED = re.compile(r"\\([ #:\\])|\$(\$)")
# Environment variables that compilers read.
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
# Headers that every loader includes; an upgrade or a rebuild changes them, so that it changes the key. The others are
# listed in the entry.
TELLING_HEADERS = (
    "ATen/core/ivalue.h",
    "ATen/core/TensorBody.h",
    "c10/core/TensorImpl.h",
    "torch/csrc/jit/api/module.h",
    "torch/headeronly/version.h",
    "torch/version.h",
)
PROGRAM = "loader"
LISTING = ("-MD", "-MF", "loader.d")  # the compiler lists the headers in this file
MAIN = "loader.cpp"
# The programs built from the loader's sources, with the macros that select each.
PROGRAMS: dict[str, tuple[str, ...]] = {"torchscript": (), "aoti": ("-DLOADER_AOTI",)}


def prerequisites(text: str) -> list[str]:
    """Return the prerequisites of the first rule in a dependency file of GCC or clang; phony rules may follow it."""
    rule = text.replace("\\\r\n", " ").replace("\\\n", " ").lstrip().partition("\n")[0]
    words = WORD.findall(rule)
    target = next((number for number, word in enumerate(words) if word.endswith(":")), len(words))
    return [ESCAPED.sub(r"\1\2", word) for word in words[target + 1 :]]


def read_in(directory: Path, sources: Path, links: Mapping[str, str]) -> list[str]:
    """Return the headers that all dependency files below a build directory list: sorted, absolute paths.

    Files in that directory, which is temporary, and in `sources`, which are part of the key, are left out. Empty where
    the compiler wrote no dependency file. A path that begins with one of the directory's `links` (name -> target) is
    returned as one below the target.
    """
    found: set[str] = set()
    for file in directory.rglob("*.d"):
        for name in prerequisites(file.read_text(encoding="utf-8", errors="surrogateescape")):
            first, slash, rest = name.partition("/")
            if slash and first in links:
                found.add(os.path.normpath(f"{links[first]}/{rest}"))
            elif name.startswith("/"):
                found.add(os.path.normpath(name))
    own = tuple(f"{place}{os.sep}" for place in (directory, directory.resolve(), sources, sources.resolve()))
    return sorted(path for path in found if "\n" not in path and not path.startswith(own))


def stamp(paths: Iterable[str], since: int | None = None) -> str:
    """Return one hash over the sizes and modification times of files.

    Times count in whole seconds, because a container image keeps no fractions.

    Args:
        paths: the files; a missing one counts, too.
        since: nanoseconds since the epoch. A file that has changed since then may have been read before it changed:
            the result is then a value that no later call returns.
    """
    stat = os.stat  # a thousand of them on every warm start
    marks = []
    for path in paths:
        try:
            status = stat(path)
        except OSError:
            marks.append("")
        else:
            marks.append(f"{status.st_size}:{status.st_mtime_ns // SECOND}")
            if since is not None and since <= status.st_mtime_ns <= _now():
                return "changed while it was being read"
    return hashlib.sha256("\n".join(marks).encode()).hexdigest()


def _now() -> int:
    import time

    return time.time_ns()


def key(plan: LinkPlan, compiler: Compiler, parts: Sequence[str]) -> str:
    """Return the key of a program, as 32 hexadecimal digits.

    Libraries and headers count by path, size and modification time in whole seconds rather than by their hundreds of
    megabytes of content: an installer changes at least one of these. Inodes and fractions of a second do not count,
    because a container image keeps neither.

    Args:
        plan: the libtorch and its libraries.
        compiler: builds the program.
        parts: what else the program depends on: sources, flags, other programs.
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
    text = json.dumps(everything)  # different lists never give the same text
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _stamp(path: Path) -> str:
    """Return a string that changes whenever a file does; empty if the file is missing."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a dozen on every start
    except OSError:
        return ""
    return f"{path}:{status.st_size}:{status.st_mtime_ns // SECOND}"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a loader is built in an empty directory."""

    via: str  # "cxx" | "cmake" | "nim"
    sources: Mapping[str, str]  # file name -> text of what is compiled
    steps: tuple[tuple[str, ...], ...]  # commands, in order
    program: str = PROGRAM  # their result, relative to the directory
    files: Mapping[str, str] = field(default_factory=dict)  # to write into the directory first
    tools: tuple[str, ...] = ()  # identities of the programs used in addition to the compiler
    macros: tuple[str, ...] = ()  # the flags that select the program: a value of `PROGRAMS`

    @property
    def command(self) -> str:
        """The steps for a POSIX shell."""
        return " && ".join(shlex.join(step) for step in self.steps)

    def key_parts(self) -> list[str]:
        """Return what the program depends on apart from libtorch and the compiler.

        The location of the sources does not count: another copy of torchlink builds the same program.
        """
        home = str(source_dir())
        arguments = [argument.replace(home, "") for step in self.steps for argument in step]
        written = [
            part
            for files in (self.sources, self.files)
            for name in sorted(files)
            for part in (name, files[name])
        ]
        return [self.via, *arguments, *written, *self.tools]


def recipe(via: str, plan: LinkPlan, compiler: Compiler, program: str = "torchscript") -> Recipe:
    """Return the recipe for "cxx", "cmake" or "nim" and one of `PROGRAMS`.

    Raises:
        ToolMissingError: CMake or Nim is needed and not installed.
        InexpressibleError: the target's syntax cannot express a path of the plan.
    """
    return {"cxx": by_compiler, "cmake": by_cmake, "nim": by_nim}[via](plan, compiler, program)


def by_compiler(plan: LinkPlan, compiler: Compiler, program: str = "torchscript") -> Recipe:
    """Build with the compiler and exactly the flags that `torchlink flags` prints, plus those that list the headers."""
    source = (*PROGRAMS[program], str(source_dir() / MAIN))
    command = (*compiler.command, *source, "-o", PROGRAM, *LISTING, *cxx.flags(plan))
    return Recipe("cxx", sources(program), (command,), macros=PROGRAMS[program])


def by_cmake(plan: LinkPlan, compiler: Compiler, program: str = "torchscript") -> Recipe:
    """Build the project that `torchlink cmake init` writes, with the loader as its program."""
    from torchlink.compilation.cmake import prefix_files, project_tools
    from torchlink.projects.cmake import BUILD_DIR, PREFIX_DIR, project

    cmake = _tool("cmake")
    tools = replace(
        project_tools(), launcher=None
    )  # the preset for it is not used, and must not change the key
    code = sources(program)
    prefix = {f"{PREFIX_DIR}/{name}": text for name, text in prefix_files(plan).items()}
    configure = (
        str(cmake.path),
        *("-S", ".", "-B", BUILD_DIR, "-G", tools.generator),
        *(
            cross.cmake_arguments(plan.libtorch, compiler)
            if is_foreign(plan.libtorch)
            else (f"-DCMAKE_CXX_COMPILER={compiler.path}",)
        ),
        # The loader is moved out of the build tree, like an installed program. Without this option CMake pads its
        # search path with empty entries, which mean the current directory.
        "-DCMAKE_BUILD_WITH_INSTALL_RPATH=TRUE",
        *(f"-DCMAKE_CXX_FLAGS={macro}" for macro in PROGRAMS[program]),
    )
    # CMake asks for dependency files anyway; ninja deletes them unless told to keep them.
    keep = ("--", "-d", "keepdepfile") if tools.generator == "Ninja" else ()
    build = (str(cmake.path), "--build", BUILD_DIR, *keep)
    return Recipe(
        "cmake",
        code,
        (configure, build),
        f"{BUILD_DIR}/{PROGRAM}",
        {**project(plan, tools, code, PROGRAM), **prefix},
        (_identity(cmake.path),),
    )


def by_nim(plan: LinkPlan, compiler: Compiler, program: str = "torchscript") -> Recipe:
    """Build with the nim.cfg that `torchlink nim init` writes and a Nim program that compiles the loader."""
    from torchlink.projects.nim import loader_project

    nim = _tool("nim")
    kind = "clang" if "clang" in compiler.kind else "gcc"
    cxx_ = str(compiler.path)
    native = (f"--cc:{kind}", f"--{kind}.cpp.exe:{cxx_}", f"--{kind}.cpp.linkerexe:{cxx_}")
    command = (
        str(nim.path),
        *("cpp", "--hints:off", "--nimcache:nimcache"),
        *(cross.nim_switches(plan.libtorch, compiler) if is_foreign(plan.libtorch) else native),
        *(f"--passC:{macro}" for macro in PROGRAMS[program]),
        *("--passC:-MD", f"--out:{PROGRAM}", "loader.nim"),
    )
    files = loader_project(plan)
    return Recipe("nim", files, (command,), PROGRAM, files, (_identity(nim.path),))


def source_dir() -> Path:
    """Return the directory of the loader's sources."""
    return data_dir("templates") / "loader"


def sources(program: str = "torchscript") -> dict[str, str]:
    """Return the C++ sources of one of `PROGRAMS`: file name -> text."""
    files = sorted(file for file in source_dir().iterdir() if file.suffix in (".cpp", ".h"))
    files = [file for file in files if program == "aoti" or not file.name.startswith("aoti_")]
    return {file.name: file.read_text(encoding="utf-8") for file in files}


def _tool(name: str) -> Tool:
    from torchlink.toolchain.tools import find_tool

    tool = find_tool(name)
    if tool is None:
        raise ToolMissingError(f"{name}: not found on PATH.", hint=f"Install {name}, or omit --via {name}.")
    return tool


def _identity(program: Path) -> str:
    from torchlink.toolchain.tools import identity_of

    return identity_of(str(program))
