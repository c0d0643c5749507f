"""A command that gets SIGTERM or SIGHUP ends soon, with its own exit code, and leaves no temporary files."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.conftest import until
from tests.extract.wheels import CUDA, torch_wheel
from torchlink import signals
from torchlink.verify.twins import Adopted

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = (sys.executable, "-m", "torchlink")


def wait_for(directory: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    """Wait until a file exists, or the process has ended."""
    until(lambda: list(directory.glob(pattern)) or process.poll() is not None)


@pytest.mark.compile
@pytest.mark.skipif(sys.platform != "linux", reason="a search path that must be patched is ELF's")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_an_extraction_that_is_stopped_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    wheel = torch_wheel(tmp_path / "wheels", replace(CUDA, search_path="$ORIGIN/../elsewhere"))
    tools, out = tmp_path / "bin", tmp_path / "there"
    tools.mkdir()
    (tools / "patchelf").write_text("#!/bin/sh\ntouch $0-runs\nexec sleep 60\n")  # the middle of the work
    (tools / "patchelf").chmod(0o755)
    process = subprocess.Popen(
        [*COMMAND, "extract", wheel, out / "libtorch"],
        env={"PATH": f"{tools}:/usr/bin:/bin", "TORCHLINK_CACHE_DIR": str(tmp_path / "cache")},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(tools, "patchelf-runs", process)
    process.send_signal(number)
    if number != signal.SIGINT:  # `timeout` sends its signal twice
        process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said
    assert list(out.iterdir()) == []


def test_a_program_that_is_run_gets_the_signal_and_its_exit_status_counts(tmp_path: Path) -> None:
    script = f"trap 'exit 5' TERM; touch {tmp_path}/up; while :; do sleep 0.05; done"
    code = (
        "import sys; from torchlink.cli.main import unwind_when_stopped as prepare\n"
        "from torchlink.process import replace; prepare(); sys.exit(replace(sys.argv[1:]))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, "sh", "-c", script], text=True)
    wait_for(tmp_path, "up", process)
    process.terminate()
    assert process.wait(30) == 5


# The signal arrives within Thread.start, at a point where the standard library does not survive an exception: it has
# released a lock that it is about to take again.
AT_A_THREADS_START = """
import os, signal, sys, threading, time
from torchlink.cli.main import unwind_when_stopped
from torchlink.process import copied

regain = threading.Condition._acquire_restore

def interrupted(condition, state):
    threading.Condition._acquire_restore = regain
    while not os.path.exists("up"):
        time.sleep(0.01)
    open("sent", "w").close()
    os.kill(os.getpid(), signal.SIGHUP)
    regain(condition, state)

unwind_when_stopped()
threading.Condition._acquire_restore = interrupted
sys.exit(copied(sys.argv[1:])[0])
"""


def test_a_signal_while_the_output_begins_to_be_copied_is_passed_on(tmp_path: Path) -> None:
    script = "trap 'exit 5' HUP; touch up; while :; do sleep 0.05; done"
    command = [sys.executable, "-c", AT_A_THREADS_START, "sh", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (5, "")
    assert (tmp_path / "sent").exists()


# The signal arrives when subprocess has just taken the lock that it needs to wait for a process, before it is ready to
# release it.
WITHIN_A_LOCK = """
import os, signal, sys, threading
from torchlink.cli import main

class Lock:
    def __init__(self):
        self.lock = real()
    def acquire(self, *arguments):
        taken = self.lock.acquire(*arguments)
        if taken and os.path.exists("up") and not os.path.exists("sent"):
            open("sent", "w").close()
            os.kill(os.getpid(), int(sys.argv[1]))
        return taken
    def release(self):
        self.lock.release()
    __enter__, __exit__ = acquire, lambda self, *_: self.release()

real = threading.Lock
from torchlink import process
main.dispatch = lambda words: process.run(words)
threading.Lock = Lock
main.entry(sys.argv[2:])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_while_a_lock_is_being_taken_does_not_leave_it_locked(
    tmp_path: Path, number: signal.Signals
) -> None:
    script = "exec >&- 2>&-; touch up; sleep 600"
    command = [sys.executable, "-c", WITHIN_A_LOCK, str(int(number)), "sh", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    said = "interrupted" if number == signal.SIGINT else "stopped"
    assert (done.returncode, done.stderr) == (128 + number, f"torchlink: {said}\n")
    assert (tmp_path / "sent").exists()


def test_the_lock_of_a_forked_loader_is_one_of_those() -> None:
    assert Adopted.__module__ in signals.UNINTERRUPTED


IN_A_DEL = """
import signal, time
from torchlink.cli import main

class Thing:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

main.dispatch = lambda _: (Thing() and None, time.sleep(600))
main.entry(["cache", "show"])
"""
AT_EXIT = """
import atexit, signal
from torchlink.cli import main

atexit.register(signal.raise_signal, signal.SIGTERM)
main.entry(["cache", "show", "--json"])
"""


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [(IN_A_DEL, 128 + signal.SIGTERM, "torchlink: stopped\n"), (AT_EXIT, -signal.SIGTERM, "")],
    ids=["in __del__", "at exit"],
)
def test_a_signal_where_python_would_print_an_exception(script: str, code: int, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (code, said)


AROUND_A_WORKSPACE = """
import os, shutil, signal, sys, time
from pathlib import Path
from torchlink import atomic
from torchlink.cli import main

def signalled(function, *, after):
    def call(*arguments, **options):
        if not after:
            signal.raise_signal(signal.SIGTERM)
        result = function(*arguments, **options)
        if after:
            signal.raise_signal(signal.SIGTERM)
        return result
    return call

def work(_):
    if sys.argv[1] == "is made":
        os.mkdir = signalled(os.mkdir, after=True)
    else:
        shutil.rmtree = signalled(shutil.rmtree, after=False)
    with atomic.beside(Path("target")) as place:
        (place / "file").touch()
        if sys.argv[1] == "is made":
            time.sleep(600)
    time.sleep(600)

main.dispatch = work
main.entry(["cache", "show"])
"""


@pytest.mark.parametrize("moment", ["is made", "is deleted"])
def test_a_signal_while_a_workspace(tmp_path: Path, moment: str) -> None:
    command = [sys.executable, "-c", AROUND_A_WORKSPACE, moment]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "torchlink: stopped\n")
    assert list(tmp_path.iterdir()) == []


def test_a_signal_that_the_caller_ignores_stays_ignored(tmp_path: Path) -> None:
    code = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from torchlink.cli.main import unwind_when_stopped; unwind_when_stopped()\n"
        "signal.raise_signal(signal.SIGHUP)\n"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False, timeout=300).returncode == 0
    )


SWALLOWED = """
import os, signal, sys, weakref
from torchlink.cli import main
from torchlink.cli.main import unwind_when_stopped

class Thing: ...

def told_in_a_callback(*_):
    thing = Thing()
    seen = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGTERM))  # Python drops what is raised in there
    del thing

unwind_when_stopped()
sys.unraisablehook = lambda _: None
dispatch = main.dispatch
main.dispatch = lambda arguments: told_in_a_callback() or dispatch(arguments)
sys.exit(main.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("arguments", [("run", "--", "touch", "started"), ("cache", "show")])
def test_a_signal_whose_exception_python_drops_counts_all_the_same(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SWALLOWED, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "torchlink: stopped\n")
    assert not (tmp_path / "started").exists()
