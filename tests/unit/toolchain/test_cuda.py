"""CUDA's headers are found next to a libtorch or in a toolkit of its major version, and only if complete."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fake_libtorch import CUDA, companion, fake_libtorch
from torchlink.plan import PlanOptions, make_plan
from torchlink.remedies.cuda_headers import headers_remedy
from torchlink.remedies.notes import notes_on
from torchlink.toolchain.cuda import asks_for_cuda, cuda_include_dirs, missing_headers

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch

MAJOR = 99  # no toolkit on this machine has it


@pytest.fixture(autouse=True)
def no_toolkit_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(variable, raising=False)


def headers(directory: Path, *names: str, major: int = MAJOR) -> Path:
    """A directory with headers; cuda.h has the version."""
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        text = f"/* long */\n#define CUDA_VERSION {major * 1000 + 20}\n" if name == "cuda.h" else ""
        (directory / name).write_text(text)
    return directory


def toolkit(root: Path, major: int = MAJOR) -> Path:
    return headers(root / "include", "cuda.h", "cuda_runtime_api.h", "crt/host_defines.h", major=major)


def wheel(tmp_path: Path, *names: str) -> Libtorch:
    """A CUDA libtorch whose companion packages contain these headers."""
    site = tmp_path / "site-packages"
    dirs = (
        companion(site / "nvidia/cu99/lib", "libcudart.so.99", in_place=True),
        companion(site / "nvidia/cudnn/lib", "libcudnn.so.9", in_place=True),
    )
    headers(site / "nvidia/cu99/include", "cuda.h", *names)
    return fake_libtorch(
        site / "torch", CUDA, accelerator="cuda", accelerator_version=f"{MAJOR}.2", companion_dirs=dirs
    )


def test_the_packages_beside_torch_suffice_where_they_are_complete(tmp_path: Path) -> None:
    libtorch = wheel(tmp_path, "cuda_runtime_api.h", "crt/host_defines.h")
    headers(tmp_path / "site-packages/nvidia/cudnn/include", "cudnn.h")
    assert cuda_include_dirs(libtorch) == (
        tmp_path / "site-packages/nvidia/cu99/include",
        tmp_path / "site-packages/nvidia/cudnn/include",
    )


def test_headers_that_do_not_compile_are_not_named(tmp_path: Path) -> None:
    assert cuda_include_dirs(wheel(tmp_path, "cuda_runtime_api.h")) == ()


@pytest.mark.parametrize("variable", ["CUDA_HOME", "CUDA_PATH", "PATH"])
def test_a_toolkit_follows_packages_that_lack_something(
    tmp_path: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    include = toolkit(tmp_path / "cuda")
    nvcc = tmp_path / "cuda/bin/nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text("#!/bin/sh\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv(variable, str(nvcc.parent if variable == "PATH" else nvcc.parent.parent))
    libtorch = wheel(tmp_path, "cuda_runtime_api.h")
    assert cuda_include_dirs(libtorch) == (tmp_path / "site-packages/nvidia/cu99/include", include)


def test_a_toolkit_of_another_major_version_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toolkit(tmp_path / "cuda", major=12)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    assert cuda_include_dirs(wheel(tmp_path)) == ()


def test_a_wrapper_called_nvcc_is_not_a_toolkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = tmp_path / "bin/nvcc"
    wrapper.parent.mkdir()
    wrapper.write_text("#!/bin/sh\nexit 1\n")
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", str(wrapper.parent))
    assert cuda_include_dirs(wheel(tmp_path)) == ()


def test_the_package_of_a_header_that_is_missing_is_named(tmp_path: Path) -> None:
    libtorch = wheel(tmp_path, "cuda_runtime_api.h")
    remedy = headers_remedy(libtorch)
    assert remedy
    assert "of CUDA's own headers crt/host_defines.h is missing" in remedy.message
    assert """pip install --target "$new" 'nvidia-cuda-crt==99.2.*' && cp -rn""" in remedy.command
    assert f" {tmp_path}/site-packages/" in remedy.command
    assert remedy.text.endswith(", or a CUDA 99 toolkit (CUDA_HOME)")
    older = headers_remedy(libtorch._replace(accelerator_version="98.1"))
    assert older
    assert "nvidia-cuda-crt==98.1.*" in older.text
    assert missing_headers(libtorch._replace(accelerator="cpu")) is None


def test_missing_headers_are_no_note_on_a_plan(tmp_path: Path) -> None:
    assert notes_on(make_plan(wheel(tmp_path, "cuda_runtime_api.h"))) == ()


def test_nothing_is_missing_where_headers_are_complete(tmp_path: Path) -> None:
    assert missing_headers(wheel(tmp_path, "cuda_runtime_api.h", "crt/host_defines.h")) is None


def test_without_packages_only_a_toolkit_helps(tmp_path: Path) -> None:
    remedy = headers_remedy(wheel(tmp_path)._replace(companion_dirs=()))
    assert remedy
    assert (remedy.command, remedy.text) == ("", "a CUDA 99 toolkit (CUDA_HOME)")


@pytest.mark.parametrize(
    "line",
    [
        "#include <c10/cuda/CUDAStream.h>",
        '  # include "ATen/cuda/CUDAContext.h"',
        "#include <cuda_runtime.h>",
        "#include <cublas_v2.h>",
    ],
)
def test_a_source_that_asks_for_cudas_headers_is_told(line: str) -> None:
    assert asks_for_cuda(f"#include <string>\n{line}\n".encode())


@pytest.mark.parametrize(
    "line", ["#include <torch/cuda.h>", "// #include <cuda.h>", "#include <torch/script.h>"]
)
def test_other_sources_do_not_include_them(line: str) -> None:
    assert not asks_for_cuda(f"{line}\n".encode())


def test_cpu_programs_and_cpu_builds_get_none(tmp_path: Path) -> None:
    libtorch = wheel(tmp_path, "cuda_runtime_api.h", "crt/host_defines.h")
    assert make_plan(libtorch).cuda_include_dirs
    assert make_plan(libtorch, PlanOptions(cpu_only=True)).cuda_include_dirs == ()
    assert cuda_include_dirs(libtorch._replace(accelerator="cpu")) == ()
