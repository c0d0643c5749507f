"""Debian's libtorch-dev and all that it depends on, unpacked below a directory that is not `/`."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.conftest import REPOSITORY
from tests.distributions.debian import closure, unpack
from tests.distributions.programs import HAS_CUDA, build_cxx, build_nim, done, says
from torchlink.libtorch.inspect import inspect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Result

pytestmark = [pytest.mark.matrix, pytest.mark.compile]
ROW = "debian12-libtorch-dev-1.13.1+dfsg-4-amd64"
PROJECT = """\
cmake_minimum_required(VERSION 3.18)
project(app CXX)
find_package(Torch REQUIRED)
add_executable(app main.cpp)
target_link_libraries(app "${TORCH_LIBRARIES}")
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory that replaces `/`: one gigabyte, deleted afterwards."""
    directory = tmp_path_factory.mktemp("debian")
    root = directory / "root"
    unpack(closure("libtorch-dev", directory), root)
    yield root
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def usr(root: Path) -> Path:
    """The root of its libtorch."""
    return root / "usr"


def library_dir(usr: Path) -> Path:
    """Where its libtorch_cpu is."""
    (found,) = usr.glob("lib/*-linux-gnu*/libtorch_cpu.so")
    return found.parent


def test_it_is_found_however_it_is_named(usr: Path, torchlink: Callable[..., Result]) -> None:
    home = library_dir(usr)
    for named in (usr, usr.parent, home, home / "libtorch.so", home / "cmake/Torch"):
        answer = torchlink("find", "--json", "--libtorch", named)
        assert answer.code == 0, answer.err
        found = json.loads(answer.out)["libtorch"]
        assert (found["root"], found["library_dir"]) == (str(usr), str(home))
        assert (found["cxx11_abi"], found["accelerator"], found["layout"]) == (1, "cpu", "system")
        assert found["missing_libraries"] == found["conflicts"] == []


def test_alternatives_that_nobody_has_chosen_are_found(usr: Path) -> None:
    reached = {each.path for each in inspect(usr, "test").companion_dirs}
    assert {library_dir(usr) / name for name in ("blas", "lapack")} <= reached
    assert all(each.is_dir() for each in reached)


@pytest.mark.parametrize("via", ["cxx", "cmake", "nim"])
def test_the_reference_loader_runs_with_its_libraries(
    usr: Path, via: str, torchlink: Callable[..., Result]
) -> None:
    answer = torchlink("verify", "--via", via, "--libtorch", usr)
    assert answer.code == 0, answer.err
    assert ": ok" in answer.out


def test_other_programs_run_with_its_libraries(usr: Path, tmp_path: Path) -> None:
    assert says(build_cxx(usr, HAS_CUDA, tmp_path / "app")) == "cuda 0"
    assert says(build_nim(usr, HAS_CUDA, tmp_path / "nim")) == "cuda 0"


def test_an_existing_cmake_project_builds_with_the_prefix(
    usr: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    (tmp_path / "CMakeLists.txt").write_text(PROJECT)
    (tmp_path / "main.cpp").write_text(HAS_CUDA)
    prefix = torchlink("cmake", "prefix", "--libtorch", usr)
    assert prefix.code == 0, prefix.err
    done("cmake", "-S", str(tmp_path), "-B", str(tmp_path / "b"), f"-DCMAKE_PREFIX_PATH={prefix.out.strip()}")
    done("cmake", "--build", str(tmp_path / "b"))
    assert says(tmp_path / "b/app") == "cuda 0"


@pytest.mark.parametrize("kind", ["cmake", "nim"])
def test_a_new_project_builds(usr: Path, kind: str, tmp_path: Path, torchlink: Callable[..., Result]) -> None:
    project = tmp_path / "new"
    answer = torchlink(kind, "init", project, "--libtorch", usr)
    assert answer.code == 0, answer.err
    if kind == "cmake":
        done("cmake", "-S", str(project), "-B", str(project / "build"))
        done("cmake", "--build", str(project / "build"))
        program = project / "build/app"
    else:
        done("nim", "cpp", "--hints:off", "main.nim", cwd=project)
        program = project / "main"
    assert done(str(program), str(REPOSITORY / "templates/loader/tiny.pt"))


def test_missing_libraries_are_named_with_their_packages(usr: Path, torchlink: Callable[..., Result]) -> None:
    glog = next(library_dir(usr).glob("libglog.so.?"))
    if any(path.joinpath(glog.name).exists() for path in library_dirs_of_this_system()):
        pytest.skip(f"this system has {glog.name}")
    away = glog.with_name("away")
    glog.rename(away)
    try:
        answer = torchlink("flags", "--libtorch", usr)
    finally:
        away.rename(glog)
    assert (
        f"libtorch has missing dependencies: {glog.name}; `apt install libtorch-dev` installs" in answer.err
    )


def library_dirs_of_this_system() -> list[Path]:
    """Where this system's own libraries are."""
    from pathlib import Path

    return [*Path("/usr/lib").glob("*-linux-gnu*"), *Path("/lib").glob("*-linux-gnu*"), Path("/usr/lib")]


def test_its_python_package_says_its_full_version(root: Path, usr: Path) -> None:
    # Without that package only headers and libraries have a version, without a suffix.
    before = inspect(usr, "test").version
    unpack(["python3-torch"], root)
    after = inspect(usr, "test")
    assert before
    assert after.version
    assert after.version.startswith(before)
    assert after.version_from == "lib/python3/dist-packages/torch/version.py"
    assert inspect(usr / "lib/python3/dist-packages/torch", "test").root == usr
    table = json.loads((REPOSITORY / "tests/data/distributions.json").read_text())["distributions"]
    if re.match(r"1\.13\.", before):
        assert after.version == table[ROW]["version"]
