"""Where CUDA's own headers are, which headers in ATen/cuda and c10/cuda include.

The companion packages of a wheel contain them, except `crt/`, which is in a package that nothing requires
(nvidia-cuda-crt; before CUDA 13 nvidia-cuda-nvcc). A toolkit has them all.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torchlink.bounds import whole_number
from torchlink.libtorch.disk import is_dir, is_file, names_in, read_bytes
from torchlink.libtorch.facts import MissingLibrary
from torchlink.libtorch.machine import is_foreign
from torchlink.process import which
from torchlink.toolchain.types import Toolkit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.libtorch.facts import Libtorch

RUNTIME = "cuda_runtime_api.h"
NEEDED = (RUNTIME, "crt/host_defines.h")  # the second is included by the first
VERSION = re.compile(rb"^#define CUDA_VERSION (\d+)", re.MULTILINE)  # 13020 for 13.2
INCLUDED = re.compile(
    rb'^[ \t]*#[ \t]*include[ \t]*[<"]'
    rb"(?:(?:c10|ATen|torch/csrc)/cuda/|cuda[./_]|cu(?:blas|dnn|fft|rand|solver|sparse))",
    re.MULTILINE,
)
HEAD = 1 << 16  # bytes of cuda.h that contain the version


class MissingHeaders(NamedTuple):
    """CUDA's own headers that neither the companion packages nor a toolkit provides."""

    names: tuple[str, ...]
    # As `Libtorch.missing_libraries`, one for each header; empty if libtorch has no companion packages to add to
    packaged: tuple[MissingLibrary, ...]
    cuda: str  # the major version of CUDA, empty if unknown


def cuda_include_dirs(libtorch: Libtorch) -> tuple[Path, ...]:
    """Return directories that together have all of CUDA's headers for a libtorch; none where some are missing.

    These are the companion packages' directories, followed if necessary by a toolkit of the same major version, which
    may be older than the one libtorch was built with.
    """
    if not _has_cuda_here(libtorch):
        return ()
    packages = _package_dirs(libtorch)
    if _complete(packages):
        return packages
    if is_foreign(libtorch):  # the toolkits here are this machine's
        return ()
    for include in (*_conda_dirs(libtorch), *(toolkit.root / "include" for toolkit in find_toolkits())):
        if _complete((*packages, include)) and _version(include)[:1] == _wanted(libtorch):
            return (*packages, include)
    return ()


def missing_headers(libtorch: Libtorch) -> MissingHeaders | None:
    """Return what `cuda_include_dirs` did not find; None if it found everything or no headers are needed."""
    if not _has_cuda_here(libtorch) or cuda_include_dirs(libtorch):
        return None
    packages = _package_dirs(libtorch)
    lacking = tuple(header for header in NEEDED if not any(is_file(place / header) for place in packages))
    version = (libtorch.accelerator_version or "").split(".")
    packaged = tuple(
        MissingLibrary(
            header, "", package, f"{package}=={version[0]}.{version[1]}.*" if version[1:] else None
        )
        for header in (lacking if packages else ())
        for package in [_package_of(header, _wanted(libtorch))]
    )
    return MissingHeaders(lacking, packaged, version[0])


def asks_for_cuda(source: bytes) -> bool:
    """Whether a source includes CUDA's headers, or headers of torch that include them."""
    return INCLUDED.search(source) is not None


def find_toolkits() -> Iterator[Toolkit]:
    """Yield the toolkits of CUDA_HOME and CUDA_PATH, of `nvcc` on PATH, and of the usual directory."""
    named = (os.environ.get(variable) for variable in ("CUDA_HOME", "CUDA_PATH"))
    nvcc = which("nvcc")
    beside_nvcc = str(Path(nvcc).resolve().parent.parent) if nvcc else None
    for root in dict.fromkeys((*named, beside_nvcc, "/usr/local/cuda")):
        if root and is_file(f"{root}/include/{RUNTIME}"):
            yield Toolkit(Path(root), _version(Path(root) / "include"))


def _has_cuda_here(libtorch: Libtorch) -> bool:
    return libtorch.accelerator == "cuda" and not libtorch.packed and libtorch.platform == "linux"


def _conda_dirs(libtorch: Libtorch) -> Iterator[Path]:
    """Yield the directories of CUDA's headers in conda packages: `<env>/targets/<machine>-linux/include`."""
    if libtorch.layout == "conda":
        targets = libtorch.root / "targets"
        yield from (targets / name / "include" for name in names_in(targets))


def _package_of(header: str, major: tuple[int, ...]) -> str:
    """Return the package that contains one of NEEDED."""
    if major and major < (13,):
        return f"nvidia-cuda-{'runtime' if header == RUNTIME else 'nvcc'}-cu{major[0]}"
    return f"nvidia-cuda-{'runtime' if header == RUNTIME else 'crt'}"


def _package_dirs(libtorch: Libtorch) -> tuple[Path, ...]:
    """Return `nvidia/<part>/include` next to libtorch's companions."""
    homes = dict.fromkeys(
        companion.path.parent.parent
        for companion in libtorch.companion_dirs
        if companion.path.parent.parent.name == "nvidia"
    )
    places = (Path(os.path.normpath(home)) / part / "include" for home in homes for part in names_in(home))
    return tuple(place for place in places if is_dir(place))


def _complete(places: tuple[Path, ...]) -> bool:
    return all(any(is_file(place / header) for place in places) for header in NEEDED)


def _version(include: Path) -> tuple[int, ...]:
    """Return major and minor version from the cuda.h in a directory; () where unknown."""
    found = VERSION.search(read_bytes(include / "cuda.h", HEAD))
    return (int(found[1]) // 1000, int(found[1]) % 1000 // 10) if found else ()


def _wanted(libtorch: Libtorch) -> tuple[int, ...]:
    """Return the major version of CUDA that a libtorch was built with; () where unknown."""
    major = (libtorch.accelerator_version or "").partition(".")[0]
    return (whole_number(major),) if major.isdigit() else ()
