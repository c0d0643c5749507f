"""`torchlink cmake configure` sets all that an existing project needs; the user's own arguments win."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from tests.cmake.toy import project
from tests.conftest import unmet
from tests.fake_libtorch import fake_libtorch
from torchlink.emit.cmake_configure import given_variables, initial_cache
from torchlink.toolchain.tools import find_tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

HEAD = "cmake_minimum_required(VERSION 3.18)\nproject(existing LANGUAGES CXX)\n"
TELL = 'message(STATUS "Torch_DIR=${Torch_DIR} python=${Python3_EXECUTABLE} launcher=${CMAKE_CXX_COMPILER_LAUNCHER}")\n'
FETCH = (
    "include(FetchContent)\nFetchContent_Declare({} URL https://libtorch.invalid/libtorch-shared-with-deps.zip)\n"
    "FetchContent_MakeAvailable({})\n"
)


def has_providers() -> bool:
    """Whether this CMake has dependency providers; before 3.24 what is not found is CMake's alone to say."""
    cmake = find_tool("cmake")
    return cmake is not None and cmake.version >= (3, 24)


@pytest.fixture
def configure(torch_root: Path, tmp_path: Path, torchlink: Callable[..., Result]) -> Callable[..., Result]:
    """Run it on a project of this text."""

    def call(lists: str, *arguments: str, **files: str) -> Result:
        project(tmp_path, HEAD + lists, **files)
        words = ("-S", tmp_path, "-B", tmp_path / "build", *arguments)
        return torchlink("cmake", "configure", "--libtorch", torch_root, *words)

    return call


@pytest.mark.cmake
def test_a_project_takes_the_libtorch_whatever_it_sets_itself(configure: Callable[..., Result]) -> None:
    lists = "set(CMAKE_PREFIX_PATH /opt/libtorch)\nset(Torch_DIR /opt/libtorch/share/cmake/Torch)\n"
    done = configure(f"{lists}find_package(Torch REQUIRED)\nfind_library(TP torch_python REQUIRED)\n{TELL}")
    assert done.code == 0, done.err
    assert "/cmake/libtorch-" in done.out
    assert "Warning" not in done.err


@pytest.mark.cmake
@pytest.mark.parametrize("asked", ["2.1 EXACT REQUIRED", "1.0...1.5 REQUIRED CONFIG", "99.0 REQUIRED"])
def test_a_version_requirement_that_is_not_met_is_reported_once(
    configure: Callable[..., Result], torch_root: Path, asked: str
) -> None:
    if not has_providers():
        unmet("CMake 3.24")
    done = configure(f"find_package(Torch {asked})\n{TELL}")
    assert done.code == 1
    said = " ".join(done.err.split())
    assert said.count("CMake Error") == 1
    assert (
        f"This project requires find_package(Torch {asked}), and the libtorch in {torch_root} is 2." in said
    )
    assert "Torch_DIR=" not in done.out


@pytest.mark.cmake
def test_an_optional_package_is_not_an_error(configure: Callable[..., Result]) -> None:
    done = configure(f"find_package(Torch 99.0 QUIET)\n{TELL}")
    assert (done.code, done.err) == (0, "")
    warned = configure(f"find_package(Torch 99.0)\n{TELL}")
    assert warned.code == 0
    assert warned.err.count("CMake Warning") == 1


@pytest.mark.cmake
@pytest.mark.parametrize("name", ["libtorch", "Torch", "by_another_name"])
def test_a_download_of_libtorch_is_replaced(
    configure: Callable[..., Result], torch_root: Path, name: str
) -> None:
    lists = f"{FETCH.format(name, name)}find_package(Torch REQUIRED PATHS ${{{name}_SOURCE_DIR}} NO_DEFAULT_PATH)\n"
    done = configure(f'{lists}message(STATUS "fetched=${{{name.lower()}_SOURCE_DIR}}")\n')
    assert done.code == 0, done.err
    assert f"fetched={torch_root}" in done.out


@pytest.mark.cmake
def test_the_users_own_arguments_win(configure: Callable[..., Result], tmp_path: Path) -> None:
    presets = (
        '{"version": 1, "configurePresets": [{"name": "p", "generator": "Unix Makefiles",'
        ' "binaryDir": "${sourceDir}/build", "cacheVariables": {"CMAKE_CXX_COMPILER_LAUNCHER": "env"}}]}'
    )
    own = ("--preset", "p", "-DPython3_EXECUTABLE:FILEPATH=/own/python", "-D", f"Torch_DIR={tmp_path}")
    done = configure(TELL, *own, **{"CMakePresets.json": presets})
    assert done.code == 0, done.err
    assert f"Torch_DIR={tmp_path} python=/own/python launcher=env" in done.out


@pytest.mark.cmake
def test_a_project_keeps_its_own_policies(
    torch_root: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    project(tmp_path, f'{HEAD}cmake_policy(GET CMP0128 policy)\nmessage(STATUS "policy=<${{policy}}>")\n')
    words = ("-S", tmp_path, "-B", tmp_path / "build")
    assert "policy=<>" in torchlink("cmake", "configure", "--libtorch", torch_root, *words).out


@pytest.mark.cmake
@pytest.mark.parametrize("version", ["2.8.6", "3.0 FATAL_ERROR"])
def test_a_project_for_an_old_cmake_is_configured(
    torch_root: Path, tmp_path: Path, torchlink: Callable[..., Result], version: str
) -> None:
    head = f"cmake_minimum_required(VERSION {version})\nproject(old LANGUAGES CXX)\n"
    project(tmp_path, f"{head}find_package(Torch REQUIRED)\n{TELL}")
    words = ("-S", tmp_path, "-B", tmp_path / "build")
    done = torchlink("cmake", "configure", "--libtorch", torch_root, *words)
    assert done.code == 0, done.err
    assert "/cmake/libtorch-" in done.out


@pytest.mark.cmake
def test_a_libtorch_found_earlier_is_replaced(configure: Callable[..., Result], tmp_path: Path) -> None:
    assert configure(TELL, f"-DTorch_DIR={tmp_path}").code == 0
    assert "/cmake/libtorch-" in configure(TELL).out


@pytest.mark.cmake
def test_cmakes_exit_code_is_passed_through(configure: Callable[..., Result]) -> None:
    done = configure('message(FATAL_ERROR "stop here")\n')
    assert done.code == 1
    assert "stop here" in done.err


@pytest.mark.cmake
def test_show_prints_the_command_and_runs_nothing(configure: Callable[..., Result], tmp_path: Path) -> None:
    done = configure("", "--show", "-G", "Unix Makefiles", "-Dh=1")
    assert done.code == 0
    words = shlex.split(done.out)
    assert words[0].endswith("cmake")
    assert words[1:-1] == [
        "-S",
        str(tmp_path),
        "-B",
        f"{tmp_path}/build",
        "-G",
        "Unix Makefiles",
        "-Dh=1",
        "-C",
    ]
    assert not (tmp_path / "build").exists()


def test_other_modes_of_cmake_are_refused(torch_root: Path, torchlink: Callable[..., Result]) -> None:
    done = torchlink("cmake", "configure", "--libtorch", torch_root, "--build", "b")
    assert done.code == 2
    assert "cmake --build does not configure" in done.err


def test_given_variables_are_read_as_cmake_reads_them() -> None:
    words = ["-DA=1", "-D", "B:PATH=x", "-DC:STRING=a=b", "-S", "D=1", "-D"]
    assert given_variables(words) == ("A", "B", "C", "")
    assert given_variables([]) == ()


@pytest.mark.cmake
def test_without_arguments_cmake_itself_answers(torch_root: Path, torchlink: Callable[..., Result]) -> None:
    shown = torchlink("cmake", "configure", "--libtorch", torch_root, "--show")
    assert shown.code == 0, shown.err
    assert shlex.split(shown.out)[1] == "-C"


def test_a_source_tree_is_not_added_to_the_project(tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    script = initial_cache(fake_libtorch(tmp_path / "torch", layout="source"), prefix, None)
    assert f'FETCHCONTENT_SOURCE_DIR_LIBTORCH PATH "{prefix}"' in script
    assert "Python3_EXECUTABLE" not in script
    assert "LAUNCHER" not in script


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_a_lone_help_option_is_torchlinks(torchlink: Callable[..., Result], word: str) -> None:
    done = torchlink("cmake", "configure", word)
    assert done.code == 0
    assert "--show" in done.out
