"""CUDA's own headers, which those below ATen/cuda and c10/cuda include: where they are on this machine.

A wheel's companion packages bring them, all but `crt/`, which is a package of its own (nvidia-cuda-crt, before
CUDA 13 nvidia-cuda-nvcc) that nothing asks for; a toolkit brings them all.
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
HEAD = 1 << 16  # bytes of cuda.h; the version stands far above


class MissingHeaders(NamedTuple):
    """CUDA's own headers that neither the companion packages nor a toolkit provides."""

    names: tuple[str, ...]
    # As `Libtorch.missing_libraries`, one for each header; empty where libtorch has no companion packages to add to
    packaged: tuple[MissingLibrary, ...]
    cuda: str  # the major version of CUDA, empty where unknown


def cuda_include_dirs(libtorch: Libtorch) -> tuple[Path, ...]:
    """Directories that together hold CUDA's headers for a libtorch; none where they are not all there.

    The companion packages' own suffice or, for what they lack, a toolkit of the same major version goes behind
    them: it may be older than what libtorch was built with.
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
    """Return what `cuda_include_dirs` did not find; None where it found everything or no headers are needed."""
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
    """Whether a source text itself includes CUDA's headers, or those of torch's that include them."""
    return INCLUDED.search(source) is not None


def find_toolkits() -> Iterator[Toolkit]:
    """The toolkits that variables, `nvcc` on PATH and the usual place lead to, the one that the user named first."""
    named = (os.environ.get(variable) for variable in ("CUDA_HOME", "CUDA_PATH"))
    nvcc = which("nvcc")
    beside_nvcc = str(Path(nvcc).resolve().parent.parent) if nvcc else None
    for root in dict.fromkeys((*named, beside_nvcc, "/usr/local/cuda")):
        if root and is_file(f"{root}/include/{RUNTIME}"):
            yield Toolkit(Path(root), _version(Path(root) / "include"))


def _has_cuda_here(libtorch: Libtorch) -> bool:
    return libtorch.accelerator == "cuda" and not libtorch.packed and libtorch.platform == "linux"


def _conda_dirs(libtorch: Libtorch) -> Iterator[Path]:
    """Where conda's packages put CUDA's headers: `<env>/targets/<machine>-linux/include`."""
    if libtorch.layout == "conda":
        targets = libtorch.root / "targets"
        yield from (targets / name / "include" for name in names_in(targets))


def _package_of(header: str, major: tuple[int, ...]) -> str:
    """The package that brings one of NEEDED."""
    if major and major < (13,):
        return f"nvidia-cuda-{'runtime' if header == RUNTIME else 'nvcc'}-cu{major[0]}"
    return f"nvidia-cuda-{'runtime' if header == RUNTIME else 'crt'}"


def _package_dirs(libtorch: Libtorch) -> tuple[Path, ...]:
    """`nvidia/<part>/include` of the site-packages that hold libtorch's companions."""
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
    """Major and minor version by the cuda.h in a directory; nothing where it does not say."""
    found = VERSION.search(read_bytes(include / "cuda.h", HEAD))
    return (int(found[1]) // 1000, int(found[1]) % 1000 // 10) if found else ()


def _wanted(libtorch: Libtorch) -> tuple[int, ...]:
    """The major version that a libtorch was built with."""
    major = (libtorch.accelerator_version or "").partition(".")[0]
    return (whole_number(major),) if major.isdigit() else ()
