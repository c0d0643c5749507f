"""The kind `python-extension`: each variant created, installed by pip in a fresh environment, tested, linted, moved."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.conftest import REPOSITORY, made_once, needed
from torchlink.binary.elf import ElfFile

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.compile, pytest.mark.xdist_group("python-extension")]
# What `import torch` needs, and pytest, as top-level names in site-packages.
PACKAGES = (
    "torch", "torch-", "torchgen", "functorch", "numpy", "filelock", "typing_extensions", "sympy", "mpmath",
    "networkx", "jinja2", "markupsafe", "fsspec", "setuptools", "pytest", "_pytest", "pluggy", "iniconfig",
    "packaging", "pygments",
)  # fmt: skip


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


def site_of(environment: Path) -> Path:
    return next((environment / "lib").glob("python3*/site-packages"))


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with torchlink's wheel, for PIP_FIND_LINKS."""
    needed("build")

    def make(directory: Path) -> None:
        words = [sys.executable, "-m", "build", "--wheel", "--outdir", directory, REPOSITORY]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return made_once(tmp_path_factory, "wheels of torchlink", make)


@pytest.fixture(scope="session")
def torch_environment(tmp_path_factory: pytest.TempPathFactory, torch_root: Path) -> Path:
    """A fresh environment with pip, pytest and the torch of these tests, hard-linked."""

    def make(directory: Path) -> None:
        venv.create(directory, with_pip=True)
        site = site_of(directory)
        for entry in torch_root.parent.iterdir():
            name = entry.name.lower()
            if not any(
                name == each or name.startswith((f"{each.rstrip('-')}-", f"{each}.")) for each in PACKAGES
            ):
                continue
            if (site / entry.name).exists():
                continue
            if entry.is_dir():
                shutil.copytree(entry, site / entry.name, copy_function=link, symlinks=True)
            else:
                link(entry, site / entry.name)

    return made_once(tmp_path_factory, "an environment with torch", make)


def link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


@pytest.fixture(scope="session")
def bare_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with pip and without torch."""
    return made_once(tmp_path_factory, "an environment", lambda made: venv.create(made, with_pip=True))


def surroundings(environment: Path, wheels: Path, **variables: str) -> dict[str, str]:
    """The variables of a shell in which an environment is active."""
    links = " ".join(filter(None, (wheels.as_uri(), os.environ.get("PIP_FIND_LINKS"))))
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("PIP_", "SSL_", "HTTP", "REQUESTS_"))
    }
    return {
        **kept,
        "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": os.environ["HOME"],
        "VIRTUAL_ENV": str(environment),
        "PIP_FIND_LINKS": links,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        **variables,
    }


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
        project,
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
