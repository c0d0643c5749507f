"""The compiler for a libtorch, which may be for another machine: the default one or a cross compiler on PATH."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.binary.platforms import PLATFORMS, UNKNOWN
from torchlink.bounds import whole_number
from torchlink.errors import LibtorchUnusableError, TorchlinkError
from torchlink.libtorch.disk import names_in
from torchlink.libtorch.machine import PLATFORM_NAMES, is_foreign, this_machine
from torchlink.process import which
from torchlink.toolchain.compiler import INSIDE, find_compiler, has_default_compiler, is_torchlink
from torchlink.toolchain.fit import compiles_for, machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.libtorch.facts import Libtorch
    from torchlink.toolchain.types import Compiler

# Compilers named after their target, by distributions, conda and Arm: aarch64-linux-gnu-g++-12,
# aarch64-conda-linux-gnu-c++, arm-none-linux-gnueabihf-g++.
NAME = re.compile(
    r"(?P<arch>\w+)(?P<vendor>-[\w.]+)?-linux-gnu(?P<abi>\w*)-(?P<driver>g\+\+|c\+\+|clang\+\+)(?P<version>-[\d.]+)?"
)
DRIVERS = ("g++", "c++", "clang++")
PLAIN_CLANG = re.compile(r"clang\+\+(-(?P<version>\d+))?")
SYSROOTS = ("/usr/{triple}/sys-root", "/usr/{triple}")  # Fedora; Debian, Ubuntu and Arch
QEMU_PREFIX = "QEMU_LD_PREFIX"  # the user's root directory of another machine's system, for qemu


def default_compiler(libtorch: Libtorch) -> Compiler | None:
    """Return the compiler to plan for when the user names none with an option.

    For a libtorch for another machine this is an installed cross compiler. None if there is none, or if $CXX
    compiles for a machine other than libtorch's: the flags are then for a compiler elsewhere.

    Raises:
        ToolMissingError: `$CXX` names a program that does not exist.
        ToolUnfitError: `$CXX` does not behave like a C++ compiler.
    """
    if has_default_compiler():
        compiler = find_compiler()
        if compiles_for(libtorch, compiler):
            return compiler
        if cxx_variable():
            return None
    return cross_compiler(libtorch)


def cxx_variable() -> str:
    """Return the value of $CXX; empty if that is torchlink itself."""
    named = os.environ.get("CXX", "").strip()
    return "" if is_torchlink(named) or INSIDE in os.environ else named


def cross_for(libtorch: Libtorch) -> Compiler | None:
    """Return the cross compiler for a libtorch for another machine; None for this machine's, or if $CXX is set."""
    if not is_foreign(libtorch) or cxx_variable():
        return None
    return default_compiler(libtorch)


def cross_compiler(libtorch: Libtorch) -> Compiler | None:
    """Return the compiler on PATH for the machine of a libtorch; None for one that is not extracted.

    It is one named after that machine, otherwise clang with `--target` if it finds that machine's C++ library.
    """
    if libtorch.platform != "linux" or libtorch.packed:
        return None
    for command in (*named_after(libtorch.arch), *clang_for(libtorch.arch)):
        try:
            compiler = find_compiler(command)
        except TorchlinkError:  # a driver without its C++ library
            continue
        if compiles_for(libtorch, compiler) and compiler.standard_library == "libstdc++":
            return compiler
    return None


def compiler_for(libtorch: Libtorch, command: str | None) -> Compiler:
    """Return the compiler to build against a libtorch with: that of a command, otherwise the default one.

    Raises:
        ToolMissingError: there is no compiler, or no such compiler.
        ToolUnfitError: it does not behave like a C++ compiler.
        LibtorchUnusableError: libtorch is for another machine, and nothing here compiles for it.
    """
    compiler = find_compiler(command) if command else default_compiler(libtorch)
    if compiler is not None and compiles_for(libtorch, compiler):
        return compiler
    if compiler is None and libtorch.arch == this_machine().arch and libtorch.platform == "linux":
        compiler = find_compiler()
    raise no_compiler_for(libtorch, compiler)


def no_compiler_for(libtorch: Libtorch, compiler: Compiler | None) -> LibtorchUnusableError:
    """Return the error for when no compiler, or not the named one, compiles for the machine of a libtorch."""
    theirs = f"{libtorch.arch} {PLATFORM_NAMES[libtorch.platform]}"
    subject = f"The libtorch of {libtorch.root} is for {theirs}, and "
    if libtorch.platform != "linux":
        return LibtorchUnusableError(
            f"{subject}this machine is {this_machine()}: nothing built against it can run here.",
            hint="`torchlink flags` still prints its flags; verify on such a machine.",
        )
    if libtorch.packed:
        return LibtorchUnusableError(
            f"{subject}is not extracted: nothing can be built against it.",
            hint="Unpack it with `torchlink extract WHEEL DIR`.",
        )
    named = cxx_variable()
    if compiler is not None or named:
        fact = (
            f"{compiler.name} compiles for {compiler.target}"
            if compiler
            else f"$CXX, {named}, compiles for another machine"
        )
        return LibtorchUnusableError(
            f"{subject}{fact}.",
            hint=f"Name a compiler for {libtorch.arch} with --compiler or CXX, such as {triple_of(libtorch.arch)}-g++.",
        )
    return LibtorchUnusableError(
        f"{subject}no compiler for {theirs} is on PATH.",
        hint=f"{install_hint(libtorch.arch)}, or name one with --compiler, for example --compiler 'clang++ "
        f"--target={triple_of(libtorch.arch)} --sysroot=DIR'.",
    )


def triple_of(arch: str) -> str:
    """Return the triple of a machine in GNU tools and Debian: `aarch64-linux-gnu`."""
    return PLATFORMS.get(arch, UNKNOWN).triple or f"{arch}-linux-gnu"


def install_hint(arch: str) -> str:
    """Return how to install a cross compiler, without a full stop."""
    package = triple_of({"x86": "i686"}.get(arch, arch)).replace("_", "-").replace("i386", "i686")
    return f"Install a cross compiler (Debian, Ubuntu: apt install g++-{package})"


def named_after(arch: str) -> Iterator[str]:
    """Return the programs on PATH that are named like a compiler for a machine, the most likely first."""
    directories = os.environ.get("PATH", os.defpath).split(os.pathsep)
    found = {}
    for directory in directories:
        for name in names_in(directory):
            match = NAME.fullmatch(name) if "-linux-gnu" in name else None
            if match and machine(match["arch"]) == machine(arch):
                found[name] = match
    own = triple_of(arch).partition("-linux-gnu")[2]

    def rank(name: str) -> tuple[bool, bool, int, int, str]:
        """Sort GNU's own names before a vendor's, unversioned before versioned, newest first."""
        match = found[name]
        version = whole_number((match["version"] or "").strip("-").partition(".")[0] or "0")
        return (
            match["abi"] != own,
            bool(match["vendor"]),
            DRIVERS.index(match["driver"]),
            -version or -1000,
            name,
        )

    return (shlex.quote(name) for name in sorted(found, key=rank))


def clang_for(arch: str) -> Iterator[str]:
    """Yield clang commands for a machine: without a sysroot, then with each installed system of that machine."""
    clang = next(filter(which, clang_names()), None)
    if clang is None or arch not in PLATFORMS:
        return
    triple = triple_of(arch)
    # The native ld cannot link for another machine; lld can.
    linker = " -fuse-ld=lld" if not which(f"{triple}-ld") and which("ld.lld") else ""
    yield f"{clang} --target={triple}{linker}"
    named = os.environ.get(QEMU_PREFIX, "")
    for sysroot in filter(None, (named, *(place.format(triple=triple) for place in SYSROOTS))):
        if Path(sysroot).is_dir():
            yield f"{clang} --target={triple}{linker} --sysroot={shlex.quote(sysroot)}"


def clang_names() -> list[str]:
    """Return `clang++`, then its versioned names on PATH, newest first."""
    directories = os.environ.get("PATH", os.defpath).split(os.pathsep)
    names = {name for each in directories for name in names_in(each) if PLAIN_CLANG.fullmatch(name)}
    return sorted(names, key=lambda name: -whole_number(name.partition("-")[2] or "9999"))
