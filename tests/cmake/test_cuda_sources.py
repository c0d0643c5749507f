"""Projects that compile CUDA, or include its headers, with torchlink's prefix; no CUDA compiler is needed here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.cmake.toy import built, compile_flags, configure, configured, project
from torchlink.compilation.cmake import write_prefix
from torchlink.plan import PlanOptions, make_plan

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch

pytestmark = pytest.mark.cmake

HEAD = "cmake_minimum_required(VERSION 3.18)\nproject(existing LANGUAGES CXX)\nfind_package(Torch REQUIRED)\n"
APP = "add_executable(app main.cpp)\ntarget_link_libraries(app ${TORCH_LIBRARIES})\n"
MAIN = "#include <toy.h>\n#include <cuda_runtime_api.h>\nint main() { return FROM_CUDA; }\n"


@pytest.fixture
def cuda(tmp_path: Path, toy: Libtorch, monkeypatch: pytest.MonkeyPatch) -> Libtorch:
    """The toy for a CUDA of which only a toolkit with a few headers is there."""
    include = tmp_path / "my toolkit/include"
    (include / "crt").mkdir(parents=True)
    (include / "crt/host_defines.h").touch()
    (include / "cuda_runtime_api.h").write_text("#define FROM_CUDA 0\n")
    (include / "cuda.h").write_text("#define CUDA_VERSION 99000\n")
    monkeypatch.setenv("CUDA_HOME", str(include.parent))
    return toy._replace(accelerator_version="99.0")


def prefix_of(libtorch: Libtorch, options: PlanOptions | None = None) -> str:
    return f"-DCMAKE_PREFIX_PATH={write_prefix(make_plan(libtorch, options or PlanOptions()))}"


@pytest.mark.parametrize("headers", ["system", "after"])
def test_cudas_headers_reach_targets_that_link(cuda: Libtorch, tmp_path: Path, headers: str) -> None:
    lists = project(tmp_path / "p", HEAD + APP, **{"main.cpp": MAIN})
    configured(lists, prefix_of(cuda, PlanOptions(headers=headers)))
    built(tmp_path / "p")


def test_a_cpu_program_gets_no_headers_of_cuda(cuda: Libtorch, tmp_path: Path) -> None:
    lists = project(tmp_path / "p", HEAD + APP, **{"main.cpp": MAIN})
    configured(lists, prefix_of(cuda, PlanOptions(cpu_only=True)))
    assert "toolkit" not in " ".join(compile_flags(tmp_path / "p")["app"])


def test_cuda_sources_that_are_not_compiled_are_reported(toy: Libtorch, tmp_path: Path) -> None:
    lists = HEAD + "add_library(kernels STATIC kernels.cu part.cpp)\n" + APP
    files = {"kernels.cu": "", "part.cpp": ""}
    text = " ".join(configure(project(tmp_path, lists, **files), prefix_of(toy)).stderr.split())
    assert "The .cu sources of kernels are not compiled" in text
    assert "-DTORCHLINK_ENABLE_CUDA=ON" in text


def test_cuda_sources_with_a_libtorch_without_cuda_cause_no_warning(toy: Libtorch, tmp_path: Path) -> None:
    """Upstream's file does not enable CUDA then either: the project has switched it off."""
    lists = (
        HEAD + "if(WITH_CUDA)\n  enable_language(CUDA)\nendif()\nadd_library(k STATIC k.cu part.cpp)\n" + APP
    )
    files = {"k.cu": "", "part.cpp": ""}
    out = configured(project(tmp_path, lists, **files), prefix_of(toy, PlanOptions(cpu_only=True)))
    assert "this is a build without CUDA" in out
    assert "TORCHLINK_ENABLE_CUDA" not in out


def test_cuda_can_be_enabled_from_outside(
    toy: Libtorch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDACXX", os.devnull)  # not a compiler, so that CMake says where it was asked for
    done = configure(project(tmp_path, HEAD + APP), prefix_of(toy), "-DTORCHLINK_ENABLE_CUDA=ON")
    assert done.returncode != 0
    assert "(enable_language)" in done.stderr
