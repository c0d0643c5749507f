"""The ways of building the reference loader: files to write and commands to run, as data."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torchlink.emit import cross, cxx
from torchlink.errors import ToolMissingError
from torchlink.libtorch.machine import is_foreign
from torchlink.paths import data_dir

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torchlink.plan import LinkPlan
    from torchlink.toolchain.facts import Compiler, Tool

PROGRAM = "loader"
DEPENDENCIES = "loader.d"  # the headers that were read, see `build.headers`
MAIN = "loader.cpp"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a loader is built in an empty directory."""

    via: str  # "cxx" | "cmake" | "nim"
    sources: Mapping[str, str]  # file name -> text of all that is compiled
    steps: tuple[tuple[str, ...], ...]  # commands, in order
    program: str = PROGRAM  # what they make, relative to the directory
    files: Mapping[str, str] = field(default_factory=dict)  # to write into the directory first
    tools: tuple[str, ...] = ()  # identities of the programs beside the compiler

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


def recipe(via: str, plan: LinkPlan, compiler: Compiler) -> Recipe:
    """The way to build: "cxx", "cmake" or "nim".

    Raises:
        ToolMissingError: the program that way needs is not installed.
        InexpressibleError: its syntax cannot carry a path of the plan.
    """
    return {"cxx": by_compiler, "cmake": by_cmake, "nim": by_nim}[via](plan, compiler)


def by_compiler(plan: LinkPlan, compiler: Compiler) -> Recipe:
    """The compiler with exactly the flags that `torchlink flags` prints, and a list of headers as by-product."""
    listed = ("-MD", "-MF", DEPENDENCIES)
    command = (*compiler.command, str(source_dir() / MAIN), "-o", PROGRAM, *listed, *cxx.words(plan))
    return Recipe("cxx", sources(), (command,))


def by_cmake(plan: LinkPlan, compiler: Compiler) -> Recipe:
    """The project that `torchlink cmake init` writes, with the loader for its program."""
    from torchlink.build.cmake import prefix_files, project_tools
    from torchlink.emit.cmake_project import BUILD_DIR, PREFIX_DIR, project

    cmake = _tool("cmake")
    tools = project_tools()
    code = sources()
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


def by_nim(plan: LinkPlan, compiler: Compiler) -> Recipe:
    """The nim.cfg that `torchlink nim init` writes, with a Nim program that compiles the loader."""
    from torchlink.emit.nim_project import loader_project

    nim = _tool("nim")
    kind = "clang" if "clang" in compiler.kind else "gcc"
    program = str(compiler.path)
    native = (f"--cc:{kind}", f"--{kind}.cpp.exe:{program}", f"--{kind}.cpp.linkerexe:{program}")
    command = (
        str(nim.path),
        *("cpp", "--hints:off", "--nimcache:nimcache"),
        *(cross.nim_words(plan.libtorch, compiler) if is_foreign(plan.libtorch) else native),
        *("--passC:-MD", f"--out:{PROGRAM}", "loader.nim"),
    )
    files = loader_project(plan)
    return Recipe("nim", files, (command,), PROGRAM, files, (_identity(nim.path),))


def source_dir() -> Path:
    """Where the loader's sources lie."""
    return data_dir("templates") / "loader"


def sources() -> dict[str, str]:
    """The loader's C++ sources: file name -> text."""
    files = sorted(file for file in source_dir().iterdir() if file.suffix in (".cpp", ".h"))
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
    from torchlink.toolchain.remember import identity_of

    return identity_of(str(program))
