"""Logs that are longer than what is searched: the beginning and the end count, and what was left out is reported."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from torchlink.explain import lines
from torchlink.explain.explanation import explain
from torchlink.explain.lines import Gap, Replay
from torchlink.report.explain_json import to_json

if TYPE_CHECKING:
    from pathlib import Path

TORCHLINK = [sys.executable, "-m", "torchlink", "explain", "--no-machine-facts"]
MISSING = (
    b"./app: error while loading shared libraries: libtorch_cpu.so: cannot open shared object file: No such\n"
)
PART = 1 << 19


class Pipe:
    """Cannot be read twice; gives odd numbers of bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, size: int, /) -> bytes:
        """Read up to `size` bytes."""
        return self._data.read(min(size, 100_001))


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "HEAD", PART)
    monkeypatch.setattr(lines, "TAIL", PART)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("kind", [io.BytesIO, Pipe])
@pytest.mark.parametrize("count", [10, 40_000, 100_000, 333_333])
def test_the_beginning_and_the_end_have_their_line_numbers(
    kind: type[io.BytesIO], encoding: str, count: int
) -> None:
    data = "".join(f"line {number}\n" for number in range(1, count + 1)).encode(encoding)
    with Replay(kind(data), "log") as log:
        for begin in (log.blocks, log.again):
            found = [
                (number, line)
                for block in begin()
                for number, line in enumerate(block.data.decode().splitlines(), block.first)
            ]
            seen = [number for number, line in found if line == f"line {number}"]
            assert (seen[0], seen[-1]) == (1, count)
            if len(data) <= 2 * PART:
                assert (seen, log.gaps) == ([*range(1, count + 1)], [])
                continue
            (gap,) = log.gaps
            assert gap.last is not None
            left = [*range(1, gap.first), *range(gap.last + 1, count + 1)]
            assert set(seen) - {gap.first, gap.last} == set(left)
            assert {number for number, _ in found} - set(seen) <= {gap.first, gap.last}
            width = 1 if encoding == "utf-8" else 2
            assert len("".join(f"line {number}\n" for number in left)) * width > 2 * PART - 100


@pytest.mark.parametrize("kind", [io.BytesIO, Pipe])
def test_what_is_not_there_is_not_missed(kind: type[io.BytesIO]) -> None:
    data = b"x\n" * PART  # as long as is searched
    with Replay(kind(data), "log") as log:
        assert b"".join(block.data for block in log.blocks()) == data
        assert not log.gaps


def test_an_endless_pipe_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless:
        def read(self, size: int, /) -> bytes:
            return b"y\n" * (size // 2)

    monkeypatch.setattr(lines, "MOST", 4 * PART)
    with Replay(Endless(), "log") as log:
        last = max(block.first + block.data.count(b"\n") for block in log.blocks())
        assert last == 5 * PART // 2 + 1
        middle, end = log.gaps
        assert middle == Gap("log", PART // 2 + 1, 4 * PART // 2 + 1)
        assert end == Gap("log", last, None)


def test_an_error_at_the_end_of_a_long_log_is_explained(tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    log.write_bytes(b"compiling\n" * PART + MISSING)
    with log.open("rb") as stream:
        found = to_json(explain([("build.log", stream)]))
    (cause,) = found["causes"]  # type: ignore[misc]
    assert [line["line"] for line in cause["evidence"]] == [PART + 1]  # type: ignore[has-type]
    (gap,) = found["not_searched"]  # type: ignore[misc]
    assert 1 < gap["first"] < gap["last"] < PART  # type: ignore[has-type]


def test_the_limit_is_reported_on_stderr(tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    with log.open("wb") as stream:
        stream.write(b"compiling\n" * 2000)
        stream.truncate(300 << 20)  # a hole
        stream.seek(0, 2)
        stream.write(b"\n" + MISSING)
    done = subprocess.run([*TORCHLINK, str(log)], capture_output=True, check=True, timeout=120)
    assert b"build.log:2002: ./app" in done.stdout
    assert b"lines 2001 to 2001 were not searched" in done.stderr
