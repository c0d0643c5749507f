"""Projects of `torchlink new`, made and driven as a stranger does: by the commands that it prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import made_once

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


def environment(torch_root: Path, **more: str) -> dict[str, str]:
    """A small environment in which `torchlink` is the one under test, and finds this libtorch."""
    directory = Path(os.environ["TORCHLINK_CACHE_DIR"]).parent / "torchlink-of-the-projects"
    directory.mkdir(exist_ok=True)
    script = directory / "torchlink"
    if not script.exists():
        made = script.with_suffix(f".{os.getpid()}")
        made.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m torchlink "$@"\n')
        made.chmod(0o755)
        made.rename(script)
    kept = {
        name: os.environ[name] for name in ("HOME", "TMPDIR", "TORCHLINK_CACHE_DIR") if name in os.environ
    }
    path = f"{directory}:{os.environ['PATH']}"
    return {"PATH": path, **kept, "LC_ALL": "C.UTF-8", "TORCHLINK_LIBTORCH": str(torch_root), **more}


@dataclass(frozen=True)
class Project:
    """A project in its directory."""

    directory: Path
    commands: tuple[str, ...]
    env: dict[str, str]

    def run(self, line: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a shell line from inside the project's directory."""
        done = subprocess.run(
            line,
            shell=True,
            cwd=self.directory,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert not check or done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done


def new(kind: str, directory: Path, env: dict[str, str], *options: str) -> Project:
    """Make a project of a kind."""
    words = [sys.executable, "-m", "torchlink", "new", kind, str(directory), *options, "--json"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return Project(directory, tuple(json.loads(done.stdout)["commands"]), env)


def made_and_built(factory: pytest.TempPathFactory, kind: str, env: dict[str, str], *options: str) -> Project:
    """A project of a kind in a directory with a space, built by the first of its commands; once for a whole run."""

    def build(directory: Path) -> None:
        made = new(kind, directory / "my project", env, *options)
        made.run(made.commands[0])
        (directory / "commands.json").write_text(json.dumps(made.commands))

    directory = made_once(factory, f"kind-{kind}", build)
    commands = json.loads((directory / "commands.json").read_text())
    return Project(directory / "my project", tuple(commands), env)


@contextmanager
def alone(project: Project) -> Iterator[Project]:
    """Keep the other workers of the run from a project that a test changes or builds in."""
    from filelock import FileLock

    with FileLock(f"{project.directory.parent}.in-use"):
        yield project
