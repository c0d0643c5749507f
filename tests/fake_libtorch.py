"""Fake libtorchs for link plans: facts, and empty files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torchlink.libtorch.facts import CompanionDir, Libtorch
from torchlink.toolchain.types import Compiler

CPU = (
    "libc10.so",
    "libshm.so",
    "libtorch.so",
    "libtorch_cpu.so",
    "libtorch_global_deps.so",
    "libtorch_python.so",
)
TEST_LIBRARIES = (
    "libaoti_custom_ops.so",
    "libbackend_with_compiler.so",
    "libjitbackend_test.so",
    "libtorchbind_test.so",
)
CUDA = (
    *CPU,
    "libc10_cuda.so",
    "libcaffe2_nvrtc.so",
    "libgomp.so.1",
    "libtorch_cuda.so",
    "libtorch_cuda_linalg.so",
)


def fake_libtorch(root: Path, libraries: tuple[str, ...] = CPU, **facts: Any) -> Libtorch:
    """A libtorch in the layout of a pip install, with empty files for its libraries."""
    include_dirs = (root / "include", root / "include/torch/csrc/api/include")
    if not facts.get("packed"):
        include_dirs[1].mkdir(parents=True, exist_ok=True)
        (root / "lib").mkdir(exist_ok=True)
        for name in libraries:
            (root / "lib" / name).touch()
    defaults: dict[str, Any] = {
        "root": root,
        "packed": False,
        "layout": "pip",
        "found_by": "--libtorch",
        "version": "2.13.0+cpu",
        "version_from": "version.py",
        "platform": "linux",
        "arch": "x86_64",
        "cxx11_abi": 1,
        "cxx11_abi_from": None,
        "cxx_standard_required": 17,
        "cxx_standard": 20,
        "cxx_standard_from": "ATen/ATen.h",
        "include_dirs": include_dirs,
        "library_dir": root / "lib",
        "libraries": tuple(sorted(libraries)),
        "accelerator": "cpu",
        "accelerator_version": None,
        "search_kind": "runpath",
        "search_path": ("$ORIGIN",),
        "companion_dirs": (),
        "missing_libraries": (),
        "python": None,
        "conflicts": (),
    }
    return Libtorch(**{**defaults, **facts})


def companion(path: Path, *libraries: str, in_place: bool = False) -> CompanionDir:
    """A companion directory with empty files for its libraries."""
    path.mkdir(parents=True, exist_ok=True)
    for name in libraries:
        (path / name).touch()
    return CompanionDir(path=path, libraries=libraries, in_place=in_place)


def fake_compiler(**facts: Any) -> Compiler:
    """A g++ 12 for x86_64 Linux, but for what is said."""
    defaults: dict[str, Any] = {
        "command": ("g++",),
        "path": Path("/usr/bin/g++"),
        "kind": "gcc",
        "version": (12, 2, 0),
        "target": "x86_64-linux-gnu",
        "standards": (11, 14, 17, 20),
        "default_cxx11_abi": 1,
        "identity": "g++ 12",
        "include_dirs": ("/usr/include/c++/12", "/usr/local/include", "/usr/include"),
    }
    return Compiler(**{**defaults, **facts})
