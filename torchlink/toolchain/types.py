"""What the tools on this machine are, as frozen objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path


class Compiler(NamedTuple):
    """A C++ compiler driver.

    `command` is what a user would type: one program, or a launcher and options before it (`ccache g++ -m64`).
    """

    command: tuple[str, ...]
    path: Path  # the program of `command` that compiles, symlinks not resolved
    kind: str  # "gcc" | "clang" | "apple-clang" | "unknown"
    version: tuple[int, ...]  # (12, 2, 0)
    target: str  # triple, e.g. "x86_64-linux-gnu"
    # C++ standards whose flag it takes and that it really implements, e.g. (11, 14, 17, 20)
    standards: tuple[int, ...]
    default_cxx11_abi: int | None  # what it defines without a flag; None for libc++
    identity: str  # changes whenever the program on disk does; part of cache keys
    standard_library: str = "libstdc++"  # "libstdc++" | "libc++" | "unknown"
    dual_abi: bool = True  # False: its libstdc++ has one C++ ABI only, and the define has no effect
    include_dirs: tuple[str, ...] = ()  # what it searches by itself, symlinks resolved
    libstdcxx: int | None = (
        None  # release of the libstdc++ it uses; 0 for one before 7; None for another library
    )
    # Its command defines `default_cxx11_abi` as a word of its own (a wrapper with -D), which another one redefines
    abi_predefined: bool = False
    default_standard: int | None = (
        None  # the C++ standard of a command line without -std; None where it does not say
    )

    @property
    def name(self) -> str:
        """How messages call it: `g++ 12.2.0`."""
        return f"{self.path.name} {'.'.join(map(str, self.version))}"

    @property
    def arch(self) -> str:
        """The machine it compiles for, in ELF's words: "x86_64", "aarch64"; "arm64" on macOS."""
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
    version: tuple[int, ...]  # (13, 0), from its cuda.h; empty where that does not say
