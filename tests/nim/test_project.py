"""`torchlink nim init`: the project builds and runs, in both forms, and the wrapper works as documented."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.conftest import REPOSITORY, run_clean, unmet
from tests.nim.conftest import Nim
from torchlink.projects.nim import package_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

pytestmark = pytest.mark.nim


@pytest.fixture(scope="module")
def wrapper(project: Nim, models: Path) -> Nim:
    """The project with the wrapper's tests and their models in it."""
    shutil.copy(REPOSITORY / "tests" / "nim" / "wrapper.nim", project.directory)
    shutil.copytree(models, project.directory / "models")
    return project


def test_a_new_project_runs_a_model_without_any_environment(project: Nim, models: Path) -> None:
    built = project.build("main")
    assert built.returncode == 0, built.stderr
    done = run_clean(project.directory / "main", models / "Linear.pt", "2", "4")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "float32 [2, 2]: 6.5 21.5 6.5 21.5\n"
    assert run_clean(project.directory / "main", models / "Linear.pt").stdout == "float32 [1, 2]: 6.5 21.5\n"


def test_a_float32_is_shown_with_its_own_digits(project: Nim, models: Path) -> None:
    assert project.build("main").returncode == 0
    done = run_clean(project.directory / "main", models / "Tenth.pt", "3")
    assert done.stdout == "float32 [3]: 0.1 0.1 0.1\n"


def test_the_program_reports_errors_without_a_stack_trace(project: Nim, models: Path) -> None:
    assert project.build("main").returncode == 0
    program = project.directory / "main"
    for arguments, status, sentence in (
        ([], 2, f"usage: {program} "),  # as it was started: 'torchlink new nim-app' builds build/app
        (["none.pt"], 1, "none.pt"),
        ([models / "Linear.pt", "2", "5"], 1, "mat1 and mat2"),
        ([models / "Add.pt"], 1, "Give the dimensions of its input"),
        ([models / "Linear.pt", "two"], 1, "two"),
    ):
        done = run_clean(program, *map(str, arguments))
        assert done.returncode == status, done.stderr
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) <= 2  # the sentence, and what to do
        assert ("Give the dimensions" in done.stderr) == (arguments == [models / "Add.pt"])


@pytest.mark.parametrize("memory", ["refc", "orc"])
def test_the_wrapper_keeps_its_promises(wrapper: Nim, memory: str) -> None:
    built = wrapper.build("wrapper", f"--mm:{memory}")
    assert built.returncode == 0, built.stderr
    assert "torchmodel.nim" not in built.stderr  # no warning about it
    done = run_clean(wrapper.directory / "wrapper")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[FAILED]" not in done.stdout


@pytest.mark.parametrize("form", [(), ("--shared",)], ids=["local", "shared"])
def test_editors_and_nim_c_get_the_right_backend(
    tmp_path: Path, torchlink: Callable[..., Result], project: Nim, form: tuple[str, ...], torch_root: Path
) -> None:
    named = () if form else ("--libtorch", torch_root)
    assert torchlink("nim", "init", tmp_path, *form, *named).code == 0
    checked = Nim(tmp_path, project.environment).run("check", "--hints:off", "main.nim")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_c_backend_is_refused_with_the_command_that_works(project: Nim) -> None:
    refused = project.run("check", "--backend:c", "--hints:off", "main.nim")
    assert refused.returncode != 0
    assert "build with `nim cpp`" in refused.stdout + refused.stderr


def test_the_shared_form_runs_torchlink_and_gets_the_same_flags(
    project: Nim, models: Path, torchlink: Callable[..., Result]
) -> None:
    assert project.build("main").returncode == 0
    (project.directory / "main").unlink()
    (project.directory / "nim.cfg").rename(project.directory / "nim.cfg.kept")
    try:
        assert torchlink("nim", "init", project.directory, "--shared", "--force").code == 0
        built = project.build("main")
        assert built.returncode == 0, built.stderr
        done = run_clean(project.directory / "main", models / "Linear.pt", "1", "4")
        assert done.stdout == "float32 [1, 2]: 6.5 21.5\n"
    finally:
        (project.directory / "config.nims").unlink()
        (project.directory / "nim.cfg.kept").rename(project.directory / "nim.cfg")


def test_the_shared_form_contains_no_path_and_needs_no_libtorch(
    tmp_path: Path, torchlink: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHLINK_LIBTORCH", str(tmp_path / "none"))
    assert torchlink("nim", "init", tmp_path / "app", "--shared", "--cpu").code == 0
    text = "".join(path.read_text() for path in (tmp_path / "app").iterdir() if path.suffix != ".cpp")
    assert '"torchlink flags --nim --cpu"' in text
    assert "-isystem" not in text
    assert "nim.cfg" not in {path.name for path in (tmp_path / "app").iterdir()}


def test_the_shared_form_reports_why_torchlink_failed(
    tmp_path: Path, torchlink: Callable[..., Result], project: Nim
) -> None:
    torchlink("nim", "init", tmp_path, "--shared")
    environment = {**project.environment, "TORCHLINK_LIBTORCH": str(tmp_path / "none")}
    for change, sentence in (
        ({}, str(tmp_path / "none")),
        ({"PATH": nim_alone(tmp_path)}, "is torchlink installed"),
    ):
        done = subprocess.run(
            ["nim", "cpp", "--hints:off", "main.nim"],
            cwd=tmp_path,
            env={**environment, **change},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0
        assert sentence in done.stdout + done.stderr


def nim_alone(directory: Path) -> str:
    """A PATH on which a shell and Nim are, torchlink is not."""
    places = directory / "alone"
    places.mkdir()
    for tool in ("nim", "sh"):
        (places / tool).symlink_to(shutil.which(tool) or unmet(tool))
    return str(places)


def test_a_project_is_made_of_the_example_itself(project: Nim) -> None:
    for name in ("main.nim", "torchmodel.nim", "torchmodel.cpp"):
        example = REPOSITORY / "examples" / "nim" / name
        assert (project.directory / name).read_bytes() == example.read_bytes()


def test_nimble_takes_the_package(project: Nim) -> None:
    if shutil.which("nimble") is None:
        unmet("nimble")
    done = subprocess.run(
        ["nimble", "check"],
        cwd=project.directory,
        env={**project.environment, "HOME": str(project.directory / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("directory", "name"),
    [
        ("app", "app"),
        ("my app", "my_app"),
        ("Größe--x__y", "gr_e_x_y"),
        ("9 lives", "app_9_lives"),
        ("日本", "app"),
        ("con", "con_app"),
        ("torchpkg", "torchpkg_app"),
        ("", "app"),
    ],
)
def test_a_package_name_is_one_that_nimble_takes(directory: str, name: str) -> None:
    assert package_name(directory) == name


def test_nothing_of_the_users_is_overwritten(tmp_path: Path, torchlink: Callable[..., Result]) -> None:
    (tmp_path / "main.nim").write_text("echo 1\n")
    refused = torchlink("nim", "init", tmp_path, "--shared")
    assert refused.code == 2
    assert "main.nim" in refused.err
    assert [path.name for path in tmp_path.iterdir()] == ["main.nim"]
    assert torchlink("nim", "init", tmp_path, "--shared", "--force").code == 0


def test_the_answer_is_the_files_alone(
    tmp_path: Path, torchlink: Callable[..., Result], torch_root: Path
) -> None:
    plain = torchlink("nim", "init", tmp_path / "a", "--libtorch", torch_root)
    assert plain.code == 0
    assert {line.rpartition("/")[2] for line in plain.out.splitlines()} == {
        "nim.cfg",
        "a.nimble",
        "main.nim",
        "torchmodel.nim",
        "torchmodel.cpp",
        ".gitignore",
    }
    assert f"cd {tmp_path / 'a'} && nim cpp main.nim" in plain.err
    answer = json.loads(torchlink("nim", "init", tmp_path / "b", "--libtorch", torch_root, "--json").out)
    assert answer["schema"] == 1
    assert str(tmp_path / "b" / "nim.cfg") in answer["files"]


def test_a_named_libtorch_and_a_shared_project_contradict_each_other(
    tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    refused = torchlink("nim", "init", tmp_path / "app", "--shared", "--libtorch", "/opt/libtorch")
    assert refused.code == 2
    assert "TORCHLINK_LIBTORCH" in refused.err
    assert not (tmp_path / "app").exists()
