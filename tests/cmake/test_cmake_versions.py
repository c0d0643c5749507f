"""Old and new versions of CMake, installed from PyPI, tens of megabytes each."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cmake.test_prefix import APP, FIND, HEAD, prefix_of
from tests.cmake.toy import built, configure, configured, dynamic, project
from tests.conftest import run_clean

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result
    from torchlink.libtorch.facts import Libtorch

pytestmark = [pytest.mark.cmake, pytest.mark.matrix]


@pytest.fixture(scope="module", params=["3.18.*", "3.20.*", "3.25.*", "3.31.*", "4.*"])
def cmake(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A CMake of that version."""
    there = tmp_path_factory.mktemp("cmake")
    install = (
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--target",
        str(there),
        f"cmake=={request.param}",
    )
    subprocess.run(install, check=True)
    return str(there / "cmake/data/bin/cmake")


@pytest.mark.parametrize("generator", ["Ninja", "Unix Makefiles"])
def test_an_existing_project_builds_and_runs(
    toy: Libtorch, tmp_path: Path, cmake: str, generator: str
) -> None:
    old = 'set(CMAKE_CXX_FLAGS "${CMAKE_CXX_FLAGS} -std=c++14")\n'
    configured(project(tmp_path, HEAD + old + FIND + APP), prefix_of(toy), "-G", generator, cmake=cmake)
    built(tmp_path, cmake=cmake)
    assert run_clean(tmp_path / "build/app").returncode == 0
    assert "libtorch_cuda.so" in dynamic(tmp_path / "build/app")["NEEDED"]


def test_a_new_project_configures(
    torch_root: Path, tmp_path: Path, torchlink: Callable[..., Result], cmake: str
) -> None:
    assert torchlink("cmake", "init", tmp_path, "--libtorch", torch_root).code == 0
    version = subprocess.check_output([cmake, "--version"], text=True)
    presets = () if re.search(r" 3\.(18|20)\.", version) else ("--preset", "default")  # 3.21 reads them
    assert "Found Torch" in configured(tmp_path, *presets, cmake=cmake)


def test_an_existing_project_may_ask_for_the_policies_of_an_old_cmake(
    toy: Libtorch, tmp_path: Path, cmake: str
) -> None:
    if " 4." in subprocess.check_output([cmake, "--version"], text=True):
        return  # it refuses such a project by itself
    lists = f"cmake_minimum_required(VERSION 2.8.12)\nproject(existing CXX)\n{FIND}{APP}"
    done = configure(project(tmp_path, lists), prefix_of(toy), cmake=cmake)
    assert done.returncode == 0, done.stderr
    built(tmp_path, cmake=cmake)
    assert run_clean(tmp_path / "build/app").returncode == 0
