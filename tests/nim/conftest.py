"""One real Nim project for all tests here: libtorch's headers are compiled once."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from torchlink.cli.main import main

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Nim:
    """A directory with Nim programs, and the environment to build them in."""

    directory: Path
    environment: dict[str, str]

    def build(self, program: str, *options: str) -> subprocess.CompletedProcess[str]:
        """`nim cpp` with a cache of this directory's own: programs of one name share `~/.cache/nim`."""
        cache = self.directory / "nimcache"
        cache.mkdir(exist_ok=True)  # where it is missing, Nim compiles C++ files again the next time
        return self.run("cpp", "--hints:off", f"--nimcache:{cache}", *options, f"{program}.nim")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["nim", *words],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )


@pytest.fixture(scope="session")
def torchlink_on_path(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which `torchlink` is the one under test, and nothing else names a libtorch."""
    directory = tmp_path_factory.mktemp("bin")
    script = directory / "torchlink"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m torchlink "$@"\n')
    script.chmod(0o755)
    return {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"}


@pytest.fixture(scope="session")
def models(torch_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of TorchScript models, made by the real torch in a process of its own."""
    directory = tmp_path_factory.mktemp("models")
    subprocess.run(
        [sys.executable, "-W", "ignore", str(HERE / "make_models.py"), str(directory)],
        env={**os.environ, "PYTHONPATH": str(torch_root.parent)},
        check=True,
        timeout=120,
    )
    return directory


@pytest.fixture(scope="session")
def project(
    torch_root: Path, tmp_path_factory: pytest.TempPathFactory, torchlink_on_path: dict[str, str]
) -> Nim:
    """What `torchlink nim init` writes into a directory with a space and a letter that is not ASCII."""
    directory = tmp_path_factory.mktemp("nim") / "mein Größtes"
    assert main(["nim", "init", str(directory), "--libtorch", str(torch_root)]) == 0
    return Nim(directory, {**torchlink_on_path, "TORCHLINK_LIBTORCH": str(torch_root)})
