"""No process that torchlink starts outlives it, however it ends, and no signal is lost while it starts one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import unmet, until
from torchlink.errors import RunFailedError
from torchlink.process import run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in Linux's /proc")

COMMAND = (sys.executable, "-m", "torchlink")
SOON = 20.0  # seconds; a process that is left behind would never end

# A signal arrives at each step of `replace` in turn: whenever Python calls or leaves something. The program ends for
# a SIGTERM and for nothing else, so one that is lost shows as an alarm (14).
EVERY_STEP = """
import os, signal, sys
from torchlink.cli.main import unwind_when_stopped
from torchlink.errors import Stopped
from torchlink.process import replace

unwind_when_stopped()
program = ["sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.01; done", sys.argv[1]]

def once(wanted):
    steps = 0
    def step(*_):
        nonlocal steps
        steps += 1
        if steps == wanted:
            sys.setprofile(None)
            os.kill(os.getpid(), signal.SIGTERM)
    signal.alarm(20)
    sys.setprofile(step)
    try:
        os._exit(replace(program))
    except Stopped as stopped:
        os._exit(128 + stopped.number)
    except BaseException:
        os._exit(99)

for wanted in range(1, int(sys.argv[2]), int(sys.argv[3])):
    child = os.fork()
    if not child:
        once(wanted)
    print(wanted, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
STEPS, STRIDE = 600, 29  # `replace` waits for its program after some 400


def carrying(*words: str) -> list[int]:
    """Return the processes with all these arguments, without zombies."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            line = (directory / "cmdline").read_bytes()
        except OSError:
            continue
        if all(word.encode() in line for word in words) and int(directory.name) != os.getpid():
            found.append(int(directory.name))
    return found


def wait_until(*words: str, there: bool, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until processes with these arguments exist, or no longer exist."""
    until(
        lambda: bool(carrying(*words)) is there or (process is not None and process.poll() is not None), SOON
    )


def test_a_signal_counts_at_every_step_of_starting_a_program(tmp_path: Path) -> None:
    command = [sys.executable, "-c", EVERY_STEP, str(tmp_path), str(STEPS), str(STRIDE)]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=200
    ).stdout.splitlines()
    codes = {wanted: int(code) for wanted, code in map(str.split, ended)}
    assert len(codes) == len(range(1, STEPS, STRIDE))
    assert set(codes.values()) <= {5, 128 + signal.SIGTERM}, codes
    assert carrying(str(tmp_path)) == []


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A source that a compiler waits for without end: a FIFO that nobody writes to."""
    if shutil.which("g++") is None:
        unmet("g++")
    source = tmp_path / "endless.h"
    os.mkfifo(source)
    return source


def compiling(arguments: Sequence[object], source: Path, cache: Path) -> subprocess.Popen[bytes]:
    """torchlink, with cc1plus running below the compiler driver that it has started."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        env={**os.environ, "TORCHLINK_CACHE_DIR": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until(str(source), "cc1plus", there=True, process=process)
    assert process.poll() is None
    return process


def only_this_process(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    process.send_signal(number)


def the_whole_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    os.killpg(process.pid, number)


ENDS = [
    (only_this_process, signal.SIGKILL, -signal.SIGKILL),
    (the_whole_group, signal.SIGKILL, -signal.SIGKILL),
    (only_this_process, signal.SIGTERM, 128 + signal.SIGTERM),
    (only_this_process, signal.SIGINT, 128 + signal.SIGINT),
    (only_this_process, signal.SIGQUIT, -signal.SIGQUIT),
]


@pytest.mark.compile
@pytest.mark.parametrize(("end", "number", "code"), ENDS)
def test_a_compiler_does_not_outlive_torchlink(
    end: Callable[[subprocess.Popen[bytes], signal.Signals], None],
    number: signal.Signals,
    code: int,
    endless: Path,
    torch_root: Path,
    tmp_path: Path,
) -> None:
    source = endless.rename(tmp_path / "endless.cpp")
    arguments = ["c++", "--libtorch", torch_root, source, "-o", tmp_path / "app"]
    process = compiling(arguments, source, tmp_path / "cache")
    end(process, number)
    assert process.wait(SOON) == code
    wait_until(str(source), there=False)


@pytest.mark.compile
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_compiler_of_a_killed_verify_is_gone(
    number: signal.Signals, endless: Path, torch_root: Path, tmp_path: Path
) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text(
        f'#!/bin/sh\ncase "$*" in *loader.cpp*) set -- -include {endless} "$@";; esac\nexec g++ "$@"\n'
    )
    compiler.chmod(0o755)
    arguments = ["verify", "--libtorch", torch_root, "--compiler", compiler]
    process = compiling(arguments, endless, tmp_path / "cache")
    process.send_signal(number)
    process.wait(SOON)
    wait_until(str(endless), there=False)


@pytest.mark.cmake
def test_ninjas_compilers_are_gone_though_they_have_groups_of_their_own(
    endless: Path, torch_root: Path, tmp_path: Path
) -> None:
    if shutil.which("ninja") is None:
        unmet("ninja")
    source = endless.rename(tmp_path / "endless.cpp")
    (tmp_path / "build.ninja").write_text(
        f"rule c\n  command = g++ -c {source} -o $out\nbuild endless.o: c\n"
    )
    arguments = ["run", "--libtorch", torch_root, "ninja", "-C", tmp_path]
    process = compiling(arguments, source, tmp_path / "cache")
    process.kill()
    process.wait(SOON)
    wait_until(str(source), there=False)


def test_a_program_that_takes_too_long_is_killed_with_all_its_children(tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match="did not finish within"):
        run(["sh", "-c", "sh -c 'while :; do sleep 0.1; done' $0 & wait", tmp_path], timeout=0.5)
    assert carrying(str(tmp_path)) == []


def test_a_daemon_that_a_program_starts_on_purpose_survives(tmp_path: Path) -> None:
    script = (
        "sh -c 'while :; do sleep 0.1; done' $0 >/dev/null 2>&1 & echo $!"  # as a compiler cache's server
    )
    server = int(run(["sh", "-c", script, tmp_path]).stdout)
    os.kill(server, signal.SIGKILL)
    wait_until(str(tmp_path), there=False)
