"""The conda command that installs what a libtorch from a conda package lacks."""

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

# PyPI package without its CUDA suffix → conda-forge package (the channel nvidia uses the same names).
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
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # of a conda package
SPLIT_IN = 12  # the first CUDA major version whose toolkit is many packages; before it, cudatoolkit is one
TOOLKIT = re.compile(r"cuda-|lib(?:cu|nvjitlink)")  # how the names of the toolkit's packages begin
TORCH = re.compile(r"(?:lib)?(?:py)?torch-\d")  # `pytorch-2.9.1-….json`, `libtorch-…`


def conda_prefix(libtorch: Libtorch) -> Path | None:
    """Return the conda environment whose packages include the libtorch, or None."""
    for prefix in (libtorch.root, *libtorch.root.parents[:4]):
        meta = prefix / "conda-meta"
        if is_dir(meta):
            return prefix if any(map(TORCH.match, names_in(meta))) else None
    return None


def conda_command(libtorch: Libtorch, prefix: Path, missing: Iterable[MissingLibrary]) -> str:
    """Return the command; empty if no package is known for any of the libraries."""
    records = {
        name: read_bytes(prefix / "conda-meta" / name, LONGEST_JSON)
        for name in names_in(prefix / "conda-meta")
    }
    owners = {library: _owner(library.name, records) for library in missing}
    damaged = dict.fromkeys(package for package in owners.values() if package)
    version = (libtorch.accelerator_version or "").split(".")
    absent: dict[str, None] = {}
    for library, owner in owners.items():
        name = None if owner else _package(library, version)
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


def _owner(library: str, records: dict[str, bytes]) -> str | None:
    """Return the installed package whose record lists a library, although its file is gone."""
    wanted = f'/{library}"'.encode()
    names = (name.rsplit("-", 2)[0] for name, text in records.items() if wanted in text)
    return next(filter(NAME.fullmatch, names), None)


def _package(library: MissingLibrary, version: list[str]) -> str | None:
    name = re.sub(r"-cu\d+$", "", library.package or "")
    package = PACKAGES.get(name)
    old = version[0].isdigit() and whole_number(version[0]) < SPLIT_IN
    return "cudatoolkit" if package and old and TOOLKIT.match(package) else package
