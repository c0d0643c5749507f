"""Whether a compiler can build against a libtorch, and with which C++ standard."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.errors import ToolUnfitError, UsageError
from torchlink.toolchain.compiler import PUBLISHED, accepts_standard, first_version, held_back_by_library

if TYPE_CHECKING:
    from torchlink.libtorch.facts import Libtorch
    from torchlink.toolchain.types import Compiler

# Other names of machines → ELF's.
MACHINES = {"arm64": "aarch64", "amd64": "x86_64", "AMD64": "x86_64", "powerpc64le": "ppc64le"}
X86, ARM = r"i[3-6]86", r"armv[5-8]\w*"


def check_compiler(libtorch: Libtorch, compiler: Compiler) -> None:
    """Check that programs of this compiler can link and load this libtorch.

    Raises:
        ToolUnfitError: another platform, machine, standard library or C++ ABI.
    """
    if not compiles_for(libtorch, compiler):
        raise ToolUnfitError(
            f"{compiler.name} compiles for {compiler.target}, but {libtorch.root} is built for "
            f"{libtorch.platform} {libtorch.arch}.",
            hint="Name a compiler for that platform with CXX or --compiler, or another libtorch.",
        )
    if libtorch.platform == "windows" and "msvc" not in compiler.target:
        raise ToolUnfitError(
            f"{compiler.name} has another C++ ABI than MSVC, which {libtorch.root} is built with.",
            hint="Use cl.",
        )
    if compiler.standard_library == "libc++" and libtorch.cxx11_abi is not None:
        raise ToolUnfitError(
            f"{compiler.name} is used with libc++, but {libtorch.root} is built with libstdc++: "
            "their std::string and std::vector have different names and layouts, so nothing would link.",
            hint="Compile with -stdlib=libstdc++, or use g++.",
        )
    if not compiler.dual_abi and libtorch.cxx11_abi not in {None, compiler.default_cxx11_abi}:
        raise ToolUnfitError(
            f"The libstdc++ of {compiler.name} has only C++ ABI {compiler.default_cxx11_abi}, "
            f"but {libtorch.root} is built with _GLIBCXX_USE_CXX11_ABI={libtorch.cxx11_abi}.",
            hint="Use a compiler whose libstdc++ has both ABIs, or a libtorch of the other ABI.",
        )


def compiles_for(libtorch: Libtorch, compiler: Compiler) -> bool:
    """Whether the compiler's target is libtorch's platform and machine."""
    return compiler.platform == libtorch.platform and machine(compiler.arch) == machine(libtorch.arch)


def machine(arch: str) -> str:
    """Return ELF's name of a machine: "aarch64" for arm64, "x86_64" for amd64, "x86" for i686."""
    if re.fullmatch(X86, arch):
        return "x86"
    return "arm" if re.fullmatch(ARM, arch) else MACHINES.get(arch, arch)


def cxx_standard(libtorch: Libtorch, compiler: Compiler | None, wanted: int | None = None) -> int:
    """Return the standard to use: the wanted one, otherwise the preferred one, otherwise the highest possible.

    A wanted standard is used if the compiler accepts its option; otherwise only one that the compiler implements.

    Raises:
        UsageError: the wanted one is too low for the headers, or does not exist.
        ToolUnfitError: the compiler does not accept the wanted one, or implements none that the headers compile with.
    """
    required, preferred = libtorch.cxx_standard_required, libtorch.cxx_standard
    if (
        wanted is not None
        and wanted not in PUBLISHED
        and not (compiler and accepts_standard(compiler, wanted))
    ):
        known = [std for std in PUBLISHED if required <= std < PUBLISHED[0]]
        raise UsageError(
            f"No such C++ standard: C++{wanted}.",
            hint=f"Use one that libtorch's headers compile with: {', '.join(map(str, known))}.",
        )
    if wanted is not None and (wanted < required or wanted == PUBLISHED[0]):
        raise UsageError(
            f"C++{wanted} is too low: the headers of {libtorch.root} need C++{required}.",
            hint=f"Use --std {required}.",
        )
    if compiler is None:
        return wanted or preferred
    if wanted:
        accepted = wanted in compiler.standards or accepts_standard(compiler, wanted)
        fitting = [wanted] if accepted else []
    else:
        fitting = [std for std in compiler.standards if required <= std <= preferred]
    if fitting:
        return fitting[-1]
    least = wanted or required
    library = held_back_by_library(compiler.kind, compiler.version, compiler.libstdcxx, least)
    if library and not wanted:
        raise ToolUnfitError(
            f"{compiler.name} uses libstdc++ {compiler.libstdcxx}, which has no working C++{least}, but the headers of "
            f"{libtorch.root} need it.",
            hint=f"Install libstdc++ {library} or newer (Debian, Ubuntu: apt install libstdc++-{library}-dev).",
        )
    since = first_version(compiler.kind, least)
    raise ToolUnfitError(
        f"{compiler.name} does not accept -std=c++{wanted}."
        if wanted
        else f"{compiler.name} has no working C++{least}, which the headers of {libtorch.root} need.",
        hint=f"Use {compiler.kind} {since} or newer (CXX or --compiler)."
        if since
        else "Use a newer compiler.",
    )
