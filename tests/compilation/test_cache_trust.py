"""A cache that another user can write to is not used, and torchlink works without it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from torchlink import paths
from torchlink.compilation import cache
from torchlink.compilation.cmake import write_initial_cache
from torchlink.errors import FileError
from torchlink.toolchain.tools import remembered

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
STRANGER = 54321


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCHLINK_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(paths, "_instead", {})
    return tmp_path / "cache"


def make(key: str) -> cache.CachedProgram:
    """An entry whose program is a shell script."""
    with cache.workspace() as work:
        finished = work / "entry"
        finished.mkdir()
        (finished / "loader").write_text("#!/bin/sh\n")
        (finished / "loader").chmod(0o775)
        return cache.publish(key, finished, "loader", {})


def ask() -> dict[str, object]:
    return {"said": "now"}


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("umask", [0o002, 0o000, 0o077])
def test_created_files_are_not_writable_by_others_whatever_the_umask(root: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        made = make("k")
        remembered("tool", "key", ask)
        initial = write_initial_cache("text")
    finally:
        os.umask(before)
    assert mode(root) == 0o700
    assert not [path for path in root.rglob("[!.]*") if not path.name.startswith(".") and mode(path) & 0o022]
    assert cache.find("k") == made
    assert remembered("tool", "key", dict) == {"said": "now"}
    assert write_initial_cache("text") == initial


def test_the_default_directory_is_accessible_to_this_user_only(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "xdg")}
    del environment["TORCHLINK_CACHE_DIR"]
    script = "from torchlink.paths import made_in; made_in('loaders')"
    subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        check=True,
        cwd=Path(__file__).parents[2],
        timeout=300,
    )
    assert mode(tmp_path / "xdg/torchlink") == 0o700


@pytest.mark.parametrize("what", ["", "loaders"])
@pytest.mark.parametrize("rights", [0o777, 0o770, 0o775, 0o1777])
def test_a_directory_that_others_can_write_to_is_not_used(
    root: Path, what: str, rights: int, capsys: pytest.CaptureFixture[str]
) -> None:
    make("k")
    (root / what).chmod(rights)
    assert cache.find("k") is None
    assert cache.find("k") is None
    said = capsys.readouterr().err
    assert said.count("is not used: it can be written by other users") == 1
    assert str(root / what) in said
    other = make("k2")
    assert cache.find("k2") == other
    assert root not in other.program.parents
    assert mode(other.program.parents[2]) == 0o700


@pytest.mark.parametrize(
    ("rights", "used"), [(0o777, False), (0o757, False), (0o1777, True), (0o755, True), (0o1757, True)]
)
@pytest.mark.parametrize("above", ["p", "p/q"])
def test_a_directory_above_that_others_can_write_to_counts_unless_it_is_sticky(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    above: str,
    rights: int,
    used: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = tmp_path / "p" / "q" / "cache"
    monkeypatch.setenv("TORCHLINK_CACHE_DIR", str(place))
    made = make("k")
    assert cache.find("k") == made
    assert mode(tmp_path / "p") == 0o700  # what was made on the way is closed, too
    (tmp_path / above).chmod(rights)
    assert (cache.find("k") == made) is used
    said = capsys.readouterr().err
    assert (f"is in {tmp_path / above}, which other users can write to" in said) is not used
    if not used:
        with pytest.raises(FileError, match="which other users can write to"):
            write_initial_cache("text")


@root_only
@pytest.mark.parametrize("link", [False, True])
def test_a_directory_above_of_another_user_counts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    link: bool,
) -> None:
    place = tmp_path / "theirs" / "cache"
    place.parent.mkdir()
    named = place
    if link:  # by a way on which nothing is wrong
        (tmp_path / "mine").symlink_to(place.parent)
        named = tmp_path / "mine" / "cache"
    monkeypatch.setenv("TORCHLINK_CACHE_DIR", str(named))
    made = make("k")
    assert cache.find("k") == made
    os.chown(place.parent, STRANGER, STRANGER)
    assert cache.find("k") is None
    found = paths.unused()
    assert found is not None
    assert found[1] == f"is in {named.parent}, which belongs to user {STRANGER}"


@root_only
def test_a_directory_above_that_a_group_of_others_can_write_to_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "p" / "cache"
    monkeypatch.setenv("TORCHLINK_CACHE_DIR", str(place))
    made = make("k")
    place.parent.chmod(0o775)  # root's own group has no other member
    assert cache.find("k") == made
    os.chown(place.parent, 0, STRANGER)
    assert cache.find("k") is None


def test_circular_links_above_the_cache_are_handled(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert paths.distrust_above(tmp_path / "a" / "cache") is None


@pytest.mark.parametrize("what", ["", "loader", "entry.json"])
@pytest.mark.parametrize("how", ["mode", pytest.param("owner", marks=root_only)])
def test_an_entry_that_others_can_have_written_is_not_used(root: Path, what: str, how: str) -> None:
    made = make("k")
    cache.remember_recent("question", made.program)
    assert cache.recent("question") == made
    changed = root / "loaders/k" / what
    if how == "mode":
        changed.chmod(0o777)
    else:
        os.chown(changed, STRANGER, STRANGER)
    assert cache.find("k") is None
    assert cache.recent("question") is None


@root_only
def test_a_link_of_another_user_is_not_followed(root: Path, tmp_path: Path) -> None:
    make("k")
    root.rename(tmp_path / "elsewhere")
    root.symlink_to(tmp_path / "elsewhere")
    assert cache.find("k") is not None
    os.chown(root, STRANGER, STRANGER, follow_symlinks=False)
    assert cache.find("k") is None


@root_only
@pytest.mark.parametrize("what", ["", "toolchain", "toolchain/*"])
def test_a_cached_answer_that_others_can_have_written_is_not_used(root: Path, what: str) -> None:
    remembered("tool", "key", lambda: {"said": "of old"})
    changed = next(root.glob(what)) if what else root
    os.chown(changed, STRANGER, STRANGER)
    assert remembered("tool", "key", ask) == {"said": "now"}


def test_a_request_cannot_lead_out_of_the_cache(root: Path, tmp_path: Path) -> None:
    made = make("k")
    made.program.parent.rename(tmp_path / "evil")
    cache.remember_recent("question", made.program)
    (file,) = (root / "loaders").glob(".recent-*")
    for key in (str(tmp_path / "evil"), "../../evil", "..", "."):
        file.write_text(key)
        assert cache.recent("question") is None


def test_an_untrusted_cache_is_an_error_for_files_that_outlast_the_command(root: Path) -> None:
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(FileError, match="is not used: it can be written by other users") as caught:
        write_initial_cache("text")
    assert "chmod go-w" in caught.value.hint


def test_the_replacement_directory_is_deleted_at_exit(root: Path) -> None:
    root.mkdir()
    root.chmod(0o777)
    script = "from torchlink.paths import made_in; print(made_in('loaders'))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        timeout=300,
    )
    assert "is not used" in done.stderr
    assert not Path(done.stdout.strip()).parent.exists()
    assert list(root.iterdir()) == []
