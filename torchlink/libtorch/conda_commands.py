"""The conda command that brings what a libtorch lacks where conda itself brought the libtorch."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from torchlink.bounds import LONGEST_JSON, whole_number
from torchlink.libtorch.disk import is_dir, names_in, read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch, MissingLibrary

# PyPI's package without its CUDA suffix → that of conda-forge (the names of the channel nvidia, too).
PACKAGES = {
    "nvidia-cublas": "libcublas",
    "nvidia-cuda-cupti": "cuda-cupti",
    "nvidia-cuda-nvrtc": "cuda-nvrtc",
    "nvidia-cuda-runtime": "cuda-cudart",
    "nvidia-cudnn": "cudnn",
    "nvidia-cufft": "libcufft",
    "nvidia-cufile": "libcufile",
    "nvidia-curand": "libcurand",
    "nvidia-cusolver": "libcusolver",
    "nvidia-cusparse": "libcusparse",
    "nvidia-cusparselt": "cusparselt",
    "nvidia-nccl": "nccl",
    "nvidia-nvjitlink": "libnvjitlink",
    "nvidia-nvshmem": "libnvshmem3",
    "nvidia-nvtx": "cuda-nvtx",
    "mkl": "mkl",
    "intel-openmp": "intel-openmp",
}
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # of a package of conda
SPLIT_IN = 12  # the CUDA major version from which on the toolkit is many packages; before, it is cudatoolkit
TOOLKIT = re.compile(r"cuda-|lib(?:cu|nvjitlink)")  # how the packages begin that are parts of the toolkit
TORCH = re.compile(r"(?:lib)?(?:py)?torch-\d")  # `pytorch-2.9.1-….json`, `libtorch-…`


def conda_prefix(libtorch: Libtorch) -> Path | None:
    """The conda environment that a libtorch was brought into by conda, or None."""
    for prefix in (libtorch.root, *libtorch.root.parents[:4]):
        meta = prefix / "conda-meta"
        if is_dir(meta):
            return prefix if any(map(TORCH.match, names_in(meta))) else None
    return None


def conda_commands(libtorch: Libtorch, prefix: Path, missing: Iterable[MissingLibrary]) -> str:
    """The command, empty where no package is known for any of the libraries."""
    files = {
        name: read_bytes(prefix / "conda-meta" / name, LONGEST_JSON)
        for name in names_in(prefix / "conda-meta")
    }
    known = {library: _bringer(library.name, files) for library in missing}
    damaged = dict.fromkeys(package for package in known.values() if package)
    version = (libtorch.accelerator_version or "").split(".")
    absent: dict[str, None] = {}
    for library, package in known.items():
        name = None if package else _package(library, version)
        if name and name not in damaged:
            absent[name] = None
    release = ".".join(version[:2])
    if "cudatoolkit" in absent:
        absent = {name if name != "cudatoolkit" else f"{name}={release}": None for name in absent}
    elif release and any(map(TOOLKIT.match, absent)):
        absent[f"cuda-version={release}"] = None  # the packages themselves have versions of their own
    conda = f"conda install -p {shlex.quote(str(prefix))}"
    forced = f"{conda} --force-reinstall {shlex.join(damaged)}" if damaged else ""
    plain = f"{conda} -c conda-forge {shlex.join(absent)}" if absent else ""
    return " && ".join(filter(None, (forced, plain)))


def _bringer(library: str, files: dict[str, bytes]) -> str | None:
    """The installed package that lists a library among its files, though it is gone."""
    wanted = f'/{library}"'.encode()
    names = (name.rsplit("-", 2)[0] for name, text in files.items() if wanted in text)
    return next(filter(NAME.fullmatch, names), None)


def _package(library: MissingLibrary, version: list[str]) -> str | None:
    name = re.sub(r"-cu\d+$", "", library.package or "")
    package = PACKAGES.get(name)
    old = version[0].isdigit() and whole_number(version[0]) < SPLIT_IN
    return "cudatoolkit" if package and old and TOOLKIT.match(package) else package
