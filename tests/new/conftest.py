"""Environments that are made once: torchlink's wheel, a user's environment with torch, and one without."""

from __future__ import annotations

import subprocess
import sys
import venv
from typing import TYPE_CHECKING

import pytest

from tests.conftest import REPOSITORY, made_once, needed
from tests.new.environments import with_torch

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with torchlink's wheel, for PIP_FIND_LINKS."""
    needed("build")

    def make(directory: Path) -> None:
        words = [sys.executable, "-m", "build", "--wheel", "--outdir", str(directory), str(REPOSITORY)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return made_once(tmp_path_factory, "wheels of torchlink", make)


@pytest.fixture(scope="session")
def torch_environment(tmp_path_factory: pytest.TempPathFactory, torch_root: Path) -> Path:
    """A fresh environment with pip, build and the torch of these tests, hard-linked."""

    return made_once(
        tmp_path_factory, "an environment with torch", lambda directory: with_torch(directory, torch_root)
    )


@pytest.fixture(scope="session")
def bare_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with pip and without torch."""
    return made_once(tmp_path_factory, "an environment", lambda made: venv.create(made, with_pip=True))
