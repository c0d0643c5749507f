"""The cache can be deleted, copied, shared or killed half-way, and nothing goes wrong."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from torchlink.compilation import cache
from torchlink.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

FACTS = {
    "libtorch": {"root": "/torch", "version": "2.13.0"},
    "compiler": "g++ 12",
    "via": "cxx",
    "command": "c++",
}


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "the cache"
    monkeypatch.setenv("TORCHLINK_CACHE_DIR", str(directory))
    return directory


def make(key: str, text: str = "#!/bin/sh\necho hello\n") -> cache.CachedProgram:
    """An entry whose program is a shell script."""
    with cache.workspace() as work:
        finished = work / "entry"
        finished.mkdir()
        program = finished / "loader"
        program.write_text(text)
        program.chmod(0o755)
        return cache.publish(key, finished, "loader", FACTS)


def test_what_was_published_is_found_with_its_facts(root: Path) -> None:
    made = make("k1")
    found = cache.find("k1")
    assert found is not None
    assert found.program == made.program == root / "loaders" / "k1" / "loader"
    assert found.facts["compiler"] == "g++ 12"
    assert cache.find("k2") is None


def test_no_workspace_is_left_behind(root: Path) -> None:
    make("k1")
    with pytest.raises(RuntimeError), cache.workspace():
        raise RuntimeError
    assert [path.name for path in (root / "loaders").iterdir()] == ["k1"]


@pytest.mark.parametrize("damage", ["truncated", "no manifest", "bad manifest", "not executable", "empty"])
def test_a_damaged_entry_counts_as_absent_and_is_replaced(damage: str) -> None:
    directory = make("k1").program.parent
    match damage:
        case "truncated":
            (directory / "loader").write_text("#!")
        case "no manifest":
            (directory / "entry.json").unlink()
        case "bad manifest":
            (directory / "entry.json").write_text('{"form": 1, ')
        case "not executable":
            (directory / "loader").chmod(0o644)
        case "empty":
            shutil.rmtree(directory)
            directory.mkdir()
    assert cache.find("k1") is None
    make("k1")
    assert cache.find("k1") is not None


def test_the_entry_of_a_faster_process_is_kept() -> None:
    make("k1", "#!/bin/sh\necho first\n")
    second = make("k1", "#!/bin/sh\necho second, and longer\n")
    assert "first" in second.program.read_text()


def test_a_cache_that_was_copied_works(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("k1")
    shutil.copytree(root, tmp_path / "copy")
    shutil.rmtree(root)
    monkeypatch.setenv("TORCHLINK_CACHE_DIR", str(tmp_path / "copy"))
    found = cache.find("k1")
    assert found is not None
    assert found.program.is_file()


def test_workspaces_of_killed_processes_are_removed_and_those_in_use_are_not(root: Path) -> None:
    with cache.workspace() as used:
        left = used.with_name(".another.torchlink-leftover")
        (left / "work").mkdir(parents=True)
        make("k1")
        assert not left.exists()
        assert used.exists()


def test_the_recent_entry_is_only_a_hint(root: Path) -> None:
    assert cache.recent("question") is None
    cache.remember_recent("question", make("k1").program)
    found = cache.recent("question")
    assert found is not None
    assert found.program.parent.name == "k1"
    assert cache.recent("another") is None
    shutil.rmtree(root / "loaders" / "k1")
    assert cache.recent("question") is None


def test_a_cache_that_cannot_be_created_is_an_error_with_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TORCHLINK_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(FileError) as caught, cache.workspace():
        pass
    assert "TORCHLINK_CACHE_DIR" in caught.value.hint


def test_clear_deletes_only_torchlinks_files(root: Path, torchlink: Callable[..., Result]) -> None:
    make("k1")
    (root / "toolchain").mkdir()
    (root / "toolchain" / "compiler.json").write_text("{}")
    (root / "holiday.jpg").write_text("mine")
    (root / "photos").mkdir()
    assert torchlink("cache", "clear").code == 0
    assert sorted(path.name for path in root.iterdir()) == ["holiday.jpg", "photos"]


def test_clear_of_an_absent_cache_is_fine(root: Path, torchlink: Callable[..., Result]) -> None:
    assert torchlink("cache", "clear").code == 0
    assert not root.exists()


def test_show_names_every_entry(root: Path, torchlink: Callable[..., Result]) -> None:
    import json

    make("k1")
    shown = torchlink("cache", "show")
    assert "k1" in shown.out
    assert "libtorch 2.13.0, g++ 12, via cxx" in shown.out
    report = json.loads(torchlink("cache", "show", "--json").out)
    assert report["schema"] == 1
    assert report["path"] == str(root)
    assert [entry["kind"] for entry in report["entries"]] == ["loaders"]
    assert report["size"] == sum(entry["size"] for entry in report["entries"]) > 0
