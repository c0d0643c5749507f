"""A real CUDA wheel with its nvidia packages, on a machine that needs neither toolkit nor GPU.

`TORCHLINK_TEST_CUDA_SITE` names a site-packages directory that has both already; else five gigabytes are
downloaded, and deleted at the end. A toolkit that the loader knows (`ldconfig -p`) hides what is missing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.distributions.programs import HAS_CUDA, build_cxx, build_nim, done, says
from tests.distributions.wheels import install_companions, unpack
from torchlink.plan import PlanOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Result

pytestmark = [pytest.mark.matrix, pytest.mark.compile, pytest.mark.xdist_group("cuda")]
WHEEL = "torch-2.15.0-cp312-cp312-manylinux_2_28_x86_64"
CPU = PlanOptions(cpu_only=True)
LISTS = """\
cmake_minimum_required(VERSION 3.18)
project(existing LANGUAGES CXX)
find_package(Torch REQUIRED)
add_executable(app main.cpp)
target_link_libraries(app "${TORCH_LIBRARIES}")
set_property(TARGET app PROPERTY CXX_STANDARD 17)
"""


@pytest.fixture(scope="module")
def cuda(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The root of a CUDA torch with its companions."""
    named = os.environ.get("TORCHLINK_TEST_CUDA_SITE")
    if named:
        yield Path(named) / "torch"
        return
    site = tmp_path_factory.mktemp("cuda site")
    root = unpack(WHEEL, site)
    install_companions(WHEEL, site)
    yield root
    shutil.rmtree(site)


@pytest.fixture
def bare(cuda: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same torch copied away from its companions."""
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    for part in ("lib", "include"):
        shutil.copytree(cuda / part, tmp_path / "bare" / part, copy_function=link_or_copy)
    yield tmp_path / "bare"
    shutil.rmtree(tmp_path / "bare")


def link_or_copy(source: str, target: str) -> str:
    """Create a hard link if possible, instead of a second copy of gigabytes."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def toolkit_hides_it() -> bool:
    """Whether the loader finds CUDA's libraries without torch's companions."""
    listed = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False)
    return "libcupti.so" in listed.stdout


def test_a_program_keeps_libtorch_cuda(cuda: Path, tmp_path: Path) -> None:
    assert says(build_cxx(cuda, HAS_CUDA, tmp_path / "app")) == "cuda 1"


def test_a_cpu_program_leaves_it_out(cuda: Path, tmp_path: Path) -> None:
    assert says(build_cxx(cuda, HAS_CUDA, tmp_path / "app", CPU)) == "cuda 0"


@pytest.mark.nim
def test_a_nim_program_keeps_it(cuda: Path, tmp_path: Path) -> None:
    assert says(build_nim(cuda, HAS_CUDA, tmp_path / "nim")) == "cuda 1"


@pytest.mark.cmake
def test_a_project_that_upstreams_config_fails_builds(
    cuda: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    (tmp_path / "CMakeLists.txt").write_text(LISTS)
    (tmp_path / "main.cpp").write_text(HAS_CUDA)
    if not shutil.which("nvcc") and not Path("/usr/local/cuda/include").is_dir():
        upstream = ["cmake", "-S", ".", "-B", "upstream", f"-DCMAKE_PREFIX_PATH={cuda / 'share/cmake'}"]
        failed = subprocess.run(upstream, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert "uses CUDA but I cannot find the CUDA" in failed.stderr
    prefix = torchlink("cmake", "prefix", "--libtorch", cuda).out.strip()
    done("cmake", "-S", ".", "-B", "build", f"-DCMAKE_PREFIX_PATH={prefix}", cwd=tmp_path)
    done("cmake", "--build", "build", cwd=tmp_path)
    assert says(tmp_path / "build/app") == "cuda 1"


@pytest.mark.cmake
def test_cmake_does_not_mind_another_toolkit_or_a_wrapper(
    cuda: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    (tmp_path / "CMakeLists.txt").write_text(LISTS)
    (tmp_path / "main.cpp").write_text(HAS_CUDA)
    nvcc = tmp_path / "old/bin/nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text("#!/bin/sh\nexit 1\n")
    nvcc.chmod(0o755)
    (tmp_path / "old/include").mkdir()
    (tmp_path / "old/include/cuda.h").write_text("#define CUDA_VERSION 11080\n")
    (tmp_path / "old/include/cuda_runtime_api.h").touch()
    old = {"CUDA_HOME": str(tmp_path / "old"), "PATH": f"{nvcc.parent}{os.pathsep}{os.environ['PATH']}"}
    prefix = torchlink("cmake", "prefix", "--libtorch", cuda).out.strip()
    done("cmake", "-S", ".", "-B", "build", f"-DCMAKE_PREFIX_PATH={prefix}", cwd=tmp_path, **old)
    done("cmake", "--build", "build", cwd=tmp_path, **old)
    assert says(tmp_path / "build/app") == "cuda 1"


@pytest.mark.parametrize("via", ["cxx", "cmake", "nim"])
def test_the_reference_loader_runs_on_the_cpu(cuda: Path, via: str, torchlink: Callable[..., Result]) -> None:
    result = torchlink("verify", "--json", "--via", via, "--libtorch", cuda)
    report = json.loads(result.out)
    assert (result.code, report["ok"]) == (0, True), result.err
    assert (report["libtorch"]["accelerator"], report["libtorch"]["layout_intact"]) == ("cuda", True)


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there is a driver")
def test_without_a_driver_that_is_one_sentence(cuda: Path, torchlink: Callable[..., Result]) -> None:
    result = torchlink("verify", "--device", "cuda", "--libtorch", cuda)
    assert result.code == 1
    assert (
        "This is a CUDA 13.2 build and libtorch_cuda was loaded, but there is no NVIDIA driver." in result.out
    )


def test_companions_of_an_active_environment_are_used_for_a_copied_libtorch(
    cuda: Path, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "venv/lib/python3.12/site-packages"
    site.parent.mkdir(parents=True)
    site.symlink_to(cuda.parent)
    (tmp_path / "venv/pyvenv.cfg").write_text("home = /nowhere\n")
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "venv"))
    assert says(build_cxx(bare, HAS_CUDA, tmp_path / "app")) == "cuda 1"


@pytest.mark.skipif(toolkit_hides_it(), reason="a CUDA toolkit brings the companions")
def test_missing_companions_are_named_before_and_after_the_build(
    bare: Path, torchlink: Callable[..., Result]
) -> None:
    note = torchlink("flags", "--libtorch", bare).err
    assert "libcupti.so.13" in note
    assert "nvidia-cuda-cupti" in note
    assert "--cpu does not help" in note
    assert len(note.splitlines()) <= 3
    result = torchlink("verify", "--cpu", "--libtorch", bare)
    assert result.code == 1
    assert "nvidia-cuda-cupti" in result.err
