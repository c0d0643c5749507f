"""The kind `app`: its own commands build, test and run it; `torchlink cmake init` writes the same program."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.conftest import run_clean
from tests.libtorch.trees import Fake, make
from tests.new.small_projects import Project, alone, environment, made_and_built
from torchlink.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Result

pytestmark = [pytest.mark.cmake, pytest.mark.compile]
PRINTS = " 2.5000 -0.7500\n[ CPUFloatType{1,2} ]\n"


@pytest.fixture
def app(torch_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project in a directory with a space, built."""
    with alone(made_and_built(tmp_path_factory, "app", environment(torch_root), "--name", "runs")) as project:
        yield project


def test_the_printed_commands_test_and_run_it(app: Project) -> None:
    assert "100% tests passed" in app.run(app.commands[1]).stdout
    assert app.commands[2] == "build/runs model.pt"
    assert app.run(app.commands[2]).stdout == PRINTS


def test_its_test_notices_another_model(app: Project, tmp_path: Path) -> None:
    """The test of the bundled model fails where the model is broken: it does not only start the program."""
    model = app.directory / "model.pt"
    shutil.copy(model, tmp_path)
    try:
        model.write_bytes(b"broken")
        assert app.run(app.commands[1], check=False).returncode != 0
    finally:
        shutil.copy(tmp_path / "model.pt", model)


def test_the_installed_program_starts_and_both_are_clean(app: Project, tmp_path: Path) -> None:
    app.run(f"cmake --install build --prefix '{tmp_path}/there'")
    done = run_clean(tmp_path / "there/bin/runs", app.directory / "model.pt")
    assert (done.returncode, done.stdout) == (0, PRINTS)
    app.run(f"torchlink lint build/runs '{tmp_path}/there/bin/runs'")
    steps = (app.directory / ".github/workflows/ci.yml").read_text()
    assert "torchlink lint build/runs" in steps
    for command in app.commands:
        assert command in steps


def test_with_torchs_own_configuration_it_finds_libtorch_as_well(
    app: Project, torch_root: Path, tmp_path: Path
) -> None:
    command = (
        f"cmake -S . -B '{tmp_path}' -G 'Unix Makefiles' -DCMAKE_PREFIX_PATH='{torch_root}' -DTorch_DIR="
    )
    app.run(f"{command}'{torch_root}/share/cmake/Torch'")
    link = (tmp_path / "CMakeFiles/runs.dir/link.txt").read_text()
    assert str(torch_root / "lib") in link.partition("-rpath,")[2].split()[0].split(":")


def test_its_readme_names_the_printed_commands(app: Project) -> None:
    readme = (app.directory / "README.md").read_text()
    assert "\n".join(app.commands) in readme
    assert len(readme.splitlines()) < 45
    for name in ("main.cpp", "CMakeLists.txt", "model.pt"):
        assert f"`{name}`" in readme
        assert (app.directory / name).is_file()


def test_cmake_init_writes_the_same_project(torch_root: Path, tmp_path: Path, app: Project) -> None:
    """One source: only the tests, the README and the CI file come on top."""
    where = ("--libtorch", str(torch_root))
    assert main(["cmake", "init", str(tmp_path), "--name", "runs", *where]) == 0
    for name in ("main.cpp", "CMakePresets.json"):
        assert (tmp_path / name).read_bytes() == (app.directory / name).read_bytes()
    lists = (app.directory / "CMakeLists.txt").read_text()
    assert lists.startswith((tmp_path / "CMakeLists.txt").read_text())
    assert "enable_testing" in lists
    assert "enable_testing" not in (tmp_path / "CMakeLists.txt").read_text()


def test_a_libtorch_too_old_for_the_program_is_refused(
    tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    old = make(tmp_path / "torch", Fake(version="1.1.0", headers="1.1.0", built="1.1.0", cmake="1.1.0"))
    done = torchlink("new", "app", tmp_path / "new", "--libtorch", old)
    assert done.code == 2
    assert "too old: app needs 1.5 or newer" in done.err
    assert not (tmp_path / "new").exists()
