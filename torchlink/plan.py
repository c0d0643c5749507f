"""The link plan: all a build needs to know, in no tool's syntax. Link rules live here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user wants of the program."""

    cpu_only: bool = False  # link only what a CPU program needs, even on a CUDA build
    rpath: str = "absolute"  # "absolute" | "none" | "origin=DIR": DIR relative to the program's own directory
    headers: str = "system"  # "system": -isystem | "after": -idirafter, behind the system's own headers
    aoti: bool = False  # the program loads AOTInductor packages, which look for libtorch.so by name


@dataclass(frozen=True, slots=True)
class PlanLibrary:
    """A library on the link line."""

    name: str  # bare: "torch_cpu"
    file: Path  # the file the linker takes: lib<name>.so, .dylib, or .lib
    keep: bool  # load-bearing: no symbol names it, yet it must stay linked


@dataclass(frozen=True, slots=True)
class LinkPlan:
    """The words of a build against one libtorch, before any quoting. All paths are absolute and exist."""

    libtorch: Libtorch
    wishes: Wishes
    platform: str  # "linux" | "macos" | "windows"
    defines: tuple[tuple[str, str], ...]  # (("_GLIBCXX_USE_CXX11_ABI", "0"),): empty where it has no meaning
    include_dirs: tuple[Path, ...]  # never a directory the compiler searches by itself
    cxx_standard: int
    library_dirs: tuple[Path, ...]  # -L; empty for a directory that the linker searches by itself
    libraries: tuple[PlanLibrary, ...]  # in link order
    runtime_dirs: tuple[str, ...]  # search path entries to write into the program, `$ORIGIN/…` unexpanded
    runtime_as_rpath: (
        bool  # DT_RPATH instead of DT_RUNPATH, because companions of moved libraries must be reached
    )
    notes: tuple[str, ...]  # what the user should know, one sentence each; goes to stderr
