"""What every command line has in common: exit codes, one error, no traceback, only results on stdout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import until
from torchlink.cli.commands import COMMANDS
from torchlink.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result


def test_no_arguments_print_the_help(torchlink: Callable[..., Result]) -> None:
    shown = torchlink()
    assert shown.code == 0
    assert all(command in shown.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(torchlink: Callable[..., Result], command: str) -> None:
    shown = torchlink(command, "--help")
    assert shown.code == 0
    assert f"torchlink {command}" in shown.out


def test_an_unknown_command_is_one_error_and_exit_2(torchlink: Callable[..., Result]) -> None:
    shown = torchlink("fnid")
    assert shown.code == 2
    assert shown.out == ""
    assert "fnid" in shown.err
    assert "--help" in shown.err


def test_an_error_is_an_object_with_json(torchlink: Callable[..., Result], tmp_path: Path) -> None:
    shown = torchlink("find", "--json", "--libtorch", tmp_path / "nowhere")
    assert shown.code == 2
    answer = json.loads(shown.out)
    assert answer["schema"] == 1
    assert set(answer["error"]) >= {"code", "message", "hint"}
    assert "nowhere" in answer["error"]["message"]


def test_a_fault_of_our_own_is_a_sentence_and_a_file(
    torchlink: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCHLINK_CACHE_DIR", str(tmp_path))
    monkeypatch.setitem(COMMANDS, "broken", "no_such_module")
    shown = torchlink("broken")
    assert shown.code == 2
    assert "Traceback" not in shown.err
    assert "Traceback" in (tmp_path / "logs" / "internal-error.txt").read_text()


def test_a_closed_pipe_is_not_an_error(torch_root: Path) -> None:
    script = f"{sys.executable} -m torchlink find --libtorch '{torch_root}' | true"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False, timeout=300)
    assert done.stderr == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has a device that is always full")  # noqa: PTH110
@pytest.mark.parametrize("command", ["find", "flags", "doctor", "lint /bin/sh", "find --json"])
def test_an_answer_that_cannot_be_written_is_one_sentence(command: str, torch_root: Path) -> None:
    script = f"{sys.executable} -m torchlink {command} > /dev/full"
    environment = {**os.environ, "TORCHLINK_LIBTORCH": str(torch_root)}
    done = subprocess.run(
        ["sh", "-c", script], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cannot be written" in done.stderr


def test_main_returns_the_exit_code_instead_of_leaving() -> None:
    assert main(["--version"]) == 0


@pytest.mark.compile
def test_an_interruption_is_reported_and_exits_130(tmp_path: Path, torch_root: Path) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "torchlink", "verify", "--libtorch", str(torch_root)],
        env={**os.environ, "TORCHLINK_CACHE_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a shell in the background hands an ignored SIGINT on
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - no threads
    )
    until(lambda: list(tmp_path.rglob("*.lock")))  # by then it waits for the compiler
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert (running.returncode, said.splitlines()[-1]) == (130, "torchlink: interrupted")


def test_an_interruption_of_what_defines_a_dataclass_exits_130(tmp_path: Path) -> None:
    (tmp_path / "interrupted.py").write_text(
        "from torchlink.cli import main\n"
        "main.dispatch = lambda _: exec('raise KeyboardInterrupt')\n"  # dataclasses execute such texts
        "main.entry(['find'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (130, "torchlink: interrupted\n")


@pytest.mark.parametrize(
    ("command", "code"),
    [("find", 2), ("find --json", 2), ("--version", 2), ("flags --response-file w.rsp", 0)],
)
def test_an_answer_for_a_closed_stdout_is_one_sentence(
    command: str, code: int, torch_root: Path, tmp_path: Path
) -> None:
    for closed in (">&-", "<&- >&-"):
        done = subprocess.run(
            ["sh", "-c", f"{sys.executable} -m torchlink {command} {closed}"],
            env={**os.environ, "TORCHLINK_LIBTORCH": str(torch_root)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == code
        assert ("cannot be written" in done.stderr, done.stderr.count("\n")) == (code == 2, int(code == 2))


@pytest.mark.parametrize(
    "option", ["verify x.pt --input", "lint x --target", "verify x.pt --device", "find --print"]
)
def test_an_error_repeats_no_more_of_the_command_line_than_one_reads(
    torchlink: Callable[..., Result], option: str
) -> None:
    for words in ((*option.split(), "x" * 20_000), (f"--{'x' * 20_000}",)):
        shown = torchlink(*words)
        assert shown.code == 2
        assert "xxx…" in shown.err
        assert len(shown.err) < 2000
