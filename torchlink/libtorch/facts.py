"""What a libtorch is: the facts read from its files, as frozen objects.

Named tuples rather than dataclasses here, in `toolchain/types.py` and in `plan.py`: every start creates these
classes, and a frozen dataclass takes six times as long to create.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path


class CompanionDir(NamedTuple):
    """A directory next to torch that its libraries need at run time, such as `nvidia/cudnn/lib`."""

    path: Path  # absolute
    # NEEDED names of libtorch's libraries that are found here; in an unpacked system their dependencies' too
    libraries: tuple[str, ...]
    in_place: bool  # libtorch's own RPATH or RUNPATH reaches it, so a program need not
    # A library here needs another one here, and only the library that loads it has a search path to both. The dynamic
    # loader follows that (DT_RPATH is inherited), ld.bfd does not.
    tangled: bool = False


class MissingLibrary(NamedTuple):
    """A NEEDED name of a libtorch library that is neither on its search path nor in a companion dir."""

    name: str  # SONAME, e.g. `libcupti.so.13`
    needed_by: str  # file name of the libtorch library that needs it
    package: str | None  # the PyPI package that contains it, e.g. `nvidia-cuda-cupti`, where known
    requirement: str | None = None  # as torch's METADATA pins it: `nvidia-cudnn-cu13==9.26.0.51`


class Libtorch(NamedTuple):
    """One installation of libtorch.

    Everything comes from the files of the installation itself; each `*_from` field names the file, and the symbol or
    macro in it, that the value was read from.
    """

    root: Path  # the directory that holds include/ and lib/ (site-packages/torch), or the wheel or zip file
    packed: bool  # True: root is an archive, and every path below it is `root/<name inside>`
    layout: str  # "pip" | "zip" | "conda" | "system" (Debian) | "source" | "wheel" | "unknown"
    found_by: str  # how it was found, e.g. "--libtorch", "LIBTORCH", "active virtual environment"
    version: str | None  # with the local tag where known: "2.13.0+cpu"
    version_from: str | None
    platform: str  # "linux" | "macos" | "windows"
    arch: str  # "x86_64" | "aarch64" | "arm64" | other ELF machine names
    cxx11_abi: int | None  # 0 | 1; None if the flag has no meaning (libc++, MSVC)
    cxx11_abi_from: str | None  # e.g. "libc10.so defines _ZN3c106detail14torchCheckFail…"
    cxx_standard_required: int  # 14 | 17 | 20 | …: the least the headers compile with
    cxx_standard: int  # preferred: what the headers ask for without a warning
    cxx_standard_from: str
    include_dirs: tuple[Path, ...]  # include/, then include/torch/csrc/api/include; empty: no headers
    library_dir: Path
    libraries: tuple[str, ...]  # file names in library_dir and torch.libs, sorted; one name a file
    accelerator: str  # "cpu" | "cuda" | "rocm" | "xpu"
    accelerator_version: str | None  # "13.2", "9.0.176" as version.py says it; None for cpu
    search_kind: str | None  # "rpath" (macOS too) | "runpath" | None: what libtorch_cpu carries
    search_path: tuple[str, ...]  # its entries as written, `$ORIGIN` unexpanded
    companion_dirs: tuple[CompanionDir, ...]
    missing_libraries: tuple[MissingLibrary, ...]
    python: Path | None  # the interpreter whose environment it belongs to, where there is one
    conflicts: tuple[str, ...]  # sentences: files that contradict each other

    @property
    def layout_intact(self) -> bool:
        """Whether libtorch's own search paths reach all its companion dirs."""
        return all(companion.in_place for companion in self.companion_dirs)


class Candidate(NamedTuple):
    """A place where a libtorch might be, with how it was found; a rejected one keeps its reason."""

    path: Path
    found_by: str
    libtorch: Libtorch | None  # None exactly when rejected
    rejected: str | None  # a sentence without a final full stop, e.g. "no headers: include/ATen is missing"


class Search(NamedTuple):
    """Everything that a search looked at, in order, and what it chose (None: nothing usable)."""

    chosen: Libtorch | None
    candidates: tuple[Candidate, ...]
