"""`torchlink_lint(<target>)` is defined once `find_package(Torch)` has found torchlink's prefix."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cmake.toy import SOURCES, build_toy, built, configured, link, project
from tests.cmake.toy import configure as toy_configure
from torchlink.compilation.cmake import write_prefix
from torchlink.plan import DEFAULTS, make_plan

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch

pytestmark = pytest.mark.cmake

LISTS = """\
cmake_minimum_required(VERSION 3.18)
project(linted LANGUAGES CXX)
find_package(Torch REQUIRED)
add_executable(app main.cpp)
target_link_libraries(app ${TORCH_LIBRARIES})
"""
TORCHLINK = f"-DTORCHLINK_EXECUTABLE={sys.executable};-m;torchlink"


def configure(toy: Libtorch, directory: Path, words: str) -> None:
    prefix = write_prefix(make_plan(toy, DEFAULTS))
    configured(project(directory, LISTS + words), f"-DCMAKE_PREFIX_PATH={prefix}", TORCHLINK)


def test_a_sound_program_builds(toy: Libtorch, tmp_path: Path) -> None:
    configure(toy, tmp_path, "torchlink_lint(app)\n")
    built(tmp_path)
    assert (tmp_path / "build/app").is_file()


def test_a_program_that_would_not_start_does_not_build(toy: Libtorch, tmp_path: Path) -> None:
    configure(
        toy, tmp_path, "set_target_properties(app PROPERTIES SKIP_BUILD_RPATH ON)\ntorchlink_lint(app)\n"
    )
    done = subprocess.run(
        ["cmake", "--build", str(tmp_path / "build")], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "library-not-found" in done.stdout + done.stderr


def test_a_project_that_does_not_lint_sees_no_message(toy: Libtorch, tmp_path: Path) -> None:
    prefix = write_prefix(make_plan(toy, DEFAULTS))
    configured(project(tmp_path, LISTS), f"-DCMAKE_PREFIX_PATH={prefix}")
    assert "TORCHLINK_EXECUTABLE" not in (tmp_path / "build/CMakeCache.txt").read_text()


@pytest.mark.parametrize(
    ("before", "after"), [("enable_testing()\n", ""), ("", "enable_testing()\n"), ("", "")]
)
def test_a_test_that_ctest_would_not_run_is_reported(
    toy: Libtorch, tmp_path: Path, before: str, after: str
) -> None:
    prefix = write_prefix(make_plan(toy, DEFAULTS))
    lists = f"{LISTS}{before}torchlink_lint(app TEST)\n{after}"
    enabled = bool(before or after)
    done = toy_configure(project(tmp_path, lists), f"-DCMAKE_PREFIX_PATH={prefix}", TORCHLINK)
    assert done.returncode == 0, done.stderr
    assert ("Call enable_testing() in" in " ".join(done.stderr.split())) != enabled
    tests = subprocess.run(
        ["ctest", "-N"], cwd=tmp_path / "build", capture_output=True, text=True, check=False
    ).stdout
    assert ("torchlink-lint.app" in tests) == enabled


def test_the_order_in_cmake_decides_whose_functions_libtorch_calls(tmp_path: Path) -> None:
    toy = build_toy(tmp_path / "torch")
    own = 'extern "C" { int mz_version() { return 1; } int mz_crc32() { return 2; } }\n'
    used = "int libtorch_uses_them() { return mz_version() + mz_crc32(); }\n"
    link(toy.library_dir, "torch_cpu", f"{own}{used}{SOURCES['torch_cpu']}", "c10")
    link(tmp_path, "half", own.replace("int mz_crc32() { return 2; }", ""))
    half = f"{tmp_path}/libhalf.so"
    for order, sound in ((f"${{TORCH_LIBRARIES}} {half}", True), (f"{half} ${{TORCH_LIBRARIES}}", False)):
        lists = LISTS.replace("${TORCH_LIBRARIES})", f"{order})")
        directory = tmp_path / f"sound {sound}"
        prefix = write_prefix(make_plan(toy, DEFAULTS))
        keep = "target_link_options(app PRIVATE LINKER:--no-as-needed)\n"
        lint = f"{keep}torchlink_lint(app ARGS --select interposed-symbols)\n"
        configured(project(directory, lists + lint), f"-DCMAKE_PREFIX_PATH={prefix}", TORCHLINK)
        done = subprocess.run(
            ["cmake", "--build", str(directory / "build")],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert (done.returncode == 0) == sound, done.stdout + done.stderr
        assert ("interposes 1 symbol that libtorch_cpu.so" in done.stdout + done.stderr) != sound
