"""The tools on a machine, as frozen objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path


class Compiler(NamedTuple):
    """A C++ compiler driver.

    `command` is what a user would type: a program, perhaps with a launcher and options (`ccache g++ -m64`).
    """

    command: tuple[str, ...]
    path: Path  # the program of `command` that compiles, symlinks not resolved
    kind: str  # "gcc" | "clang" | "apple-clang" | "unknown"
    version: tuple[int, ...]  # (12, 2, 0)
    target: str  # triple, e.g. "x86_64-linux-gnu"
    # C++ standards whose flag it accepts and that it implements, e.g. (11, 14, 17, 20)
    standards: tuple[int, ...]
    default_cxx11_abi: int | None  # its default; None for libc++
    identity: str  # changes with the program's file; part of cache keys
    standard_library: str = "libstdc++"  # "libstdc++" | "libc++" | "unknown"
    dual_abi: bool = True  # False: its libstdc++ has only one C++ ABI, and the macro has no effect
    include_dirs: tuple[str, ...] = ()  # those it searches by default, symlinks resolved
    libstdcxx: int | None = None  # release of the libstdc++ it uses; 0 before 7; None: another library
    # Its command sets `default_cxx11_abi` with a -D (a wrapper), so that another -D would redefine the macro
    abi_predefined: bool = False
    default_standard: int | None = None  # the C++ standard without -std; None if unknown

    @property
    def name(self) -> str:
        """Its name in messages: `g++ 12.2.0`."""
        return f"{self.path.name} {'.'.join(map(str, self.version))}"

    @property
    def arch(self) -> str:
        """The machine it compiles for: "x86_64", "aarch64"; "arm64" on macOS."""
        return self.target.partition("-")[0]

    @property
    def platform(self) -> str:
        """The platform it compiles for: "linux" | "macos" | "windows" | "unknown"."""
        for platform, marks in (
            ("macos", ("darwin", "macos")),
            ("windows", ("mingw", "windows")),
            ("linux", ("linux",)),
        ):
            if any(mark in self.target for mark in marks):
                return platform
        return "unknown"


class Tool(NamedTuple):
    """Another program of the build: CMake, Ninja, Nim, ccache, a linker."""

    name: str
    path: Path
    version: tuple[int, ...]


class Toolkit(NamedTuple):
    """A CUDA toolkit: a directory with CUDA's own headers."""

    root: Path
    version: tuple[int, ...]  # (13, 0), from its cuda.h; empty if unknown
