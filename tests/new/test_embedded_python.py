"""The kind embedded-python: created, built, tested and run by its printed commands; torch::deploy's own examples."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import made_once, run_clean

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result

pytestmark = [pytest.mark.cmake, pytest.mark.compile]

EXAMPLES = Path(__file__).with_name("torch_deploy")
# The CMakeLists.txt of torch::deploy's examples, with this project's library.
USER = """
cmake_minimum_required(VERSION 3.18)
project(user LANGUAGES CXX)
find_package(Torch REQUIRED)
find_package(Threads REQUIRED)
add_library(interpreters STATIC IMPORTED)
set_target_properties(interpreters PROPERTIES
  IMPORTED_LOCATION "{project}/build/libinterpreters.a"
  INTERFACE_INCLUDE_DIRECTORIES "{project}/include"
  INTERFACE_LINK_LIBRARIES "torch;Threads::Threads;dl")
foreach(name IN ITEMS quickstart hello_world_example movable_example)
  add_executable(${{name}} "{examples}/${{name}}.cpp")
  target_link_libraries(${{name}} PRIVATE interpreters)
endforeach()
"""
PICTURE_MODEL = """
import torch
class Mean(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(7.0).reshape(1, 7))
    def forward(self, picture):
        return picture.mean() * self.weight
"""
PACK = """
import sys
import torch
from torch.package import PackageExporter
sys.path.insert(0, sys.argv[2])
import pictures
with PackageExporter(sys.argv[1]) as exporter:
    exporter.intern("pictures")
    exporter.extern("torch.**")
    exporter.save_pickle("model", "model.pkl", pictures.Mean())
"""
LIKE_A_STATIC_BUILD = """#!/bin/sh
exec {python} -c '
import sys, sysconfig
own = sysconfig.get_config_var
hidden = {{"INSTSONAME": "libpython.a", "LIBDIR": "/nonexistent", "MULTIARCH": "nowhere"}}
sysconfig.get_config_var = lambda name: hidden.get(name) or own(name)
sys.base_prefix = "/usr"
exec(sys.argv[-1])
' "$@"
"""


@pytest.fixture(scope="session")
def project(torch_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, built by the first of its commands."""

    def make(directory: Path) -> None:
        new = ["new", "embedded-python", str(directory), "--libtorch", str(torch_root)]
        subprocess.run([sys.executable, "-m", "torchlink", *new], check=True, capture_output=True)
        done = shell(commands()[0], directory)
        assert done.returncode == 0, done.stdout + done.stderr

    return made_once(tmp_path_factory, "embedded-python", make)


def commands() -> list[str]:
    listing = subprocess.run(
        [sys.executable, "-m", "torchlink", "new", "--list", "--json"], check=True, capture_output=True
    )
    kinds = {kind["name"]: kind for kind in json.loads(listing.stdout)["kinds"]}
    found: list[str] = kinds["embedded-python"]["commands"]
    return found


def shell(command: str, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, **environment}
    variables.pop("LD_LIBRARY_PATH", None)
    return subprocess.run(
        ["sh", "-c", command],
        cwd=directory,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


@pytest.mark.timeout(1200)
def test_its_own_tests_pass_and_the_program_runs(project: Path) -> None:
    _, test, run = commands()
    tested = shell(test, project)
    assert tested.returncode == 0, tested.stdout
    done = shell(run, project)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert len([float(number) for number in first.split()]) == 5
    assert "calls per second (2 interpreters" in second


def test_nothing_is_left_behind(project: Path) -> None:
    def left() -> set[str]:
        return {each.name for each in Path("/dev/shm").iterdir() if "python" in each.name}

    before = left()
    done = shell(
        "build/embedded-python build/package.pt --interpreters 2 --isolate process --repeat 4", project
    )
    assert done.returncode == 0, done.stderr
    assert left() == before


def test_lint_finds_nothing(project: Path, torchlink: Callable[..., Result]) -> None:
    done = torchlink("lint", project / "build/embedded-python", project / "build/plain-embedding")
    assert done.code == 0, done.out
    assert "rpath-relative" not in done.out  # CMake's padding makes the loader search the current directory


def test_the_installed_program_starts(project: Path, tmp_path: Path) -> None:
    subprocess.run(
        ["cmake", "--install", project / "build", "--prefix", tmp_path], check=True, capture_output=True
    )
    ran = run_clean(
        tmp_path / "bin/embedded-python", project / "build/package.pt", "--repeat", "2", cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stderr


def test_more_interpreters_than_the_loader_has_room_for_by_default(project: Path) -> None:
    done = shell("build/embedded-python build/package.pt --interpreters 10 --repeat 20", project)
    assert done.returncode == 0, done.stderr
    too_many = shell("build/embedded-python build/package.pt --interpreters 17 --repeat 20", project)
    assert too_many.returncode == 1
    assert "15 interpreters" in too_many.stderr
    assert "--isolate process" in too_many.stderr


def test_a_python_without_libpython_names_the_package(project: Path, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(LIKE_A_STATIC_BUILD.format(python=sys.executable))
    python.chmod(0o755)
    done = shell("build/embedded-python build/package.pt", project, EMBEDDED_PYTHON=str(python))
    assert done.returncode == 1
    assert "has no shared libpython" in done.stderr
    assert f"libpython3.{sys.version_info[1]}" in done.stderr


@pytest.mark.timeout(900)
def test_the_programs_of_torch_deploys_documentation(project: Path, tmp_path: Path, torch_root: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(USER.format(project=project, examples=EXAMPLES))
    (tmp_path / "pictures.py").write_text(PICTURE_MODEL)
    prefix = project / ".torchlink/share/cmake/Torch"
    command = f"cmake -S . -B build -DTorch_DIR={prefix} -DCMAKE_BUILD_TYPE=Debug && cmake --build build"
    done = shell(command, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    package = tmp_path / "my_package.pt"
    subprocess.run([sys.executable, "-W", "ignore", "-c", PACK, package, tmp_path], check=True)
    ran = run_clean(tmp_path / "build/quickstart", package)
    assert ran.returncode == 0, ran.stderr
    assert "0  1  2  3  4" in ran.stdout
    assert ran.stdout.endswith("ok\n")
    assert run_clean(tmp_path / "build/hello_world_example").stdout == "Hello world!\n"
    moved = run_clean(tmp_path / "build/movable_example")
    assert moved.returncode == 0, moved.stderr
    assert "CPUFloatType{1,2,5,5}" in moved.stdout
