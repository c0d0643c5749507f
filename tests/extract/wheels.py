"""Wheels made by the tests: a small CUDA torch and its companions, laid out like PyPI's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.libtorch.test_packed import pack
from tests.libtorch.trees import Fake, Library, build, make

if TYPE_CHECKING:
    from pathlib import Path

CUDA = Fake(
    version="2.15.0+cu132",
    headers="2.15.0",
    built="2.15.0",
    cmake="2.15.0",
    guard=20,
    cuda="13.2",
    libraries=("torch_cpu", "torch_cuda", "c10_cuda", "torch", "torch_python", "shm"),
    search_path="$ORIGIN/../../nvidia/cu13/lib:$ORIGIN",
    new_dtags=False,
    needed=(
        ("torch_cpu", ("libc10.so",)),
        ("torch_cuda", ("libc10_cuda.so", "libtorch_cpu.so", "libcublas.so.13")),
        ("c10_cuda", ("libc10.so", "libcudart.so.13")),
    ),
)
COMMIT = "d0f2af8b66b20da4baa50644c0cd3f887a2eae2e"


def torch_wheel(directory: Path, fake: Fake = CUDA) -> Path:
    """A wheel of torch."""
    site = directory / f"site-{len(list(directory.iterdir()))}"
    root = make(site / "torch", fake)
    with (root / "version.py").open("a") as version:
        version.write(f"git_version = {COMMIT!r}\n")
    (root / "bin").mkdir()
    (root / "bin/protoc").touch()
    (root / "bin/torch_shm_manager").touch()
    (root / "bin/torch_shm_manager").chmod(0o755)
    (root / "nn").mkdir()
    (root / "nn/__init__.py").touch()
    licences = site / "torch-2.15.0.dist-info/licenses"
    licences.mkdir(parents=True)
    (licences / "LICENSE").write_text("BSD\n")
    return pack(site, directory / f"torch-{fake.version}-cp312-cp312-manylinux_2_28_x86_64.whl")


def companion(directory: Path, name: str, libraries: dict[str, Library]) -> Path:
    """A wheel of libraries; each named with its directory, such as `nvidia/cu13/lib/libcublas.so.13`."""
    site = directory / f"site-{name}"
    for file, library in libraries.items():
        build(site / file, library)
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "License.txt").write_text("terms\n")
    (info / "METADATA").write_text(f"Name: {name}\n")
    return pack(site, directory / f"{name}-1.0-py3-none-manylinux2014_x86_64.whl")


def companions(directory: Path) -> list[Path]:
    """What `CUDA` needs: cublas, which needs cublasLt beside it and opens another by name, and the runtime."""
    beside = Library(search_path="$ORIGIN")
    return [
        companion(
            directory,
            "nvidia_cublas",
            {
                "nvidia/cu13/lib/libcublas.so.13": replace(beside, needed=("libcublasLt.so.13",)),
                "nvidia/cu13/lib/libcublasLt.so.13": beside,
                "nvidia/cu13/lib/libnvblas.so.13": beside,
            },
        ),
        companion(directory, "nvidia_cuda_runtime", {"nvidia/cu13/lib/libcudart.so.13": Library()}),
    ]
