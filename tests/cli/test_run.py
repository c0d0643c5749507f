"""`torchlink run`: sets the library path and changes nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import run_clean
from tests.fake_libtorch import companion, fake_libtorch
from torchlink.cli.run import environment
from torchlink.errors import InexpressibleError, LibtorchUnusableError
from torchlink.libtorch.machine import this_machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result
    from torchlink.libtorch.facts import Libtorch

    Torchlink = Callable[..., Result]


VARIABLE = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"


@pytest.fixture
def here(tmp_path: Path) -> Libtorch:
    """A libtorch for this platform."""
    return fake_libtorch(tmp_path / "torch", platform=this_machine().platform)


def test_libtorchs_directory_comes_first(
    torchlink: Torchlink, torch_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "/before")
    done = torchlink("run", "--libtorch", torch_root, "--", "sh", "-c", f"echo ${VARIABLE}")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{torch_root}/lib:")
    assert done.out.endswith(":/before\n")


def test_the_exit_code_passes_through(torchlink: Torchlink, torch_root: Path) -> None:
    assert torchlink("run", "--libtorch", torch_root, "sh", "-c", "exit 7").code == 7
    assert torchlink("run", "--libtorch", torch_root, "sh", "-c", "kill -9 $$").code == 137


def test_options_after_the_command_belong_to_the_command(torchlink: Torchlink, torch_root: Path) -> None:
    done = torchlink("run", "--libtorch", torch_root, "echo", "--libtorch", "-x", "--", "--help")
    assert done.out == "--libtorch -x -- --help\n"


def test_standard_input_is_the_commands(torch_root: Path) -> None:
    command = [sys.executable, "-m", "torchlink", "run", "--libtorch", str(torch_root), "--", "cat"]
    assert (
        subprocess.run(
            command, input="through", capture_output=True, text=True, check=True, timeout=300
        ).stdout
        == "through"
    )


def test_a_missing_command_is_an_error(torchlink: Torchlink, torch_root: Path) -> None:
    assert torchlink("run").code == 2
    done = torchlink("run", "--libtorch", torch_root, "no-such-program")
    assert done.code == 2
    assert "no-such-program" in done.err


@pytest.mark.compile
def test_a_program_without_a_search_path_runs(torchlink: Torchlink, torch_root: Path, tmp_path: Path) -> None:
    (tmp_path / "main.cpp").write_text(
        "#include <string>\nnamespace at { std::string show_config(); }\n"
        "int main() { return at::show_config().empty(); }\n"
    )
    chosen = ("--libtorch", torch_root)
    app = tmp_path / "app"
    assert torchlink("c++", *chosen, "--rpath", "none", tmp_path / "main.cpp", "-o", app).code == 0
    assert run_clean(app).returncode != 0
    assert torchlink("run", *chosen, "--", app).code == 0


def test_companions_follow_libtorch(here: Libtorch, tmp_path: Path) -> None:
    beside = companion(tmp_path / "nvidia/cudnn/lib", "libcudnn.so.9", in_place=True)
    set_here = environment(here._replace(companion_dirs=(beside,)), {"HOME": "/h", VARIABLE: ""})
    assert set_here == {"HOME": "/h", VARIABLE: f"{here.library_dir}:{beside.path}"}


def test_a_libtorch_among_the_systems_needs_no_variable(here: Libtorch) -> None:
    from pathlib import Path

    debian = here._replace(library_dir=Path("/usr/lib/x86_64-linux-gnu"))
    assert environment(debian, {"HOME": "/h"}) == {"HOME": "/h"}


@pytest.mark.parametrize("name", ["a:b", "a;b"])
def test_a_directory_that_the_variable_cannot_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InexpressibleError, match="cannot hold"):
        environment(fake_libtorch(tmp_path / name, platform=this_machine().platform), {})


def test_another_platforms_libtorch_runs_nothing_here(here: Libtorch) -> None:
    for other in (here._replace(platform="windows"), here._replace(packed=True)):
        with pytest.raises(LibtorchUnusableError, match="no program can run"):
            environment(other, os.environ)


def test_show_prints_a_command_that_does_the_same(
    torchlink: Torchlink, torch_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "with space"))
    words = ("--libtorch", torch_root, "--", "sh", "-c", f"echo ${VARIABLE}")
    shown = torchlink("run", "--show", *words)
    assert (shown.code, shown.err, shown.out.count("\n")) == (0, "", 1)
    done = subprocess.run(["sh", "-c", shown.out], capture_output=True, text=True, check=True, env={})
    assert done.stdout == torchlink("run", *words).out
