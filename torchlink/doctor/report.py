"""The report of `torchlink doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torchlink.doctor.environment import Installer
    from torchlink.errors import TorchlinkError
    from torchlink.libtorch.facts import Libtorch, Search
    from torchlink.libtorch.machine import Machine
    from torchlink.toolchain.emulator import Emulator
    from torchlink.toolchain.types import Compiler, Tool, Toolkit


@dataclass(frozen=True, slots=True)
class FoundCompiler:
    """A program on PATH with the name of a C++ compiler."""

    names: tuple[str, ...]  # all names of the one program, as commands: ("c++", "g++", "g++-12")
    path: Path  # of the first name
    compiler: Compiler | None
    error: TorchlinkError | None  # why it cannot be used; None exactly if there is a compiler


@dataclass(frozen=True, slots=True)
class InstalledGpu:
    """One GPU that the driver reports."""

    name: str
    capability: tuple[int, int] | None  # CUDA's compute capability: (9, 0)
    memory: int | None  # MiB


@dataclass(frozen=True, slots=True)
class Driver:
    """NVIDIA's driver."""

    version: str | None  # "580.65.06"
    cuda: tuple[int, int] | None  # the newest CUDA that it supports: (13, 0)
    gpus: tuple[InstalledGpu, ...]
    source: str | None  # "NVML" | "libcuda" | "nvidia-smi"; None if none is available
    problem: str | None  # a sentence without a final full stop: why no GPU can be used


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a program can be built with one compiler against one libtorch, and would start."""

    libtorch: Libtorch
    compiler: FoundCompiler
    abi: bool  # platform, machine, standard library and C++ ABI match
    cxx_standard: int | None  # for the compiler's -std; None if no standard suits both
    error: TorchlinkError | None  # why there are no flags for the two; None if there are
    missing: tuple[str, ...]  # libraries without which not even a CPU program starts

    @property
    def ok(self) -> bool:
        """Whether a CPU program can be compiled and linked, and starts."""
        return self.error is None and not self.missing


@dataclass(frozen=True, slots=True)
class AcceleratorFit:
    """Whether a libtorch's accelerator libraries can run on this machine."""

    libtorch: Libtorch
    runs: bool | None  # None: unknown
    why: str  # a sentence without a final full stop


@dataclass(frozen=True, slots=True)
class VariableEntry:
    """A directory or file in the value of an environment variable."""

    entry: str  # as written; empty: the current directory
    exists: bool
    libtorch: bool  # it contains libraries or headers of a libtorch, or is one of its libraries
    # LD_LIBRARY_PATH: its libraries that are loaded in place of those of the libtorch in use; CPATH and the like:
    # headers of another libtorch
    instead: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable that changes which libraries or headers are used."""

    name: str
    value: str
    entries: tuple[VariableEntry, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong or missing, and what fixes it."""

    severity: str  # "error": no CPU program can be built | "warning" | "note": something optional is missing
    what: str  # one or two sentences
    remedy: str  # a sentence; empty if the commands are enough
    commands: tuple[str, ...] = ()  # for a POSIX shell, in order


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """One run of `torchlink doctor`."""

    machine: Machine
    system: str  # "Debian GNU/Linux 12 (bookworm)"
    installer: Installer | None  # the system's package manager
    search: Search
    compilers: tuple[FoundCompiler, ...]
    default_compiler: FoundCompiler | None  # $CXX, else c++, g++ or clang++
    tools: Mapping[str, Tool | None]  # by the names in `examination.TOOLS`
    linkers: Mapping[str, Tool | None]  # by the names in `examination.LINKERS`
    driver: Driver
    toolkit: Toolkit | None  # CUDA's, for .cu files and CUDA's headers
    nvcc: Tool | None  # on PATH
    broken: tuple[TorchlinkError, ...]  # tools that exist but do not run
    fits: tuple[Fit, ...]  # every libtorch with every compiler
    accelerators: tuple[AcceleratorFit, ...]  # of every libtorch with an accelerator
    emulator: Emulator | None  # for the programs of the libtorch in use, where it is for another machine
    no_emulator: TorchlinkError | None  # why there is none
    variables: tuple[Variable, ...]  # that are set and change which libraries or headers are used
    problems: tuple[Problem, ...]  # the most severe first

    @property
    def toolkit_matches(self) -> bool | None:
        """Whether the toolkit's major version is that of the libtorch in use; None if one of the two is missing."""
        libtorch = self.search.chosen
        built = (libtorch.accelerator_version or "").partition(".")[0] if libtorch else ""
        if not (
            self.toolkit and self.toolkit.version and libtorch and libtorch.accelerator == "cuda" and built
        ):
            return None
        return str(self.toolkit.version[0]) == built

    @property
    def exit_code(self) -> int:
        """0 if a CPU program can be built, else 1."""
        return 1 if any(problem.severity == "error" for problem in self.problems) else 0
