"""The loader compiled through a compiler launcher: a team's cache serves, and a broken launcher is no failed build."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import program, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.compile

# Real for torchlink's questions; it makes nothing of the loader but files of the right names.
COMPILER = """#!/bin/sh
case "$*" in
  *"-c source/loader.cpp"*) echo object >> "$LOG"; : > loader.o;;
  *loader.o*) echo link >> "$LOG"; cp /bin/true loader;;
  *loader.cpp*) echo both >> "$LOG"; cp /bin/true loader;;
  *) exec c++ "$@";;
esac
"""
LAUNCHER = """#!/bin/sh
[ "$1" = --version ] && exit
echo launched >> "$LOG"
exec "$@"
"""
BROKEN = """#!/bin/sh
[ "$1" = --version ] && exit
echo 'ccache: error: no room' >&2
exit 1
"""


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def warm(torch_root: Path, *words: str, **environment: str) -> tuple[dict[str, Any], str]:
    """The first loader of `cache warm --json`, and stderr."""
    kept = {name: value for name, value in os.environ.items() if name != "TORCHLINK_LAUNCHER"}
    done = subprocess.run(
        [sys.executable, "-m", "torchlink", "cache", "warm", "--libtorch", str(torch_root), "--json", *words],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    answer = json.loads(done.stdout)
    return (answer["loaders"][0] if "loaders" in answer else answer), done.stderr


@pytest.fixture
def fake(tmp_path: Path) -> dict[str, str]:
    """A launcher on PATH before all others, and a place for what was started."""
    script(tmp_path / "bin" / "ccache", LAUNCHER)
    return {
        "TORCHLINK_CACHE_DIR": str(tmp_path / "cache"),
        "LOG": str(tmp_path / "log"),
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
    }


def started(environment: dict[str, str]) -> list[str]:
    with Path(environment["LOG"]).open(encoding="utf-8") as log:
        return log.read().split()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    """The address of a Redis of this test's own."""
    server = program("redis-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = (server, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(tmp_path))
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as running:
        try:
            until(lambda: answers(port))
            yield f"redis://127.0.0.1:{port}|connect-timeout=60000|operation-timeout=60000"
        finally:
            running.terminate()


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 10).close()
    except OSError:
        return False
    return True


def statistics(environment: dict[str, str]) -> dict[str, int]:
    """What ccache has counted in one home."""
    done = subprocess.run(
        ["ccache", "--print-stats"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return {name: int(value) for name, value in map(str.split, done.stdout.splitlines())}


def test_an_empty_home_builds_the_loader_from_a_teams_redis(
    redis: str, torch_root: Path, tmp_path: Path
) -> None:
    program("ccache")
    elsewhere = tmp_path / "somewhere" / "else" / "torch"  # the colleague's libtorch
    elsewhere.mkdir(parents=True)
    for entry in torch_root.iterdir():
        (elsewhere / entry.name).symlink_to(entry)
    counted = []
    for home, libtorch in ((tmp_path / "anna", torch_root), (tmp_path / "b" / "berta", elsewhere)):
        home.mkdir(parents=True)
        environment = {
            "HOME": str(home),
            "TORCHLINK_CACHE_DIR": str(home / "torchlink"),
            "CCACHE_DIR": str(home / "ccache"),
            "CCACHE_REMOTE_STORAGE": redis,
            "CCACHE_SECONDARY_STORAGE": redis,  # its name before ccache 4.7
        }
        built, said = warm(libtorch, **environment)
        assert built["cached"] is False
        assert "failed" not in said
        counted.append(statistics(environment))
    assert [each["cache_miss"] for each in counted] == [1, 0]
    assert counted[1]["direct_cache_hit"] == 1
    # The same program: it runs a model, and its headers are those of the second libtorch.
    for line in (home / "torchlink").glob("loaders/*/headers"):
        assert f"{libtorch}/include/" in line.read_text(encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "torchlink", "verify", "--libtorch", str(libtorch), "--json"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert json.loads(done.stdout)["loader"]["cached"] is True  # TORCHLINK_LAUNCHER=none: one entry for both


def test_a_launcher_on_path_compiles_and_does_not_link(
    fake: dict[str, str], torch_root: Path, tmp_path: Path
) -> None:
    compiler = script(tmp_path / "fake-c++", COMPILER)
    built, _ = warm(torch_root, "--compiler", str(compiler), **fake)
    assert started(fake) == ["launched", "object", "link"]
    again, _ = warm(torch_root, "--compiler", str(compiler), **fake)
    assert (built["cached"], again["cached"]) == (False, True)
    assert len(started(fake)) == 3


def test_a_launcher_that_cxx_names_is_used_and_none_is_put_before_it(
    fake: dict[str, str], torch_root: Path, tmp_path: Path
) -> None:
    compiler = script(tmp_path / "fake-c++", COMPILER)
    script(tmp_path / "bin" / "sccache", LAUNCHER)
    warm(torch_root, **fake, CXX=f"sccache {compiler}")
    assert started(fake) == ["launched", "object", "launched", "link"]


def test_it_can_be_switched_off_and_named(fake: dict[str, str], torch_root: Path, tmp_path: Path) -> None:
    compiler = script(tmp_path / "fake-c++", COMPILER)
    warm(torch_root, "--compiler", str(compiler), **fake, TORCHLINK_LAUNCHER="none")
    assert started(fake) == ["both"]
    shutil.rmtree(tmp_path / "cache")
    mine = script(tmp_path / "my launcher", LAUNCHER)
    warm(torch_root, "--compiler", str(compiler), **fake, TORCHLINK_LAUNCHER=str(mine))
    assert started(fake)[1:] == ["launched", "object", "link"]
    shutil.rmtree(tmp_path / "cache")
    answer, said = warm(
        torch_root, "--compiler", str(compiler), **fake, TORCHLINK_LAUNCHER="no-such-launcher"
    )
    assert answer["error"]["code"] == "tool-missing", said
    assert "no-such-launcher" in answer["error"]["message"]


def test_a_launcher_that_fails_is_a_note_and_the_loader_is_built(
    fake: dict[str, str], torch_root: Path, tmp_path: Path
) -> None:
    script(tmp_path / "bin" / "ccache", BROKEN)
    compiler = script(tmp_path / "fake-c++", COMPILER)
    built, said = warm(torch_root, "--compiler", str(compiler), **fake)
    assert started(fake) == ["both"]
    assert built["cached"] is False
    assert said.count("torchlink: note:") == 1
    assert "ccache failed (ccache: error: no room)" in said
