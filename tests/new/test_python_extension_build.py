"""What a build of a Python package finds through scikit-build-core's entry point, and what it reports."""

from __future__ import annotations

import subprocess
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.cmake.test_python_module import MODULE, definitions
from tests.cmake.toy import build_toy
from tests.new.environments import surroundings
from torchlink.binary.elf import ElfFile

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.cmake, pytest.mark.xdist_group("python-extension")]
PYPROJECT = """
[build-system]
requires = ["scikit-build-core", "torchlink"]
build-backend = "scikit_build_core.build"
[project]
name = "small"
version = "1.0"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A package whose module takes a second to compile."""
    directory = tmp_path / "a small project"
    directory.mkdir()
    (directory / "pyproject.toml").write_text(PYPROJECT)
    (directory / "module.cpp").write_text(MODULE)
    (directory / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(small LANGUAGES CXX)\nfind_package(Torch 2.0 REQUIRED)\n"
        f"torchlink_add_python_module(small module.cpp DESTINATION .)\n{definitions('small', 'small')}\n"
    )
    return directory


def pip_wheel(
    project: Path, environment: Path, wheels: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["pip", "wheel", "--no-deps", "--wheel-dir", "dist", "."],
        cwd=project, env=surroundings(environment, wheels, **variables), capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_without_torch_there_is_one_error(project: Path, bare_environment: Path, wheels: Path) -> None:
    done = pip_wheel(project, bare_environment, wheels)
    assert done.returncode == 1
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    reported = [line for line in lines if "No libtorch to build for" in line]
    assert len(reported) == 1
    assert str(bare_environment / "bin" / "python") in reported[0]
    assert any("TORCHLINK_LIBTORCH" in line for line in lines)
    assert not [line for line in lines if "Traceback" in line or "Could not find a package" in line]


def test_torchlink_libtorch_names_another_one(
    project: Path, bare_environment: Path, wheels: Path, tmp_path: Path
) -> None:
    toy = build_toy(tmp_path / "unpacked libtorch", companion_dirs=())
    for directory in ("ATen", "c10"):
        (toy.root / "include" / directory).mkdir()
    (toy.root / "include" / "ATen" / "ATen.h").write_text("#if __cplusplus < 201703L\n#error C++17\n#endif\n")
    (toy.root / "build-version").write_text("2.13.0+cpu\n")
    done = pip_wheel(project, bare_environment, wheels, TORCHLINK_LIBTORCH=str(toy.root))
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (project / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".so"))
        archive.extract(name, tmp_path)
    with ElfFile.open(tmp_path / name) as binary:
        assert binary.dynamic.runpath == str(toy.library_dir)  # it is no torch of a site-packages directory
