"""What the doctor saw, as frozen objects."""

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
    """A C++ compiler on PATH, or what poses as one."""

    names: tuple[str, ...]  # all names of the one program, as commands: ("c++", "g++", "g++-12")
    path: Path  # of the first name
    compiler: Compiler | None
    error: TorchlinkError | None  # why it does not serve; None exactly where there is a compiler


@dataclass(frozen=True, slots=True)
class Gpu:
    """One graphics processor that the driver shows."""

    name: str
    capability: tuple[int, int] | None  # CUDA's compute capability: (9, 0)
    memory: int | None  # MiB


@dataclass(frozen=True, slots=True)
class Driver:
    """NVIDIA's driver."""

    version: str | None  # "580.65.06"
    cuda: tuple[int, int] | None  # the newest CUDA that it serves: (13, 0)
    gpus: tuple[Gpu, ...]
    source: str | None  # who told: "NVML" | "libcuda" | "nvidia-smi"; None where nobody did
    problem: str | None  # a sentence without a final full stop: why no GPU can be used


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a program can be built with one compiler against one libtorch, and starts."""

    libtorch: Libtorch
    compiler: FoundCompiler
    abi: bool  # platform, machine, standard library and C++ ABI go together
    cxx_standard: int | None  # what would be asked for; None where no standard suits both
    error: TorchlinkError | None  # why there are no words for the two; None where there are
    missing: tuple[str, ...]  # libraries without which not even a CPU program starts

    @property
    def ok(self) -> bool:
        """Whether a CPU program can be compiled and linked, and starts."""
        return self.error is None and not self.missing


@dataclass(frozen=True, slots=True)
class AcceleratorFit:
    """Whether a libtorch's GPU half can run on this machine."""

    libtorch: Libtorch
    runs: bool | None  # None: it cannot be told
    why: str  # a sentence without a final full stop


@dataclass(frozen=True, slots=True)
class Named:
    """A directory or file that a variable of the environment names."""

    entry: str  # as written; empty: the current directory
    exists: bool
    libtorch: bool  # it holds libraries or headers of a libtorch, or is one of its libraries
    # LD_LIBRARY_PATH: its libraries that go before those which the libtorch that is taken would have; CPATH and the
    # like: headers of another libtorch
    instead: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of the environment that changes which libraries or headers are taken."""

    name: str
    value: str
    entries: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong or missing, and what fixes it."""

    severity: str  # "error": no CPU program can be built | "warning" | "note": something optional is missing
    what: str  # one or two sentences
    remedy: str  # a sentence; empty where the commands say all
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
    tools: Mapping[str, Tool | None]  # by the names of `run.TOOLS`
    linkers: Mapping[str, Tool | None]  # by the names of `run.LINKERS`
    driver: Driver
    toolkit: Toolkit | None  # CUDA's; only .cu files and CUDA's headers need one
    nvcc: Tool | None  # on PATH
    broken: tuple[TorchlinkError, ...]  # tools that are there and do not run
    fits: tuple[Fit, ...]  # every libtorch with every compiler
    accelerators: tuple[AcceleratorFit, ...]  # of every libtorch that has one
    emulator: (
        Emulator | None
    )  # what runs programs of the libtorch that is taken, where it is of another machine
    no_emulator: TorchlinkError | None  # why nothing does
    variables: tuple[Variable, ...]  # that are set and change which libraries or headers are taken
    problems: tuple[Problem, ...]  # the gravest first

    @property
    def toolkit_matches(self) -> bool | None:
        """Whether the toolkit's major version is that of the libtorch that is taken; None where there are not two."""
        libtorch = self.search.chosen
        built = (libtorch.accelerator_version or "").partition(".")[0] if libtorch else ""
        if not (
            self.toolkit and self.toolkit.version and libtorch and libtorch.accelerator == "cuda" and built
        ):
            return None
        return str(self.toolkit.version[0]) == built

    @property
    def exit_code(self) -> int:
        """0 where a CPU program can be built, else 1."""
        return 1 if any(problem.severity == "error" for problem in self.problems) else 0
