"""What makes CMake and Nim compile for another machine instead of their own."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from torchlink.toolchain.compiler import options_of
from torchlink.toolchain.cross import triple_of
from torchlink.toolchain.fit import machine

if TYPE_CHECKING:
    from torchlink.libtorch.facts import Libtorch
    from torchlink.toolchain.types import Compiler

# ELF's names of processors → Nim's, where they differ.
NIM_PROCESSORS = {
    "aarch64": "arm64",
    "x86_64": "amd64",
    "x86": "i386",
    "ppc64le": "powerpc64el",
    "ppc64": "powerpc64",
}


def cmake_variables(libtorch: Libtorch, compiler: Compiler | None) -> dict[str, str]:
    """Return the cache variables that make CMake compile for the machine of a libtorch for Linux.

    Args:
        libtorch: for another machine.
        compiler: the cross compiler; by default the one with the usual name.
    """
    arch = machine(libtorch.arch)
    variables = {"CMAKE_SYSTEM_NAME": "Linux", "CMAKE_SYSTEM_PROCESSOR": arch}
    if compiler is None:
        return {**variables, "CMAKE_CXX_COMPILER": f"{triple_of(arch)}-g++"}
    variables["CMAKE_CXX_COMPILER"] = str(compiler.path)
    flags = []
    for option in options_of(compiler):
        name, _, value = option.partition("=")
        known = {"--target": "CMAKE_CXX_COMPILER_TARGET", "--sysroot": "CMAKE_SYSROOT"}.get(name)
        if known and value:
            variables[known] = value
        else:
            flags.append(option)
    return {**variables, **({"CMAKE_CXX_FLAGS": shlex.join(flags)} if flags else {})}


def cmake_arguments(libtorch: Libtorch, compiler: Compiler | None) -> tuple[str, ...]:
    """Return `cmake_variables` as command line arguments."""
    return tuple(f"-D{name}={value}" for name, value in cmake_variables(libtorch, compiler).items())


def nim_switches(libtorch: Libtorch, compiler: Compiler | None) -> tuple[str, ...]:
    """Return the same as switches of `nim cpp`, which looks up a compiler under the name of its --cpu."""
    arch = machine(libtorch.arch)
    processor = NIM_PROCESSORS.get(arch, arch)
    kind = "clang" if compiler and "clang" in compiler.kind else "gcc"
    program = str(compiler.path) if compiler else f"{triple_of(arch)}-g++"
    options = shlex.join(options_of(compiler)) if compiler else ""
    key = f"--{processor}.linux.{kind}.cpp"
    return (
        f"--cpu:{processor}",
        "--os:linux",
        f"--cc:{kind}",
        f"{key}.exe:{program}",
        f"{key}.linkerexe:{program}",
        *((f"--passC:{options}", f"--passL:{options}") if options else ()),
    )
