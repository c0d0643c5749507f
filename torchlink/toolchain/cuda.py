"""CUDA's own headers, which those below ATen/cuda and c10/cuda include: where they are on this machine.

A wheel's companion packages bring them, all but `crt/`, which is a package of its own (nvidia-cuda-crt, before
CUDA 13 nvidia-cuda-nvcc) that nothing asks for; a toolkit brings them all.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.libtorch.disk import is_dir, is_file, names_in, read_bytes
from torchlink.process import which

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.libtorch.facts import Libtorch

RUNTIME = "cuda_runtime_api.h"
NEEDED = (RUNTIME, "crt/host_defines.h")  # the second is included by the first
VERSION = re.compile(rb"^#define CUDA_VERSION (\d+)", re.MULTILINE)  # 13020 for 13.2
HEAD = 1 << 16  # bytes of cuda.h; the version stands far above


def cuda_include_dirs(libtorch: Libtorch) -> tuple[Path, ...]:
    """Directories that together hold CUDA's headers for a libtorch; none where they are not all there.

    The companion packages' own suffice or, for what they lack, a toolkit of the same major version goes behind
    them: it may be older than what libtorch was built with.
    """
    if libtorch.accelerator != "cuda" or libtorch.packed or libtorch.platform != "linux":
        return ()
    packages = _package_dirs(libtorch)
    if _complete(packages):
        return packages
    for toolkit in _toolkit_dirs():
        if _complete((*packages, toolkit)) and _major(toolkit) == _wanted(libtorch):
            return (*packages, toolkit)
    return ()


def headers_note(libtorch: Libtorch) -> str | None:
    """What to say of a libtorch for which `cuda_include_dirs` found nothing; None where nothing was looked for."""
    if libtorch.accelerator != "cuda" or libtorch.packed or libtorch.platform != "linux":
        return None
    packages = _package_dirs(libtorch)
    lacking = [header for header in NEEDED if not any(is_file(place / header) for place in packages)]
    version = (libtorch.accelerator_version or "").split(".")
    remedies = [f"a CUDA {version[0]} toolkit (CUDA_HOME)" if version[0] else "a CUDA toolkit (CUDA_HOME)"]
    if packages:
        from torchlink.libtorch.facts import MissingLibrary
        from torchlink.libtorch.remedies import remedy_for

        wanted = [
            MissingLibrary(
                header, "", package, f"{package}=={version[0]}.{version[1]}.*" if version[1:] else None
            )
            for header in lacking
            for package in [_package_of(header, _wanted(libtorch))]
        ]
        command = remedy_for(libtorch, wanted).command
        remedies.insert(0, command or " and ".join(str(each.package) for each in wanted))
    return (
        "A program that includes c10/cuda or ATen/cuda does not compile yet, because "
        f"{' and '.join(lacking)} {'are' if lacking[1:] else 'is'} not here; what helps: {', or '.join(remedies)}."
    )


def _package_of(header: str, major: int | None) -> str:
    """The package that brings one of NEEDED."""
    if major is not None and major < 13:
        return f"nvidia-cuda-{'runtime' if header == RUNTIME else 'nvcc'}-cu{major}"
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


def _toolkit_dirs() -> Iterator[Path]:
    """The include directories of toolkits, the one that the user named first."""
    named = (os.environ.get(variable) for variable in ("CUDA_HOME", "CUDA_PATH"))
    nvcc = which("nvcc")
    beside_nvcc = str(Path(nvcc).resolve().parent.parent) if nvcc else None
    for root in (*named, beside_nvcc, "/usr/local/cuda"):
        if root and is_file(f"{root}/include/{RUNTIME}"):
            yield Path(root) / "include"


def _complete(places: tuple[Path, ...]) -> bool:
    return all(any(is_file(place / header) for place in places) for header in NEEDED)


def _major(toolkit: Path) -> int | None:
    """The major version of a toolkit, from its cuda.h."""
    found = VERSION.search(read_bytes(toolkit / "cuda.h", HEAD))
    return int(found[1]) // 1000 if found else None


def _wanted(libtorch: Libtorch) -> int | None:
    major = (libtorch.accelerator_version or "").partition(".")[0]
    return int(major) if major.isdigit() else None
