"""What `torchlink verify` prints while it works: in a pipe, and on a terminal."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
from typing import TYPE_CHECKING

import pytest

from tests.conftest import needed
from torchlink.paths import data_dir

torch = needed("torch")

from tests.verify.small_models import save  # noqa: E402 - needs torch
from tests.verify.test_killed import Endless  # noqa: E402 - needs torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Result

pytestmark = [
    pytest.mark.compile,
    pytest.mark.skipif(sys.platform != "linux", reason="a pty as Linux has it"),
]
TINY = str(data_dir("templates") / "loader" / "tiny.pt")


class Terminal:
    """A terminal that a program writes to, read from its other side."""

    def __init__(self) -> None:
        self._own, self.end = pty.openpty()
        attributes = termios.tcgetattr(self.end)
        attributes[1] &= ~termios.ONLCR
        termios.tcsetattr(self.end, termios.TCSANOW, attributes)
        self.shown = ""

    def until(self, text: str) -> str:
        """What has been written as soon as it holds a text, or as nobody writes any more."""
        while text not in self.shown:
            try:
                self.shown += os.read(self._own, 4096).decode()
            except OSError:
                break
        return self.shown

    def hang_up(self) -> None:
        """Close this process's own copy of the program's side."""
        os.close(self.end)


@pytest.fixture
def started(torch_root: Path, private_cache: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a verify; `environment` is added, and what runs at the test's end is stopped."""
    running: list[subprocess.Popen[str]] = []

    def start(*words: str, stdout: int, stderr: int, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "torchlink", "verify", "--libtorch", str(torch_root), *words]
        usual = {**os.environ, "TORCHLINK_CACHE_DIR": str(private_cache), "TERM": "xterm"}
        usual.pop("NO_COLOR", None)
        process = subprocess.Popen(
            command, stdout=stdout, stderr=stderr, text=True, env={**usual, **environment}
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.send_signal(signal.SIGTERM)
        process.communicate()


@pytest.fixture
def blocked(tmp_path: Path) -> str:
    """A compiler that never ends once it is asked to compile something."""
    real = shutil.which("c++")
    os.mkfifo(tmp_path / "never")
    script = tmp_path / "c++"
    script.write_text(
        f'#!/bin/sh\ncase "$*" in *loader.cpp*) exec cat {tmp_path}/never ;; esac\nexec {real} "$@"\n'
    )
    script.chmod(0o755)
    return str(script)


def test_a_model_s_lines_are_there_before_the_next_is_done(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    endless = str(save(Endless(), tmp_path / "endless.pt"))
    process = started(
        TINY, endless, "--input", "float32[1,4]", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    lines: list[str] = []
    while not lines or not lines[-1].lstrip().startswith("output"):
        lines.append(process.stdout.readline())
        assert lines[-1], lines
    assert f"{TINY}: ok\n" in lines
    assert process.poll() is None
    process.terminate()
    assert "endless.pt" not in process.communicate()[0]


def test_a_terminal_shows_which_model_is_under_way_and_keeps_nothing_of_it(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    endless = str(save(Endless(), tmp_path / "end\x1b[31mless.pt"))
    terminal = Terminal()
    process = started(
        TINY, endless, "--input", "float32[1,4]", stdout=subprocess.PIPE, stderr=terminal.end, COLUMNS="300"
    )
    terminal.hang_up()
    shown = terminal.until("1/2")
    assert "verifying" in shown
    assert r"end\x1b[31mless.pt" in shown
    assert "end\x1b" not in shown
    process.terminate()
    assert process.stdout
    out = process.stdout.read()
    assert process.wait() == 143
    assert "tiny.pt: ok" in out
    assert "verifying" not in out
    end = terminal.until("no such text")
    assert end.rindex("\x1b[2K") > end.rindex("verifying")  # the line is cleared …
    assert end.rindex("\x1b[?25h") > end.rindex("\x1b[?25l")  # … and the cursor is back


def test_without_colours_the_terminal_shows_it_without(
    started: Callable[..., subprocess.Popen[str]], blocked: str
) -> None:
    terminal = Terminal()
    started(
        "--compiler", blocked, stdout=subprocess.DEVNULL, stderr=terminal.end, NO_COLOR="1", COLUMNS="200"
    )
    terminal.hang_up()
    shown = terminal.until("0:00:0")
    assert "compiling the reference loader" in shown
    assert "\x1b[3" not in shown


def test_a_terminal_that_cannot_move_a_line_is_a_log(
    started: Callable[..., subprocess.Popen[str]], blocked: str
) -> None:
    terminal = Terminal()
    started("--compiler", blocked, stdout=subprocess.DEVNULL, stderr=terminal.end, TERM="dumb")
    terminal.hang_up()
    shown = terminal.until("\n")
    assert shown.startswith("torchlink: compiling the reference loader with c++ ")
    assert "\x1b" not in shown


def test_a_log_gets_one_line_when_the_loader_is_compiled(
    started: Callable[..., subprocess.Popen[str]], blocked: str
) -> None:
    process = started("--compiler", blocked, "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr
    line = process.stderr.readline()
    assert line.startswith("torchlink: compiling the reference loader with c++ ")
    assert "about 10 s, once" in line
    process.terminate()
    out, err = process.communicate()
    assert (out, err) == ("", "torchlink: stopped\n")


def test_several_models_end_with_a_summary(
    torchlink: Callable[..., Result], torch_root: Path, tmp_path: Path
) -> None:
    words = ("verify", TINY, tmp_path / "gone.pt", TINY, "--libtorch", torch_root)
    done = torchlink(*words)
    assert done.out.splitlines()[-1] == f"2 of 3 models ok, 1 FAILED: {tmp_path / 'gone.pt'}"
    assert len(json.loads(torchlink(*words, "--json").out)["models"]) == 3
    assert torchlink("verify", TINY, TINY, "--libtorch", torch_root).out.endswith("\n2 of 2 models ok\n")
    assert "models ok" not in torchlink("verify", TINY, "--libtorch", torch_root).out
