"""The kind `python-extension`: each variant created, installed by pip in a fresh environment, tested, linted, moved."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.conftest import REPOSITORY, made_once, program
from tests.new.environments import site_of, surroundings
from torchlink.binary.elf import ElfFile

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.compile, pytest.mark.xdist_group("python-extension")]


class Built(NamedTuple):
    """A project, and the environment that it is installed in."""

    project: Path
    environment: Path
    name: str
    commands: list[str]

    @property
    def site(self) -> Path:
        return site_of(self.environment)

    @property
    def module(self) -> Path:
        return next((self.site / self.name).glob("_C*.so"))


def shell(command: str, project: Path, environment: Path, wheels: Path, **variables: str) -> str:
    """Run one command line of a user's, and return what it prints."""
    done = subprocess.run(
        command, shell=True, cwd=project, env=surroundings(environment, wheels, **variables),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def create(project: Path, name: str, variant: str) -> list[str]:
    words = [
        sys.executable,
        "-m",
        "torchlink",
        "new",
        "python-extension",
        str(project),
        "--name",
        name,
        f"--{variant}",
        "--json",
    ]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    commands: list[str] = json.loads(done.stdout)["commands"]
    return commands


@pytest.fixture(scope="session", params=["plain", "tensors", "stable-abi"])
def built(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    torch_environment: Path,
    wheels: Path,
) -> Built:
    """Each variant, created in a directory with spaces, and installed by the first of its own commands."""
    name = f"fast_{request.param.replace('-', '_')}"
    commands: list[str] = []

    def make(directory: Path) -> None:
        commands.extend(create(directory / "a project", name, request.param))
        (directory / "commands").write_text("\n".join(commands))
        shell(commands[0], directory / "a project", torch_environment, wheels)

    made = made_once(tmp_path_factory, f"python extension {request.param}", make)
    return Built(made / "a project", torch_environment, name, (made / "commands").read_text().splitlines())


def test_its_own_commands_build_test_and_run_it(built: Built, wheels: Path) -> None:
    for command in built.commands[1:]:
        shell(command, built.project, built.environment, wheels)


def test_the_module_links_what_it_uses_and_finds_torch_beside_it(built: Built) -> None:
    with ElfFile.open(built.module) as binary:
        dynamic = binary.dynamic
    torch = {name for name in dynamic.needed if "torch" in name or "c10" in name}
    assert (
        torch
        == {
            "fast_plain": {"libtorch_cpu.so", "libc10.so"},
            "fast_tensors": {"libtorch_cpu.so", "libc10.so", "libtorch_python.so"},
            "fast_stable_abi": {"libtorch_cpu.so"},
        }[built.name]
    )
    assert not [name for name in dynamic.needed if "python3" in name]
    assert (dynamic.runpath, dynamic.rpath) == ("$ORIGIN/../torch/lib", None)
    text = built.module.read_bytes()
    for place in (b"pip-build-env", b"/tmp/tmp", str(built.environment).encode()):
        assert place not in text


def test_lint_finds_nothing(built: Built) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "torchlink", "lint", built.module], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "no findings" in done.stdout, done.stdout


def imported(python: Path, directory: Path, name: str) -> subprocess.CompletedProcess[str]:
    script = f"import sys; sys.path.insert(0, sys.argv[1]); import {name}"
    return subprocess.run(
        [python, "-c", script, directory],
        env={"HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_torch_the_import_says_so(built: Built, bare_environment: Path, tmp_path: Path) -> None:
    shutil.copytree(built.site / built.name, tmp_path / built.name)
    done = imported(bare_environment / "bin" / "python", tmp_path, built.name)
    assert done.returncode == 1
    assert f"ImportError: {built.name} needs torch" in done.stderr.splitlines()[-1]
    assert "pip install torch" in done.stderr.splitlines()[-1]


def test_with_another_torch_the_import_reports_both_versions(built: Built, tmp_path: Path) -> None:
    if built.name == "fast_stable_abi":
        pytest.skip("it works with other versions")
    package = tmp_path / built.name
    shutil.copytree(built.site / built.name, package)
    (package / "_built_with.py").write_text('TORCH = "2.1.0"\n')
    done = imported(built.environment / "bin" / "python", tmp_path, built.name)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError")
    assert "2.1.0" in last
    assert "torch 2." in last


def test_another_patch_release_is_a_warning(built: Built, tmp_path: Path) -> None:
    if built.name == "fast_stable_abi":
        pytest.skip("it works with other versions")
    package = tmp_path / built.name
    shutil.copytree(built.site / built.name, package)
    major, minor, _ = (package / "_built_with.py").read_text().split('"')[1].split(".")
    (package / "_built_with.py").write_text(f'TORCH = "{major}.{minor}.99"\n')
    done = imported(built.environment / "bin" / "python", tmp_path, built.name)
    assert done.returncode == 0  # the package is elsewhere than torch, too
    assert f"RuntimeWarning: {built.name} was built with torch {major}.{minor}.99" in done.stderr


@pytest.fixture(scope="session")
def stable_dist(tmp_path_factory: pytest.TempPathFactory, torch_environment: Path, wheels: Path) -> Path:
    """An sdist of the stable-ABI variant, and the wheel that `build` makes from it in its own environment."""

    def make(directory: Path) -> None:
        create(directory, "portable", "stable-abi")
        shell("python -m build --outdir dist .", directory, torch_environment, wheels)

    return made_once(tmp_path_factory, "an extension in an sdist", make) / "dist"


def test_a_wheel_made_from_an_sdist_is_the_same(stable_dist: Path) -> None:
    (wheel,) = stable_dist.glob("*.whl")
    assert "-cp310-abi3-" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.startswith("portable-")}
    assert names == {"portable/__init__.py", "portable/_C.abi3.so"}
    (sdist,) = stable_dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        assert "portable-0.1.0/src/module.cpp" in archive.getnames()


def test_a_repaired_wheel_has_no_libtorch_and_lint_finds_nothing(stable_dist: Path, tmp_path: Path) -> None:
    (wheel,) = stable_dist.glob("*.whl")
    exclude = ["--exclude", "libtorch*", "--exclude", "libc10*"]  # as in the project's README
    done = subprocess.run(
        [program("auditwheel"), "repair", *exclude, "--wheel-dir", tmp_path, wheel],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (repaired,) = tmp_path.glob("*manylinux*.whl")
    with zipfile.ZipFile(repaired) as archive:
        assert not [name for name in archive.namelist() if "libtorch" in name or ".libs/" in name]
    linted = subprocess.run(
        [sys.executable, "-m", "torchlink", "lint", repaired], capture_output=True, text=True, check=False
    )
    assert linted.returncode == 0, linted.stdout
    assert "no findings" in linted.stdout, linted.stdout


@pytest.mark.matrix
def test_one_stable_wheel_works_with_another_torch(
    stable_dist: Path, torch_environment: Path, wheels: Path, tmp_path: Path
) -> None:
    """The same file, built once, beside the torch that it was built with and beside another one."""
    other = tmp_path / "other"
    venv.create(other, with_pip=True)
    shell(
        f"pip install {os.environ.get('TORCHLINK_TEST_OTHER_TORCH', 'torch==2.14.1')}",
        tmp_path,
        other,
        wheels,
    )
    (wheel,) = stable_dist.glob("*.whl")
    torchs = set()
    for environment in (torch_environment, other):
        shell(f"pip install numpy pytest {shlex.quote(str(wheel))}", tmp_path, environment, wheels)
        shell("pytest", stable_dist.parent, environment, wheels)
        which = "import portable, torch; print(torch.__version__)"
        torchs.add(shell(f"python -c '{which}'", tmp_path, environment, wheels))
    assert len(torchs) == 2
