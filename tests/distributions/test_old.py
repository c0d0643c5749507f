"""Libtorchs of C++ ABI 0: a C++, a CMake and a Nim program are built and run with torchlink's flags.

`linear-torch-1.1.0.pt` was saved by torch 1.1.0: a ScriptModule with the weight [[1, 2, 3, 4], [0, 0, 1, -1]]
and the bias [0.5, 0.25]. `containers-VERSION.pt` was saved by the torch of that version with
`tools/make_old_models.py`. Newer formats are nothing that an old libtorch reads.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import REPOSITORY, run_clean
from tests.distributions.programs import HAS_CUDA, build_cxx, build_nim, done, says
from tests.distributions.wheels import unpack
from torchlink.plan import PlanOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Result

pytestmark = [pytest.mark.matrix, pytest.mark.compile]
CPU = PlanOptions(cpu_only=True)
WHEELS = {
    "1.1.0": "torch-1.1.0-cp37-cp37m-manylinux1_x86_64",
    "1.4.0": "torch-1.4.0-cp37-cp37m-manylinux1_x86_64",
    "1.10.2": "torch-1.10.2-cp37-cp37m-manylinux1_x86_64",
}
# Of the containers model: a tensor, list[int], float, bool, list[Tensor], tuple and dict.
CONTAINERS = (
    "float32[2]",
    "[1, 2]",
    "2.5",
    "true",
    "[float32[2]=full:3]",
    "(float32[2], 7)",
    "{'k': float32[2]}",
)
LOADER_1_1 = f"""\
#include <torch/script.h>
#include <iostream>
#include <memory>

int main() {{
  std::shared_ptr<torch::jit::script::Module> model =
      torch::jit::load(std::string("{REPOSITORY / "tests/data/linear-torch-1.1.0.pt"}"));
  std::vector<torch::jit::IValue> inputs{{torch::ones({{1, 4}})}};
  at::Tensor output = model->forward(inputs).toTensor();
  std::cout << output[0][0].item<float>() << " " << output[0][1].item<float>() << std::endl;
  return 0;
}}
"""
LISTS = """\
cmake_minimum_required(VERSION 3.18)
project(existing LANGUAGES CXX)
find_package(Torch REQUIRED)
add_executable(app main.cpp)
target_link_libraries(app "${TORCH_LIBRARIES}")
set_property(TARGET app PROPERTY CXX_STANDARD 11)
"""


@pytest.fixture(scope="module")
def torch_1_13(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """1.13.1, whose CPU libraries need no other package."""
    site = tmp_path_factory.mktemp("torch 1.13")
    yield unpack("torch-1.13.1-cp310-cp310-manylinux1_x86_64", site)
    shutil.rmtree(site)


@pytest.fixture(scope="module")
def torch_1_1(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """1.1.0: libtorch, libcaffe2 and libc10, and CUDA in libcaffe2_gpu."""
    site = tmp_path_factory.mktemp("torch 1.1")
    yield unpack(WHEELS["1.1.0"], site)
    shutil.rmtree(site)


def test_a_cxx_program_of_1_13(torch_1_13: Path, tmp_path: Path) -> None:
    assert says(build_cxx(torch_1_13, HAS_CUDA, tmp_path / "app", CPU)) == "cuda 0"


@pytest.mark.nim
def test_a_nim_program_of_1_13(torch_1_13: Path, tmp_path: Path) -> None:
    assert says(build_nim(torch_1_13, HAS_CUDA, tmp_path / "nim", CPU)) == "cuda 0"


@pytest.mark.parametrize("via", ["cxx", "cmake", "nim"])
def test_the_reference_loader_of_1_13(torch_1_13: Path, via: str, torchlink: Callable[..., Result]) -> None:
    result = torchlink("verify", "--json", "--cpu", "--via", via, "--libtorch", torch_1_13)
    report = json.loads(result.out)
    assert (result.code, report["ok"]) == (0, True), result.err
    assert (report["libtorch"]["cxx11_abi"], report["libtorch"]["cxx_standard"]) == (0, 14)


def test_companions_that_1_13_lacks_are_named(torch_1_13: Path, torchlink: Callable[..., Result]) -> None:
    note = torchlink("flags", "--libtorch", torch_1_13).err
    assert "nvidia-cudnn-cu11" in note
    assert "--cpu does without" in note
    assert torchlink("flags", "--cpu", "--libtorch", torch_1_13).err == ""


@pytest.mark.parametrize("options", [PlanOptions(), CPU], ids=["whole", "cpu"])
def test_a_cxx_program_of_1_1(torch_1_1: Path, tmp_path: Path, options: PlanOptions) -> None:
    assert says(build_cxx(torch_1_1, LOADER_1_1, tmp_path / "app", options)) == "10.5 0.25"


@pytest.mark.nim
def test_a_nim_program_of_1_1(torch_1_1: Path, tmp_path: Path) -> None:
    assert says(build_nim(torch_1_1, LOADER_1_1, tmp_path / "nim")) == "10.5 0.25"


@pytest.mark.cmake
def test_a_cmake_project_of_1_1(torch_1_1: Path, tmp_path: Path, torchlink: Callable[..., Result]) -> None:
    (tmp_path / "CMakeLists.txt").write_text(LISTS)
    (tmp_path / "main.cpp").write_text(LOADER_1_1)
    prefix = torchlink("cmake", "prefix", "--libtorch", torch_1_1).out.strip()
    done("cmake", "-S", ".", "-B", "build", f"-DCMAKE_PREFIX_PATH={prefix}", cwd=tmp_path)
    done("cmake", "--build", "build", cwd=tmp_path)
    assert says(tmp_path / "build/app") == "10.5 0.25"


@pytest.fixture(scope="module", params=WHEELS)
def old(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """One release for each interface of the reference loader before 1.11, and its version."""
    site = tmp_path_factory.mktemp("old torch")
    yield request.param, unpack(WHEELS[request.param], site)
    shutil.rmtree(site)


def proved(torchlink: Callable[..., Result], root: Path, *arguments: str | Path) -> dict[str, Any]:
    """Return the one model of a verification that must succeed."""
    result = torchlink("verify", "--json", "--libtorch", root, *arguments)
    report = json.loads(result.out)
    assert (result.code, report.get("ok")) == (0, True), f"{result.out}\n{result.err}"
    (model,) = report["models"]
    assert isinstance(model, dict)
    return model


@pytest.mark.parametrize(
    "via",
    ["cxx", pytest.param("cmake", marks=pytest.mark.cmake), pytest.param("nim", marks=pytest.mark.nim)],
)
def test_the_reference_loader_of_old_releases(
    old: tuple[str, Path], via: str, torchlink: Callable[..., Result]
) -> None:
    model = proved(torchlink, old[1], "--via", via, REPOSITORY / "tests/data/linear-torch-1.1.0.pt")
    assert model["inputs"][0]["input"] == "float32[1,4]"  # worked out from the graph
    assert model["outputs"][0]["values"] == [10.5, 0.25]


def test_lists_tuples_and_dicts_of_old_releases(
    old: tuple[str, Path], torchlink: Callable[..., Result]
) -> None:
    version, root = old
    file = REPOSITORY / f"tests/data/containers-{version}.pt"
    words = [word for text in CONTAINERS for word in ("--input", text)]
    outputs = {each["label"]: each for each in proved(torchlink, root, file, *words)["outputs"]}
    for label in ("output[0]", "output[1][0]", "output[3].out"):
        assert outputs[label]["values"] == [13.5, 13.5]
    assert outputs["output[1][1]"]["values"] == [1, 1]
    numbers = {label: each["value"] for label, each in outputs.items() if "value" in each}
    assert numbers == {"output[2]": 3, "output[4][0]": 1, "output[4][1]": 2, "output[5][0]": 2.5}


def test_inputs_of_old_releases_are_worked_out_for_containers_too(
    old: tuple[str, Path], torchlink: Callable[..., Result]
) -> None:
    version, root = old
    model = proved(torchlink, root, REPOSITORY / f"tests/data/containers-{version}.pt")
    assert model["inputs"][-1]["input"].startswith("{'k': ")


def test_the_model_that_torchlink_carries_runs_on_old_releases(
    old: tuple[str, Path], torchlink: Callable[..., Result]
) -> None:
    assert proved(torchlink, old[1])["outputs"][0]["values"] == [2.5, -0.75]


def test_an_error_of_an_old_release_is_shown_without_a_backtrace(
    torch_1_1: Path, torchlink: Callable[..., Result]
) -> None:
    file = REPOSITORY / "tests/data/containers-1.1.0.pt"
    words = [word for text in CONTAINERS for word in ("--input", text.replace("'k'", "'other'"))]
    result = torchlink("verify", "--libtorch", torch_1_1, file, *words)
    assert result.code == 1
    assert "KeyError: 'k'" in result.out
    assert "frame #" not in result.out


@pytest.mark.parametrize("newer", ["templates/loader/tiny.pt", "tests/data/containers-1.4.0.pt"])
def test_a_model_that_is_newer_than_1_1_is_reported(
    torch_1_1: Path, newer: str, torchlink: Callable[..., Result]
) -> None:
    result = torchlink("verify", "--libtorch", torch_1_1, REPOSITORY / newer)
    assert result.code == 1
    assert "needs a libtorch at least as new" in result.out.replace("\n           ", "")


@pytest.mark.cmake
def test_the_project_of_cmake_init_on_old_releases(
    old: tuple[str, Path], tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    assert torchlink("cmake", "init", tmp_path, "--libtorch", old[1]).code == 0
    done("cmake", "-S", ".", "-B", "build", cwd=tmp_path)
    done("cmake", "--build", "build", cwd=tmp_path)
    ran = run_clean(tmp_path / "build/app", REPOSITORY / "templates/loader/tiny-1.1.pt")
    assert "2.5000 -0.7500" in ran.stdout, ran.stderr


@pytest.mark.nim
def test_the_project_of_nim_init_on_old_releases(
    old: tuple[str, Path], tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    assert torchlink("nim", "init", tmp_path, "--libtorch", old[1]).code == 0
    done("nim", "cpp", "--hints:off", "--nimcache:nimcache", "main.nim", cwd=tmp_path)
    ran = run_clean(tmp_path / "main", REPOSITORY / "templates/loader/tiny-1.1.pt", "1", "4")
    assert "2.5 -0.75" in ran.stdout, ran.stderr
