"""The headers that a build has read, and whether they are still as they were then.

An entry of the cache is named by what is known before anything is compiled. Which of libtorch's thousands of
headers the sources reach only the compiler knows: it writes their names down (`-MD`, GCC's manual, "Preprocessor
Options"), and the entry keeps them with one hash over their sizes and modification times.

The key of a built program: a hash of everything that it depends on, cheap enough for every start.

The ways of building the reference loader: files to write and commands to run, as data.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from dataclasses import dataclass, field
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


LIST = "headers"  # the file of an entry that names them, one a line
WORD = re.compile(r"(?:\\.|[^\s\\])+", re.DOTALL)
ESCAPED = re.compile(r"\\([ #:\\])|\$(\$)")


def prerequisites(text: str) -> list[str]:
    """The files that a rule for make names behind its target, as GCC and clang write one; phony rules follow it."""
    rule = text.replace("\\\r\n", " ").replace("\\\n", " ").lstrip().partition("\n")[0]
    words = WORD.findall(rule)
    target = next((number for number, word in enumerate(words) if word.endswith(":")), len(words))
    return [ESCAPED.sub(r"\1\2", word) for word in words[target + 1 :]]


def read_in(directory: Path, sources: Path, links: Mapping[str, str]) -> list[str]:
    """The headers that all dependency files below a build directory name; sorted, absolute paths.

    Left out is what is in that directory, which goes, and in `sources`, whose texts are in the entry's key. Empty
    where the compiler wrote nothing. A path through one of the directory's `links` is one below its target.
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
    """One hash over the sizes and modification times of files.

    Times count in whole seconds: a container image keeps no more of them.

    Args:
        paths: the files; one that is not there counts, too.
        since: nanoseconds since the epoch. A file that was changed from then until now was perhaps read before
            it was: the hash is then none that a later look can give.
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
                return "changed while it was read"
    return hashlib.sha256("\n".join(marks).encode()).hexdigest()


def _now() -> int:
    import time

    return time.time_ns()


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

    Libraries and headers count by path, size and modification time (in whole seconds), not by their hundreds of
    megabytes: an installer changes at least one of them. Inodes do not count, nor do fractions of a second, because
    neither is the same where a container image runs as where it was made.

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
    return f"{path}:{status.st_size}:{status.st_mtime_ns // SECOND}"


PROGRAM = "loader"
LISTING = ("-MD", "-MF", "loader.d")  # has the compiler list the headers that it reads
MAIN = "loader.cpp"
# The programs that are made of the loader's sources, by the macros that make them.
PROGRAMS: dict[str, tuple[str, ...]] = {"torchscript": (), "aoti": ("-DLOADER_AOTI",)}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a loader is built in an empty directory."""

    via: str  # "cxx" | "cmake" | "nim"
    sources: Mapping[str, str]  # file name -> text of all that is compiled
    steps: tuple[tuple[str, ...], ...]  # commands, in order
    program: str = PROGRAM  # what they make, relative to the directory
    files: Mapping[str, str] = field(default_factory=dict)  # to write into the directory first
    tools: tuple[str, ...] = ()  # identities of the programs beside the compiler
    macros: tuple[str, ...] = ()  # what chooses the program: `PROGRAMS`

    @property
    def command(self) -> str:
        """The steps for a POSIX shell."""
        return " && ".join(shlex.join(step) for step in self.steps)

    def key_parts(self) -> list[str]:
        """Everything that the program depends on, beside libtorch and the compiler.

        Where the sources lie does not count: another copy of torchlink makes the same program.
        """
        home = str(source_dir())
        words = [word.replace(home, "") for step in self.steps for word in step]
        written = [
            part
            for files in (self.sources, self.files)
            for name in sorted(files)
            for part in (name, files[name])
        ]
        return [self.via, *words, *written, *self.tools]


def recipe(via: str, plan: LinkPlan, compiler: Compiler, program: str = "torchscript") -> Recipe:
    """The way to build, "cxx", "cmake" or "nim", one of `PROGRAMS`.

    Raises:
        ToolMissingError: the program that way needs is not installed.
        InexpressibleError: its syntax cannot carry a path of the plan.
    """
    return {"cxx": by_compiler, "cmake": by_cmake, "nim": by_nim}[via](plan, compiler, program)


def by_compiler(plan: LinkPlan, compiler: Compiler, program: str = "torchscript") -> Recipe:
    """The compiler with exactly the flags that `torchlink flags` prints, and a list of headers as by-product."""
    source = (*PROGRAMS[program], str(source_dir() / MAIN))
    command = (*compiler.command, *source, "-o", PROGRAM, *LISTING, *cxx.words(plan))
    return Recipe("cxx", sources(program), (command,), macros=PROGRAMS[program])


def by_cmake(plan: LinkPlan, compiler: Compiler, program: str = "torchscript") -> Recipe:
    """The project that `torchlink cmake init` writes, with the loader for its program."""
    from torchlink.compilation.cmake import prefix_files, project_tools
    from torchlink.projects.cmake import BUILD_DIR, PREFIX_DIR, project

    cmake = _tool("cmake")
    tools = project_tools()
    code = sources(program)
    prefix = {f"{PREFIX_DIR}/{name}": text for name, text in prefix_files(plan).items()}
    configure = (
        str(cmake.path),
        *("-S", ".", "-B", BUILD_DIR, "-G", tools.generator),
        *(
            cross.cmake_words(plan.libtorch, compiler)
            if is_foreign(plan.libtorch)
            else (f"-DCMAKE_CXX_COMPILER={compiler.path}",)
        ),
        # The loader leaves the build tree as an installed program does, whose search path CMake else only makes
        # room for: with empty entries, which are the current directory.
        "-DCMAKE_BUILD_WITH_INSTALL_RPATH=TRUE",
        *(f"-DCMAKE_CXX_FLAGS={macro}" for macro in PROGRAMS[program]),
    )
    # CMake has the compiler write its dependency files by itself, and ninja deletes them.
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
    """The nim.cfg that `torchlink nim init` writes, with a Nim program that compiles the loader."""
    from torchlink.projects.nim import loader_project

    nim = _tool("nim")
    kind = "clang" if "clang" in compiler.kind else "gcc"
    cxx_ = str(compiler.path)
    native = (f"--cc:{kind}", f"--{kind}.cpp.exe:{cxx_}", f"--{kind}.cpp.linkerexe:{cxx_}")
    command = (
        str(nim.path),
        *("cpp", "--hints:off", "--nimcache:nimcache"),
        *(cross.nim_words(plan.libtorch, compiler) if is_foreign(plan.libtorch) else native),
        *(f"--passC:{macro}" for macro in PROGRAMS[program]),
        *("--passC:-MD", f"--out:{PROGRAM}", "loader.nim"),
    )
    files = loader_project(plan)
    return Recipe("nim", files, (command,), PROGRAM, files, (_identity(nim.path),))


def source_dir() -> Path:
    """Where the loader's sources lie."""
    return data_dir("templates") / "loader"


def sources(program: str = "torchscript") -> dict[str, str]:
    """The C++ sources of one of `PROGRAMS`: file name -> text."""
    files = sorted(file for file in source_dir().iterdir() if file.suffix in (".cpp", ".h"))
    files = [file for file in files if program == "aoti" or not file.name.startswith("aoti_")]
    return {file.name: file.read_text(encoding="utf-8") for file in files}


def _tool(name: str) -> Tool:
    from torchlink.toolchain.tools import find_tool

    tool = find_tool(name)
    if tool is None:
        raise ToolMissingError(
            f"There is no {name} on PATH.", hint=f"Install {name}, or leave --via {name} away."
        )
    return tool


def _identity(program: Path) -> str:
    from torchlink.toolchain.tools import identity_of

    return identity_of(str(program))
