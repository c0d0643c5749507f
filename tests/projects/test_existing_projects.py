"""Existing projects build unchanged: configuration alone makes them use the libtorch that torchlink chose."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import needed, run_clean, unmet
from tests.projects.catalogue import (
    CMAKE_PROJECTS,
    CMAKE_WITH_A_PATH,
    GONE,
    MAKE_PROJECTS,
    MAKE_WITH_A_PATH,
    MESON_PROJECT,
    SETUP_PROJECT,
    Project,
)
from torchlink.toolchain.compiler import find_compiler

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result

TORCHLINK = [sys.executable, "-m", "torchlink"]


def lay_out(project: Project, directory: Path) -> Path:
    """Write the project's files."""
    for name, text in project.files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def build(command: list[str], directory: Path, **variables: str) -> None:
    """Run one step of a build in the project's directory; its output is the message of a failure."""
    done = subprocess.run(
        command, cwd=directory, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


def compiler_program() -> Path:
    """`torchlink c++` as one program, for tools that accept no arguments with it."""
    program = Path(sys.executable).parent / "torchlink-c++"
    if not program.is_file():
        unmet("torchlink-c++, which pip installs with torchlink,")
    return program


def assert_runs(program: Path) -> None:
    """The program starts with an empty environment and says what it should."""
    done = run_clean(program)
    assert done.stdout.startswith("config: "), done.stderr


@pytest.mark.cmake
@pytest.mark.compile
@pytest.mark.parametrize("project", CMAKE_PROJECTS, ids=lambda project: project.name)
def test_a_cmake_project_builds_unchanged(
    project: Project, tmp_path: Path, torch_root: Path, torchlink: Callable[..., Result]
) -> None:
    lay_out(project, tmp_path)
    chosen = {"TORCHLINK_LIBTORCH": str(torch_root)}
    if project.way == "configure":
        command = [*TORCHLINK, "cmake", "configure", "--libtorch", str(torch_root)]
    elif project.way == "compiler":
        command = ["cmake", f"-DCMAKE_CXX_COMPILER={compiler_program()}"]
    else:
        what, variable = {"prefix": ("prefix", "CMAKE_PREFIX_PATH"), "dir": ("dir", "Torch_DIR")}[project.way]
        answer = torchlink("cmake", what, "--libtorch", torch_root)
        assert answer.code == 0, answer.err
        command = ["cmake", f"-D{variable}={answer.out.strip()}"]
    build([*command, "-S", ".", "-B", "build"], tmp_path, **chosen)
    build(["cmake", "--build", "build"], tmp_path, **chosen)
    assert_runs(tmp_path / project.program)


@pytest.mark.compile
@pytest.mark.parametrize("project", MAKE_PROJECTS, ids=lambda project: project.name)
def test_a_makefile_builds_unchanged(
    project: Project, tmp_path: Path, torch_root: Path, torchlink: Callable[..., Result]
) -> None:
    lay_out(project, tmp_path)
    if project.way == "pkg-config":
        (tmp_path / "torch.pc").write_text(torchlink("flags", "--pkg-config", "--libtorch", torch_root).out)
        build(["make"], tmp_path, PKG_CONFIG_PATH=str(tmp_path))
    else:
        wrapper = shlex.join([*TORCHLINK, "c++"])
        named = {"LIBTORCH": str(torch_root)} if project.way == "LIBTORCH" else {}
        build(["make", f"CXX={wrapper}"], tmp_path, TORCHLINK_LIBTORCH=str(torch_root), **named)
    assert_runs(tmp_path / project.program)


@pytest.mark.compile
def test_a_meson_project_builds_unchanged_and_keeps_its_standard(
    tmp_path: Path, torch_root: Path, torchlink: Callable[..., Result]
) -> None:
    needed("mesonbuild")
    lay_out(MESON_PROJECT, tmp_path)
    (tmp_path / "torch.pc").write_text(torchlink("flags", "--pkg-config", "--libtorch", torch_root).out)
    meson = [sys.executable, "-m", "mesonbuild.mesonmain"]
    build([*meson, "setup", "build"], tmp_path, PKG_CONFIG_PATH=str(tmp_path))
    build([*meson, "compile", "-C", "build"], tmp_path)
    assert_runs(tmp_path / MESON_PROJECT.program)
    lowered = subprocess.run(
        [*meson, "compile", "-C", "build", "in_c++14"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "or later compatible compiler is required" in lowered.stdout
    assert "must be raised to C++17" in (tmp_path / "torch.pc").read_text()


@pytest.mark.compile
def test_a_meson_project_gets_the_standard_that_is_not_an_older_compilers_default(
    tmp_path: Path, torch_root: Path, torchlink: Callable[..., Result]
) -> None:
    """g++ 10 and clang 15 and those before them take C++14 by themselves."""
    needed("mesonbuild")
    names = ("clang++-14", "clang++-13", "clang++", "g++-10", "g++-9")
    old = next(
        (name for name in names if shutil.which(name) and find_compiler(name).default_standard == 14), None
    )
    if old is None:
        unmet("a compiler whose default is C++14")
    (tmp_path / "meson.build").write_text(
        "project('old', 'cpp')\nlibrary('old', 'old.cpp', dependencies: dependency('torch'))\n"
    )
    (tmp_path / "old.cpp").write_text(MESON_PROJECT.files["standard.cpp"].replace("EXPECTED", "201703"))
    flags = torchlink("flags", "--pkg-config", "--libtorch", torch_root, "--compiler", old)
    (tmp_path / "torch.pc").write_text(flags.out)
    meson = [sys.executable, "-m", "mesonbuild.mesonmain"]
    build([*meson, "setup", "build"], tmp_path, PKG_CONFIG_PATH=str(tmp_path), CXX=old)
    build([*meson, "compile", "-C", "build"], tmp_path)


@pytest.mark.compile
def test_a_python_extension_with_old_flags_builds_unchanged(tmp_path: Path, torch_root: Path) -> None:
    needed("setuptools")
    lay_out(SETUP_PROJECT, tmp_path)
    chosen = {"TORCHLINK_LIBTORCH": str(torch_root), "CXX": str(compiler_program()), "CFLAGS": "-O0 -g0"}
    build([sys.executable, "setup.py", "build_ext", "--inplace"], tmp_path, **chosen)
    code = "import torch, existing; assert existing.config(); print(existing.twice(torch.ones(2)).sum())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "tensor(4.)\n", done.stderr


@pytest.mark.cmake
def test_a_cmake_project_that_no_setting_fixes_is_told_what_to_change(
    tmp_path: Path, torch_root: Path, torchlink: Callable[..., Result]
) -> None:
    lay_out(CMAKE_WITH_A_PATH, tmp_path)
    prefix = torchlink("cmake", "prefix", "--libtorch", torch_root).out.strip()
    done = subprocess.run(
        ["cmake", f"-DCMAKE_PREFIX_PATH={prefix}", "-S", ".", "-B", "build"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    told = " ".join(done.stderr.split())
    assert f"app links {GONE} by its path, which does not exist" in told
    assert "target_link_libraries(app ${TORCH_LIBRARIES})" in told


@pytest.mark.compile
def test_a_makefile_that_no_flag_helps_gets_a_note_what_to_change(tmp_path: Path, torch_root: Path) -> None:
    lay_out(MAKE_WITH_A_PATH, tmp_path)
    done = subprocess.run(
        ["make", f"CXX={shlex.join([*TORCHLINK, 'c++'])}"],
        cwd=tmp_path, env={**os.environ, "TORCHLINK_LIBTORCH": str(torch_root)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert f"torchlink: note: {GONE} does not exist, but the build file names it" in done.stderr
