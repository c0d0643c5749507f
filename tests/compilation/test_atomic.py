"""A writer that is killed at any moment leaves complete files, and concurrent writers all succeed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from torchlink import atomic
from torchlink.errors import WouldOverwriteError
from torchlink.projects.writing import write_project

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OLD = {"prefix/a.cmake": "old a\n", "prefix/deep/b.cmake": "old b\n", "main.cpp": "old main\n"}
NEW = {"prefix/a.cmake": "new a\n", "prefix/deep/b.cmake": "new b\n", "main.cpp": "new main\n"}
COMMANDS = {
    "cmake init": ("cmake", "init", "p"),
    "nim init": ("nim", "init", "p"),
    "prefix -o": ("cmake", "prefix", "-o", "p"),
}


def tree(directory: Path) -> dict[str, str]:
    """The files below a directory, workspaces of killed processes aside."""
    return {
        str(path.relative_to(directory)): path.read_text()
        for path in directory.rglob("*")
        if path.is_file() and atomic.MARK not in str(path.relative_to(directory))
    }


def left(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if atomic.MARK in path.name]


def in_child(work: Callable[[], object], *, killed_at: int | None = None) -> int:
    """Do something in a child that dies of SIGKILL at its n-th step that the interpreter would audit.

    Opening, renaming, making and removing files and directories are such steps. Returns what waitpid does.
    """
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    steps = 0

    def count(event: str, _: object) -> None:
        nonlocal steps
        if event.startswith(("os.", "open", "shutil.", "tempfile.", "fcntl.", "ctypes.dlsym")):
            steps += 1
            if steps == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    with contextlib.suppress(BaseException):
        os._exit(0 if work() in (None, 0) else 1)
    os._exit(3)


def killed_at_every_step(
    work: Callable[[], object], look: Callable[[], None], reset: Callable[[], None]
) -> int:
    """Kill something at its first step, its second, … until it comes to its end; returns how often it was killed."""
    for step in range(1, 1000):
        reset()
        status = in_child(work, killed_at=step)
        look()
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0
            return step - 1
    raise AssertionError


def writing(files: Mapping[str, str], directory: Path, *, force: bool = False) -> Callable[[], object]:
    return lambda: None if write_project(files, directory, force=force) else 1


def test_a_new_directory_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "project"

    def look() -> None:
        assert not (tmp_path / "deep").exists() or tree(place) == NEW

    def reset() -> None:
        subprocess.run(["rm", "-rf", tmp_path / "deep"], check=True)

    assert killed_at_every_step(writing(NEW, place), look, reset) > 5
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]  # the last has swept


def test_in_an_existing_directory_files_are_complete_and_the_users_files_untouched(
    tmp_path: Path,
) -> None:
    place = tmp_path / "project"

    def look() -> None:
        files = tree(place)
        assert files.pop("mine.txt") == "mine\n"
        assert files.pop(".gitignore") in ("*.o\n", "*.o\n/build/\n")
        assert all(NEW[name] == text for name, text in files.items())
        # A directory that is new appears whole.
        assert ("prefix/a.cmake" in files) == ("prefix/deep/b.cmake" in files)

    def reset() -> None:
        for name in (*NEW, "prefix/deep", "prefix"):
            (place / name).rmdir() if (place / name).is_dir() else (place / name).unlink(missing_ok=True)
        place.mkdir(exist_ok=True)
        (place / "mine.txt").write_text("mine\n")
        (place / ".gitignore").write_text("*.o\n")

    assert killed_at_every_step(writing({**NEW, ".gitignore": "/build/\n"}, place), look, reset) > 5
    assert tree(place) == {**NEW, "mine.txt": "mine\n", ".gitignore": "*.o\n/build/\n"}
    assert left(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="two directories are exchanged in one step on Linux")
def test_a_directory_that_is_replaced_is_never_missing(tmp_path: Path) -> None:
    """What `extract --force` and `bundle --force` do at their end."""
    place = tmp_path / "libtorch"

    def work() -> None:
        with atomic.workspace(place) as beside:
            atomic.fill(beside / "whole", {"lib/libtorch.so": b"new"})
            atomic.publish(beside / "whole", place)

    def look() -> None:
        assert tree(place) in ({"lib/libtorch.so": "old", "README": "old"}, {"lib/libtorch.so": "new"})

    def reset() -> None:
        subprocess.run(["rm", "-rf", place], check=True)
        atomic.fill(place, {"lib/libtorch.so": b"old", "README": b"old"})

    assert killed_at_every_step(work, look, reset) > 5
    assert left(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="two directories are exchanged in one step on Linux")
def test_a_directory_with_nothing_else_in_it_is_exchanged_as_a_whole(tmp_path: Path) -> None:
    def look() -> None:
        files = tree(tmp_path)
        assert all(files[name] in (OLD[name], NEW[name]) for name in OLD)
        assert len({files[name].split()[0] for name in OLD if name.startswith("prefix/")}) == 1

    def reset() -> None:
        write_project(OLD, tmp_path, force=True)

    assert killed_at_every_step(writing(NEW, tmp_path, force=True), look, reset) > 5
    assert tree(tmp_path) == NEW


def test_without_an_atomic_exchange_the_old_file_is_kept_until_the_new_one_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "_exchanged", lambda *_: False)  # an old system, or a file system without it
    write_project(OLD, tmp_path)
    write_project(NEW, tmp_path, force=True)
    assert tree(tmp_path) == NEW
    assert left(tmp_path) == []


def test_a_failure_in_the_middle_undoes_what_came_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_project({"a": "old\n", "c": "old\n"}, tmp_path)
    whole = tmp_path / "c"
    really = atomic._exchange

    def full(fresh: Path, place: Path) -> None:
        if place == whole:
            raise OSError(28, "No space left on device")
        really(fresh, place)

    monkeypatch.setattr(atomic, "_exchange", full)
    with pytest.raises(Exception, match=f"Cannot write {tmp_path}: No space left on device"):
        write_project({"a": "new\n", "b/x": "new\n", "c": "new\n"}, tmp_path, force=True)
    assert tree(tmp_path) == {"a": "old\n", "c": "old\n"}
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("there", [False, True])
def test_concurrent_writers_never_mix_their_files(tmp_path: Path, there: bool) -> None:
    place = tmp_path / "project"
    if there:
        place.mkdir()
    versions = [dict.fromkeys(NEW, f"{number}\n" * 100) for number in range(8)]
    children = []
    for version in versions:
        child = os.fork()
        if not child:
            with contextlib.suppress(WouldOverwriteError):
                os._exit(0 if write_project(version, place) else 3)
            os._exit(2)
        children.append(child)
    codes = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
    assert codes == [0] + [2] * 7
    assert tree(place) in versions
    assert left(tmp_path) == []


def test_modes_owners_and_links_of_replaced_files_are_kept(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old\n")
    (tmp_path / "real.txt").chmod(0o640)
    (tmp_path / "p").mkdir()
    (tmp_path / "p/main.cpp").symlink_to("../real.txt")
    (tmp_path / "p/run.sh").write_text("old\n")
    (tmp_path / "p/run.sh").chmod(0o755)
    write_project({"main.cpp": "new\n", "run.sh": "new\n"}, tmp_path / "p", force=True)
    assert (tmp_path / "p/main.cpp").is_symlink()
    assert (tmp_path / "real.txt").read_text() == (tmp_path / "p/run.sh").read_text() == "new\n"
    assert (tmp_path / "real.txt").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "p/run.sh").stat().st_mode & 0o777 == 0o755


def test_a_file_is_complete_whenever_its_writer_is_killed(tmp_path: Path) -> None:
    file = tmp_path / ("n" * 250)  # the longest names have a workspace, too

    def look() -> None:
        assert file.read_text() in ("old", "new")

    def reset() -> None:
        file.write_text("old")

    assert killed_at_every_step(lambda: atomic.write_file(file, b"new"), look, reset) > 5
    assert left(tmp_path) == []


def test_a_file_that_is_not_regular_is_written_in_place(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    atomic.write_file(tmp_path / "pipe", b"through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    with (tmp_path / "out").open("wb") as out:
        atomic.write_file(Path(f"/dev/fd/{out.fileno()}"), b"stays the caller's file")
        assert os.fstat(out.fileno()).st_ino == (tmp_path / "out").stat().st_ino


def test_waiting_for_a_directory_locked_by_the_caller_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "PATIENCE", 0.1)
    held = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)  # as `flock DIR torchlink …` does
    write_project(NEW, tmp_path)
    os.close(held)
    assert tree(tmp_path) == NEW


@pytest.mark.compile
@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_leaves_nothing_incomplete_and_the_next_one_succeeds(
    name: str, torch_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchlink.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCHLINK_LIBTORCH", str(torch_root))
    command = [*COMMANDS[name]]
    assert main(command) == 0  # compilers and tools are known from here on
    whole = tree(tmp_path)

    def look() -> None:
        assert not (tmp_path / "p").exists() or tree(tmp_path) == whole

    def reset() -> None:
        subprocess.run(["rm", "-rf", tmp_path / "p"], check=True)

    write = atomic.write_tree

    def early(step: int) -> Callable[[], int]:
        """The command, killed at a step of its writing: what it reads before leaves nothing in any case."""

        def killed(*arguments: Any) -> None:
            if in_child(lambda: write(*arguments), killed_at=step):
                os._exit(9)

        def work() -> int:
            monkeypatch.setattr(atomic, "write_tree", killed)
            return main(command)

        return work

    for step in range(1, 60):
        reset()
        status = in_child(early(step))
        look()
        if os.waitstatus_to_exitcode(status) == 0:
            break
    assert step > 5
    reset()
    assert main(command) == 0
    assert tree(tmp_path) == whole
    assert left(tmp_path) == []


@pytest.mark.compile
@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("cmake init", "missing"),
        ("cmake init", "with a file"),
        ("nim init", "empty"),
        ("prefix -o", "missing"),
    ],
)
def test_eight_commands_at_once_all_succeed(name: str, there: str, torch_root: Path, tmp_path: Path) -> None:
    if there != "missing":
        (tmp_path / "p").mkdir()
    if there == "with a file":
        (tmp_path / "p/mine.txt").write_text("mine\n")
    environment = {**os.environ, "TORCHLINK_LIBTORCH": str(torch_root)}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "torchlink", *COMMANDS[name]],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    done = [(process.communicate(timeout=120), process.returncode) for process in running]
    assert [code for _, code in done] == [0] * 8, done
    assert len({out for (out, _), _ in done}) == 1
    assert left(tmp_path) == []
    assert tree(tmp_path / "p").pop("mine.txt", None) == ("mine\n" if there == "with a file" else None)
