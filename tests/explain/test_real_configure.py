"""Failures of a real CMake: the cause is named, and its fix makes the project configure."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.conftest import unmet
from tests.explain.real import Place, fix

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.cmake

HEAD = "cmake_minimum_required(VERSION 3.18)\nproject(app CXX)\n"
FIND = "find_package(Torch REQUIRED)\n"
APP = 'add_executable(app main.cpp)\ntarget_link_libraries(app "${TORCH_LIBRARIES}")\n'
CONFIGURE = "cmake -S . -B build"
# In the CMake files of a CPU build the parts for CUDA and XPU are switched off by these words.
SWITCHES = {
    "cuda": (
        ("if(0)", "if(1)"),
        ("set(CAFFE2_USE_CUDA 0)", "set(CAFFE2_USE_CUDA 1)"),
        ("if( AND", "if(1 AND"),
    ),
    "xpu": (("if(OFF)\n  # Add current", "if(ON)\n  # Add current"), ("if(OFF AND", "if(ON AND")),
}


@pytest.fixture
def place(tmp_path: Path, torch_root: Path) -> Place:
    here = Place(tmp_path, torch_root)
    here.write("main.cpp", "int main() { return 0; }\n")
    for name in ("CMAKE_PREFIX_PATH", "Torch_DIR", "TORCH_INSTALL_PREFIX"):
        here.environment.pop(name, None)
    return here


@pytest.fixture
def copied(place: Place, torch_root: Path) -> Path:
    """A libtorch whose CMake files are a copy, to be changed."""
    root = place.directory / "libtorch"
    (root / "share").mkdir(parents=True)
    shutil.copytree(torch_root / "share/cmake", root / "share/cmake")
    for name in ("lib", "include"):
        (root / name).symlink_to(torch_root / name)
    return root


def cmake_major() -> int:
    said = subprocess.check_output(["cmake", "--version"], text=True)
    return int(said.split()[2].split(".")[0])


def test_libtorch_is_not_found(place: Place) -> None:
    place.write("CMakeLists.txt", HEAD + FIND + APP)
    found = place.cause_of(CONFIGURE)
    assert (found.cause.id, found.certainty) == ("cmake-torch-not-found", "certain")
    place.works(fix(found, "torchlink cmake configure"))
    place.works("cmake --build build && ./build/app")


@pytest.mark.parametrize("asked", ["99.1 REQUIRED", "1.1 EXACT REQUIRED", "99 REQUIRED CONFIG"])
def test_another_version_is_asked_for(place: Place, torch_root: Path, asked: str) -> None:
    place.write("CMakeLists.txt", f"{HEAD}find_package(Torch {asked})\n{APP}")
    found = place.cause_of(f"{CONFIGURE} -DCMAKE_PREFIX_PATH={torch_root}")
    assert (found.cause.id, found.certainty) == ("cmake-torch-version-rejected", "certain")
    version = re.match(r"\d+\.\d+", place.works(fix(found, "torchlink find --print version")))
    assert version is not None
    place.write("CMakeLists.txt", f"{HEAD}find_package(Torch {version[0]} REQUIRED)\n{APP}")
    place.works("rm -rf build && torchlink cmake configure -S . -B build")


def test_a_version_that_torchlinks_own_files_reject(place: Place) -> None:
    place.write("CMakeLists.txt", f"{HEAD}find_package(Torch 99.1 REQUIRED)\n{APP}")
    assert (
        place.cause_of("torchlink cmake configure -S . -B build").cause.id == "cmake-torch-version-rejected"
    )


def test_cmake_4_and_an_old_minimum(place: Place) -> None:
    if cmake_major() < 4:
        unmet("CMake 4")
    place.write("CMakeLists.txt", HEAD.replace("3.18", "3.1") + FIND + APP)
    found = place.cause_of(CONFIGURE)
    assert (found.cause.id, found.certainty) == ("cmake-too-new", "likely")  # nothing in it is of libtorch
    place.works(fix(found, "torchlink cmake configure"))


def test_a_newer_cmake_is_required(place: Place) -> None:
    place.write("CMakeLists.txt", HEAD.replace("3.18", "99.1") + FIND)
    found = place.cause_of(CONFIGURE)
    assert (found.cause.id, found.certainty) == ("cmake-too-old", "likely")  # nothing in it is of libtorch


@pytest.mark.parametrize("name", ["Torch::Torch", "torch::torch"])
def test_a_target_that_libtorch_does_not_have(place: Place, name: str) -> None:
    beginning = f"{HEAD}{FIND}add_executable(net main.cpp)\n"
    place.write("CMakeLists.txt", f"{beginning}target_link_libraries(net {name})\n")
    found = place.cause_of("torchlink cmake configure -S . -B build")
    assert (found.cause.id, found.certainty) == ("cmake-torch-target", "certain")
    linked = fix(found, "target_link_libraries(app").replace("(app", "(net")
    place.write("CMakeLists.txt", beginning + linked)
    place.works("torchlink cmake configure -S . -B build")


def test_no_nvcc(place: Place) -> None:
    place.write("CMakeLists.txt", HEAD.replace("app CXX", "app CXX CUDA") + FIND + APP)
    found = place.cause_of(f"CUDACXX=/nowhere/nvcc {CONFIGURE}")
    assert found.cause.id == "nvcc-missing"
    place.write("CMakeLists.txt", HEAD + FIND + APP)  # the fix's text: take CUDA out of project()
    place.works("rm -rf build")
    place.works(fix(found, "torchlink cmake configure"))


def test_files_of_libtorch_are_missing(place: Place, copied: Path) -> None:
    shutil.rmtree(copied / "share/cmake/Caffe2")
    place.write("CMakeLists.txt", HEAD + FIND + APP)
    found = place.cause_of(f"{CONFIGURE} -DCMAKE_PREFIX_PATH={copied}")
    assert (found.cause.id, found.certainty) == ("cmake-broken-package", "certain")
    place.works(fix(found, "torchlink cmake configure"))


@pytest.mark.parametrize(
    ("kind", "cause"), [("cuda", "cmake-cuda-toolkit-missing"), ("xpu", "cmake-xpu-runtime-missing")]
)
def test_an_accelerators_toolkit_is_wanted(place: Place, copied: Path, kind: str, cause: str) -> None:
    config = copied / "share/cmake/Caffe2/Caffe2Config.cmake"
    text = config.read_text()
    for old, new in SWITCHES[kind]:
        text = text.replace(old, new)
    if text == config.read_text():
        unmet("a CPU build of libtorch")
    config.write_text(text)
    place.write("CMakeLists.txt", HEAD + FIND + APP)
    none = "-DCUDA_TOOLKIT_ROOT_DIR=/nowhere -DCMAKE_DISABLE_FIND_PACKAGE_CUDA=ON"
    found = place.cause_of(f"{CONFIGURE} -DCMAKE_PREFIX_PATH={copied} {none}")
    assert (found.cause.id, found.certainty) == (cause, "certain")
    place.works("rm -rf build")
    place.works(fix(found, "torchlink cmake configure"))


def test_a_target_that_the_toolkit_no_longer_has(place: Place) -> None:
    target = (
        "add_library(torch::nvtoolsext INTERFACE IMPORTED)\n"
        "set_property(TARGET torch::nvtoolsext PROPERTY INTERFACE_LINK_LIBRARIES CUDA::nvToolsExt)\n"
        "add_executable(app main.cpp)\ntarget_link_libraries(app torch::nvtoolsext)\n"
    )
    place.write("CMakeLists.txt", HEAD + target)
    assert place.cause_of(CONFIGURE).cause.id == "cmake-nvtoolsext-missing"


def test_a_warning_is_named_only_when_nothing_else_is_wrong(place: Place, torch_root: Path) -> None:
    place.write("CMakeLists.txt", HEAD + FIND + APP)
    log = place.works(f"{CONFIGURE} -DCMAKE_PREFIX_PATH={torch_root}")
    if "kineto" not in log:
        unmet("a libtorch whose CMake files warn")
    found = place.cause_of(f"rm -rf build; {CONFIGURE} -DCMAKE_PREFIX_PATH={torch_root}; false")
    assert found.cause.id == "cmake-kineto-warning"
    place.write("CMakeLists.txt", HEAD + FIND + "enable_language(CUDA)\n")
    broken = place.cause_of(
        f"rm -rf build; CUDACXX=/nowhere/nvcc {CONFIGURE} -DCMAKE_PREFIX_PATH={torch_root}"
    )
    assert broken.cause.id == "nvcc-missing"
