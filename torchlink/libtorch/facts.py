"""What a libtorch is: the facts that are read from its files, as one frozen object.

Named tuples rather than dataclasses here, in `toolchain/types.py` and in `plan.py`: every start makes these
classes, and a frozen dataclass takes six times as long to make.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path


class CompanionDir(NamedTuple):
    """A directory beside torch that its libraries need at run time, such as `nvidia/cudnn/lib`."""

    path: Path  # absolute
    # NEEDED names of libtorch's libraries that are found here; in an unpacked system also what these need
    libraries: tuple[str, ...]
    in_place: bool  # libtorch's own RPATH or RUNPATH reaches it, so nobody has to add it
    # A library here needs another one here that only a loader of it has a search path to. The dynamic loader
    # follows that (DT_RPATH is inherited), ld.bfd does not.
    tangled: bool = False


class MissingLibrary(NamedTuple):
    """A NEEDED name of a libtorch library that neither its own search path nor a companion dir holds."""

    name: str  # SONAME, e.g. `libcupti.so.13`
    needed_by: str  # file name of the libtorch library that asks for it
    package: str | None  # the PyPI package that brings it, e.g. `nvidia-cuda-cupti`, where known
    requirement: str | None = None  # as torch's METADATA pins it: `nvidia-cudnn-cu13==9.26.0.51`


class Libtorch(NamedTuple):
    """One installation of libtorch.

    Everything comes from the files of the installation itself; each `*_from` field names the file (and the
    symbol or macro in it) that told.
    """

    root: Path  # the directory that holds include/ and lib/ (site-packages/torch), or the wheel or zip file
    packed: bool  # True: root is an archive, and every path below it is `root/<name inside>`
    layout: str  # "pip" | "zip" | "conda" | "system" (Debian) | "source" | "wheel" | "unknown"
    found_by: str  # how it was come by, e.g. "--libtorch", "LIBTORCH", "active virtual environment"
    version: str | None  # with local tag where the files tell: "2.13.0+cpu"
    version_from: str | None
    platform: str  # "linux" | "macos" | "windows"
    arch: str  # "x86_64" | "aarch64" | "arm64" | other ELF machine names
    cxx11_abi: int | None  # 0 | 1; None where the flag has no meaning (libc++, MSVC)
    cxx11_abi_from: str | None  # e.g. "libc10.so defines _ZN3c106detail14torchCheckFail…"
    cxx_standard_required: int  # 14 | 17 | 20 | …: the least the headers compile with
    cxx_standard: int  # preferred: what the headers ask for without a warning
    cxx_standard_from: str
    include_dirs: tuple[Path, ...]  # in order; include/ and include/torch/csrc/api/include; empty: no headers
    library_dir: Path
    libraries: tuple[str, ...]  # file names in library_dir and torch.libs, sorted; one name a file
    accelerator: str  # "cpu" | "cuda" | "rocm" | "xpu"
    accelerator_version: str | None  # "13.2", "9.0.176" as version.py says it; None for cpu
    search_kind: str | None  # "rpath" (macOS too) | "runpath" | None: what libtorch_cpu carries
    search_path: tuple[str, ...]  # its entries as written, `$ORIGIN` unexpanded
    companion_dirs: tuple[CompanionDir, ...]
    missing_libraries: tuple[MissingLibrary, ...]
    python: Path | None  # the interpreter whose environment it belongs to, where there is one
    conflicts: tuple[str, ...]  # sentences: files that contradict one another

    @property
    def layout_intact(self) -> bool:
        """Whether libtorch's own search paths reach all its companion dirs."""
        return all(companion.in_place for companion in self.companion_dirs)

    def has_library(self, name: str) -> bool:
        """Whether `library_dir` holds the library of this bare name (`torch_cuda`), on any platform."""
        stems = (f"lib{name}.so", f"lib{name}.dylib", f"{name}.lib", f"{name}.dll")
        return any(file in stems or file.startswith(f"lib{name}.so.") for file in self.libraries)


class Candidate(NamedTuple):
    """A place where a libtorch might be, with how it was come by; a rejected one keeps its reason."""

    path: Path
    found_by: str
    libtorch: Libtorch | None  # None exactly when rejected
    rejected: str | None  # a sentence without a final full stop, e.g. "no headers: include/ATen is missing"


class Search(NamedTuple):
    """All that a search looked at, in order, and what was taken (None: nothing usable)."""

    chosen: Libtorch | None
    candidates: tuple[Candidate, ...]
