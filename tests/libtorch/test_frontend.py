"""`--python front-end`: the interpreter outside an isolated build, with the real pip, build and uv."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cmake.toy import build_toy
from tests.conftest import REPOSITORY, needed, program

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result

pytestmark = pytest.mark.compile
# A package whose build asks torchlink and stops: the build's own interpreter runs this repository's torchlink.
BACKEND = """
import os, subprocess, sys
def build_wheel(directory, config_settings=None, metadata_directory=None):
    inherited = os.environ.get("PYTHONPATH")
    path = [each for each in (inherited, os.environ["TORCHLINK_SOURCE"]) if each]
    words = [sys.executable, "-m", "torchlink", "find", "--python", "front-end", "--json"]
    with open(os.environ["TORCHLINK_ANSWER"], "w") as answer:
        subprocess.run(words, stdout=answer, env={**os.environ, "PYTHONPATH": os.pathsep.join(path)})
    raise SystemExit("asked")
build_sdist = build_wheel
def get_requires_for_build_wheel(config_settings=None):
    return []
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "p"
version = "1"
"""


@pytest.fixture(scope="module")
def torch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site-packages directory with a torch of a few bytes."""
    directory = tmp_path_factory.mktemp("site")
    toy = build_toy(directory / "torch", companion_dirs=())
    (toy.root / "__init__.py").touch()
    (toy.root / "version.py").write_text("__version__ = '2.13.0'\n")
    (toy.root / "include" / "c10").mkdir()
    (toy.root / "include" / "ATen").mkdir()
    (toy.root / "include" / "ATen" / "ATen.h").write_text(
        "#if __cplusplus < 201703L\n#error C++17 or later\n#endif\n"
    )
    return directory


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory, torch: Path) -> dict[str, Path]:
    """Virtual environments with pip: one that has the torch, and one that has none."""
    made = {}
    for name in ("with torch", "without"):
        made[name] = tmp_path_factory.mktemp("environments") / name
        venv.create(made[name], with_pip=True)
    (site,) = (made["with torch"] / "lib").glob("python3*/site-packages")
    (site / "torch").symlink_to(torch / "torch")
    return made


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Build the package with a front end, and return what torchlink answered inside."""
    project = tmp_path / "a project"
    project.mkdir()
    (project / "pyproject.toml").write_text(PYPROJECT)
    (project / "backend.py").write_text(BACKEND)

    def call(*words: str | Path, **variables: str) -> dict[str, Any]:
        answer = tmp_path / "answer"
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "TORCHLINK_SOURCE": str(REPOSITORY),
            "TORCHLINK_ANSWER": str(answer),
            "TORCHLINK_CACHE_DIR": str(tmp_path / "cache"),
            **variables,
        }
        done = subprocess.run(
            words, cwd=project, env=environment, capture_output=True, text=True, check=False
        )
        assert answer.exists(), done.stdout + done.stderr
        found: dict[str, Any] = json.loads(answer.read_text())
        return found

    return call


PIP = ("-m", "pip", "wheel", "--no-deps", "--no-index", ".")


def test_pip(environments: dict[str, Path], ask: Callable[..., dict[str, Any]]) -> None:
    python = environments["with torch"] / "bin" / "python"
    found = ask(python, *PIP)
    assert found["libtorch"]["root"] == str(
        next(environments["with torch"].glob("lib/python3*/site-packages/torch"))
    )


def test_pip_hides_pythonpath_and_the_users_site_packages(
    environments: dict[str, Path], torch: Path, ask: Callable[..., dict[str, Any]]
) -> None:
    python = environments["without"] / "bin" / "python"
    assert ask(python, *PIP, PYTHONPATH=str(torch))["libtorch"]["root"] == str(torch / "torch")


def test_no_torch_is_an_error_that_names_the_interpreter(
    environments: dict[str, Path], ask: Callable[..., dict[str, Any]]
) -> None:
    python = environments["without"] / "bin" / "python"
    # The environment of this test may have a torch: it runs the front end's parent, and is not asked.
    error = ask(python, *PIP)["error"]
    assert str(python) in error["message"]
    assert "no torch is installed" in error["message"]


def test_build(environments: dict[str, Path], torch: Path, ask: Callable[..., dict[str, Any]]) -> None:
    needed("build")
    # An environment whose interpreter has both `build` and the torch.
    sites = os.pathsep.join(entry for entry in sys.path if entry.endswith("site-packages"))
    python = environments["with torch"] / "bin" / "python"
    (site,) = environments["with torch"].glob("lib/python3*/site-packages")
    (site / "tools.pth").write_text(sites.replace(os.pathsep, "\n"))
    try:
        found = ask(python, "-m", "build", "--wheel", ".")
    finally:
        (site / "tools.pth").unlink()
    assert found["libtorch"]["root"] == str(site / "torch")


@pytest.mark.parametrize("how", ["--python", "VIRTUAL_ENV"])
def test_uv(environments: dict[str, Path], ask: Callable[..., dict[str, Any]], how: str) -> None:
    prefix = environments["with torch"]
    words = [program("uv"), "pip", "install", "--offline", "."]
    if how == "--python":
        found = ask(*words, "--python", prefix / "bin" / "python")
    else:
        found = ask(*words, VIRTUAL_ENV=str(prefix))
    assert found["libtorch"]["root"] == str(next(prefix.glob("lib/python3*/site-packages/torch")))


def test_outside_a_build_it_is_the_interpreter_that_runs_torchlink(torchlink: Callable[..., Result]) -> None:
    result = torchlink("find", "--python", "front-end", "--json")
    assert result.code == 0
    assert Path(json.loads(result.out)["libtorch"]["root"]).parent in map(Path, sys.path)
