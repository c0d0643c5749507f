"""A verify under stress: killed, interrupted, without room, without a home, with the clock set back."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import program, until
from torchlink.compilation import cache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.compile, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]

MARK = "TORCHLINK_TEST_STRESS"  # in the environment of everything that a test starts
# Real for torchlink's questions. For the loader it starts a process of its own, as g++ starts cc1plus, which writes the
# program in two halves.
COMPILER = """#!/bin/sh
case "$*" in
  *loader.cpp*)
    echo built >> "$COUNT"
    sh -c 'head -c 4096 /bin/true > loader; sleep "$SECONDS_TO_COMPILE"; cp /bin/true loader.new' || exit 1
    mv loader.new loader
    exit;;
esac
exec c++ "$@"
"""


class Stress:
    """`torchlink verify` with a compiler that takes a while and makes no real loader, in a world of its own."""

    def __init__(self, place: Path, torch_root: Path) -> None:
        self.place = place
        self.mark = uuid.uuid4().hex
        self.home = place / "home"
        self.home.mkdir()
        (place / "tmp").mkdir()
        compiler = place / "slow-c++"
        compiler.write_text(COMPILER)
        compiler.chmod(0o755)
        words = ("verify", "--libtorch", str(torch_root), "--compiler", str(compiler), "--json")
        self.command: tuple[str, ...] = (sys.executable, "-m", "torchlink", *words)

    @property
    def count(self) -> int:
        """How often the loader was compiled."""
        file = self.place / "count"
        return len(file.read_text().split()) if file.exists() else 0

    def environment(self, seconds: float, /, **more: str | None) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TORCHLINK_CACHE", "XDG", "HOME"))
        }
        ours = {
            MARK: self.mark,
            "HOME": str(self.home),
            "TMPDIR": str(self.place / "tmp"),
            "COUNT": str(self.place / "count"),
            "SECONDS_TO_COMPILE": str(seconds),
            **more,
        }
        return {**kept, **{name: value for name, value in ours.items() if value is not None}}

    def start(self, seconds: float = 0, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command,
            env=self.environment(seconds),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(self, *before: str, **more: str | None) -> tuple[dict[str, Any], str]:
        """The report on the loader, and stderr."""
        done = subprocess.run(
            [*before, *self.command],
            env=self.environment(0, **more),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        report = json.loads(done.stdout)
        assert "loader" in report, report
        return report["loader"], done.stderr

    def processes(self) -> list[int]:
        """What the test has started, directly or not, and what still runs."""
        found = []
        for file in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if f"{MARK}={self.mark}".encode() in file.read_bytes():
                    found.append(int(file.parent.name))
        return found

    def kept(self) -> list[str]:
        """The names of all that the cache holds of loaders, locks aside."""
        place = self.home / ".cache/torchlink/loaders"
        names = [each.name for each in place.iterdir()] if place.is_dir() else []
        return sorted(name for name in names if not name.endswith(".lock") and not name.startswith(".recent"))


@pytest.fixture
def stress(tmp_path: Path, torch_root: Path) -> Iterator[Stress]:
    made = Stress(tmp_path, torch_root)
    yield made
    for process in made.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def test_sixteen_cold_runs_at_once_build_once(stress: Stress) -> None:
    running = [stress.start(2) for _ in range(16)]
    reports = [json.loads(process.communicate(timeout=300)[0]) for process in running]
    assert stress.count == 1
    assert sorted(report["loader"]["cached"] for report in reports) == [False] + [True] * 15


@pytest.mark.parametrize("delay", [0.05, 0.15, 0.3, 0.5, 0.8, 1.2])
def test_killed_at_any_moment_it_leaves_no_half_file_and_no_process(
    stress: Stress, delay: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = stress.start(0.5)
    time.sleep(delay)  # a moment, whichever it is
    process.kill()
    process.communicate(timeout=60)
    until(lambda: not stress.processes())
    monkeypatch.setenv("TORCHLINK_CACHE_DIR", str(stress.home / ".cache/torchlink"))
    whole = [name for name in stress.kept() if not name.startswith(".")]
    assert all(cache.find(name) for name in whole)
    loader, said = stress.run()
    assert loader["cached"] is bool(whole)
    assert "note:" not in said
    assert len(stress.kept()) == 1, stress.kept()


@pytest.mark.parametrize("group", [True, False], ids=["the whole group", "the process alone"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_ends_with_all_its_processes(
    stress: Stress, number: signal.Signals, *, group: bool
) -> None:
    process = stress.start(600, start_new_session=True)
    until(lambda: stress.count == 1)
    if group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said
    until(lambda: not stress.processes())
    assert stress.kept() == []
    assert list((stress.place / "tmp").iterdir()) == []


def test_an_interrupted_real_compiler_ends_with_all_its_processes(stress: Stress, torch_root: Path) -> None:
    stress.command = (sys.executable, "-m", "torchlink", "verify", "--libtorch", str(torch_root))
    process = stress.start(start_new_session=True)
    until(lambda: any("cc1plus" in name or "clang" in name for name in map(name_of, stress.processes())))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    until(lambda: not stress.processes())
    assert stress.kept() == []


def name_of(process: int) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text(encoding="utf-8")
    except OSError:  # it has ended
        return ""


def one_note(said: str, reason: str) -> None:
    assert said.count("torchlink: note:") == 1, said
    assert reason in said
    assert "TORCHLINK_CACHE_DIR" in said


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes a file system of a given size."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    made: list[Path] = []

    def mount(options: str) -> Path:
        place = tmp_path / f"disk-{len(made)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"{options},mode=0700", "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True, check=False, timeout=30).returncode:
            pytest.skip("this root may not mount")
        made.append(place)
        return place

    yield mount
    for place in made:
        subprocess.run(["umount", "--lazy", str(place)], check=True, timeout=30)


def test_a_home_on_a_full_disk(stress: Stress, disk: Callable[[str], Path]) -> None:
    loader, said = stress.run(HOME=str(disk("size=1m")))
    assert loader["cached"] is False
    one_note(said, "is on a full disk")


def test_a_disk_that_fills_while_the_loader_is_built(stress: Stress, disk: Callable[[str], Path]) -> None:
    home = disk("size=20m")
    compiler = stress.place / "slow-c++"
    text = compiler.read_text(encoding="utf-8")
    full = "    head -c 30000000 /dev/zero > loader.o || exit\n    mv loader"
    compiler.write_text(text.replace("    mv loader", full), encoding="utf-8")
    loader, said = stress.run(HOME=str(home))
    assert loader["cached"] is False
    one_note(said, "is on a full disk")


def test_a_home_that_is_read_only(stress: Stress, disk: Callable[[str], Path]) -> None:
    home = disk("size=40m")
    subprocess.run(["mount", "-o", "remount,ro", str(home)], check=True, timeout=30)
    loader, said = stress.run(HOME=str(home))
    assert loader["cached"] is False
    one_note(said, "cannot be ")


def test_a_home_that_is_not_there(stress: Stress) -> None:
    loader, said = stress.run(HOME="/nonexistent/home")
    assert loader["cached"] is False
    one_note(said, "/nonexistent/home")


def test_without_the_variable_home_the_one_on_record_is_used(stress: Stress) -> None:
    # Another name for the cache, so that nothing is written into the home of whoever runs the tests.
    loader, said = stress.run(HOME=None, XDG_CACHE_HOME=str(stress.place / "cache"))
    assert loader["cached"] is False
    assert "note:" not in said


def test_a_clock_that_was_set_back_changes_nothing(stress: Stress) -> None:
    faketime = program("faketime")
    loader, _ = stress.run()
    assert loader["cached"] is False
    loader, said = stress.run(faketime, "-f", "-400d")
    assert loader["cached"] is True
    assert "note:" not in said
    for directory in (stress.home / ".cache/torchlink").rglob("*"):
        os.utime(directory, (2**32, 2**32))  # another machine's clock
    loader, said = stress.run()
    assert loader["cached"] is True
    assert "note:" not in said


def test_a_loader_that_is_built_with_a_wrong_clock_is_kept(stress: Stress) -> None:
    loader, said = stress.run(program("faketime"), "-f", "-400d")
    assert loader["cached"] is False
    assert "note:" not in said
    loader, _ = stress.run()
    assert loader["cached"] is True
    assert stress.count == 1
