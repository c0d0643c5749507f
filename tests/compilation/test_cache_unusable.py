"""A cache that cannot be written is reported in one sentence and replaced by a temporary one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import unmet

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
# Makes an entry as a build does, and finds it again.
BUILD = """
from torchlink.compilation import cache
with cache.lock("k"), cache.workspace() as work:
    (work / "entry").mkdir()
    (work / "entry/loader").write_text("#!/bin/sh")
    (work / "entry/loader").chmod(0o700)
    made = cache.publish("k", work / "entry", "loader", {})
assert cache.find("k") == made
print(made.program.parents[2])
"""
# Makes what CMake reads after the end of the process.
LAST = "from torchlink.compilation.cmake import write_initial_cache; print(write_initial_cache('text'))"


def python(tmp_path: Path, code: str, **environment: str) -> tuple[Path, str]:
    """The path that a script prints, and its stderr; no variable but these names a cache."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("TORCHLINK", "XDG", "HOME"))
    }
    (tmp_path / "tmp").mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip()), done.stderr


def is_temporary(tmp_path: Path, reason: str, **environment: str) -> None:
    """The entry and what lasts lay below TMPDIR, the entry is gone, and one note each says why."""
    entry, said = python(tmp_path, BUILD, **environment)
    lasting, said_then = python(tmp_path, LAST, **environment)
    assert tmp_path / "tmp" in entry.parents
    assert not entry.exists()
    assert tmp_path / "tmp" in lasting.parents
    assert lasting.read_text(encoding="utf-8") == "text"
    for each in (said, said_then):
        assert each.count("torchlink: note:") == each.count("\n") == 1
        assert reason in each
        assert "TORCHLINK_CACHE_DIR" in each


def test_a_missing_home_is_not_created(tmp_path: Path) -> None:
    home = tmp_path / "nobody"
    is_temporary(tmp_path, f"no such directory: {home}", HOME=str(home))
    assert not home.exists()


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    is_temporary(tmp_path, "a file is in its place", XDG_CACHE_HOME=str(tmp_path / "file"))


def test_an_unset_or_relative_home_is_read_from_the_user_database(tmp_path: Path) -> None:
    code = "from torchlink.paths import cache_dir; print(cache_dir())"
    said = set()
    for environment in ({}, {"HOME": ""}, {"HOME": "here"}, {"XDG_CACHE_HOME": "here"}):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": str(REPOSITORY), **environment},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            cwd=tmp_path,
        )
        said.add(done.stdout)
    assert len(said) == 1
    assert str(tmp_path) not in said.pop()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(place)]
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    if subprocess.run(command, capture_output=True, check=False, timeout=30).returncode:
        pytest.skip("this root may not mount")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True, timeout=30)


@pytest.mark.parametrize("variable", ["HOME", "XDG_CACHE_HOME", "TORCHLINK_CACHE_DIR"])
def test_a_full_disk(variable: str, small: Path, tmp_path: Path) -> None:
    is_temporary(tmp_path, "is on a full disk", **{variable: str(small)})


@pytest.mark.parametrize("variable", ["HOME", "XDG_CACHE_HOME", "TORCHLINK_CACHE_DIR"])
def test_a_read_only_disk(variable: str, small: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True, timeout=30)
    is_temporary(tmp_path, "cannot be ", **{variable: str(small)})


@pytest.mark.compile
def test_a_full_disk_for_the_compiler_is_not_a_build_failure(
    small: Path, torch_root: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "torchlink", "verify", "--libtorch", str(torch_root)],
        env={**os.environ, "TMPDIR": str(small), "TORCHLINK_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    if done.returncode == 0:
        unmet("a compiler that needs more than a megabyte for its files")
    assert done.returncode == 2
    assert "cannot continue: No space left on device" in done.stderr
    assert "TMPDIR" in done.stderr
