"""The kind `nim-app`: its own commands build, test and run it; `torchlink nim init` writes the same program."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.conftest import program, run_clean
from tests.new.small_projects import Project, alone, environment, made_and_built
from torchlink.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.nim, pytest.mark.compile]
PRINTS = "float32 [1, 2]: 2.5 -0.75\n"


@pytest.fixture
def app(torch_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project in a directory with a space, built."""
    with alone(
        made_and_built(tmp_path_factory, "nim-app", environment(torch_root), "--name", "runs")
    ) as project:
        yield project


def test_the_printed_commands_test_and_run_it(app: Project) -> None:
    tested = app.run(app.commands[1]).stdout
    assert tested.count("[OK]") == 4
    assert "[FAILED]" not in tested
    assert app.run(app.commands[2]).stdout == PRINTS
    assert run_clean(app.directory / "build/runs", app.directory / "model.pt").stdout == PRINTS


def test_nimble_installs_a_program_that_starts(app: Project, tmp_path: Path) -> None:
    """Without a network: it needs Nim alone."""
    program("nimble")
    home = {**app.env, "HOME": str(tmp_path), "NIMBLE_DIR": str(tmp_path / "nimble")}
    copy = tmp_path / "copy"
    shutil.copytree(app.directory, copy, ignore=shutil.ignore_patterns("nimcache", "build"))
    Project(copy, app.commands, home).run("nimble --accept install")
    assert run_clean(tmp_path / "nimble/bin/runs", app.directory / "model.pt").stdout == PRINTS


def test_it_is_clean_and_its_ci_file_says_so(app: Project) -> None:
    app.run("torchlink lint build/runs")
    steps = (app.directory / ".github/workflows/ci.yml").read_text()
    assert "torchlink lint build/runs" in steps
    for command in app.commands:
        assert command in steps
    readme = (app.directory / "README.md").read_text()
    assert "\n".join(app.commands) in readme
    assert len(readme.splitlines()) < 50


def test_its_test_notices_another_model(app: Project, tmp_path: Path) -> None:
    model = app.directory / "model.pt"
    shutil.copy(model, tmp_path)
    app.run(app.commands[1])
    try:
        model.write_bytes(b"broken")
        assert app.run("build/test_model", check=False).returncode != 0
    finally:
        shutil.copy(tmp_path / "model.pt", model)


def test_nim_init_writes_the_same_program(torch_root: Path, tmp_path: Path, app: Project) -> None:
    assert main(["nim", "init", str(tmp_path), "--libtorch", str(torch_root)]) == 0
    for name in ("main.nim", "torchmodel.nim", "torchmodel.cpp", "nim.cfg"):
        assert (tmp_path / name).read_text() == (app.directory / name).read_text()
    assert not (app.directory / "config.nims").exists()
