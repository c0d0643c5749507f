"""Existing projects build unchanged: configuration alone makes them take the libtorch torchlink chose."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path  # noqa: TC003 - pytest resolves the annotations of fixtures
from typing import TYPE_CHECKING

import pytest

from tests.conftest import run_clean
from tests.projects.catalogue import CMAKE_PROJECTS, MAKE_PROJECTS, Project

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
    if project.way == "configure":
        command = [*TORCHLINK, "cmake", "configure", "--libtorch", str(torch_root)]
    else:
        what, variable = {"prefix": ("prefix", "CMAKE_PREFIX_PATH"), "dir": ("dir", "Torch_DIR")}[project.way]
        answer = torchlink("cmake", what, "--libtorch", torch_root)
        assert answer.code == 0, answer.err
        command = ["cmake", f"-D{variable}={answer.out.strip()}"]
    build([*command, "-S", ".", "-B", "build"], tmp_path)
    build(["cmake", "--build", "build"], tmp_path)
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
