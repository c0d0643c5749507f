"""The one way to write files: complete, in a workspace next to the target, and renamed to it.

A process that is killed at any moment leaves the target in its old or its new state. Its workspace, which is locked
while in use, is removed by the next process that writes there. Processes that write to one directory wait for each
other.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torchlink.bounds import holds
from torchlink.errors import RESOURCES, FileError, TorchlinkError, out_of_resources

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

MARK = ".torchlink-"  # in the names of workspaces
WORKSPACE = re.compile(r"\..+\.torchlink-[a-z0-9_]{8}", re.DOTALL)
LONGEST_NAME = 200  # bytes of the target's name in that of its workspace; a file name may have 255
PATIENCE = 10  # seconds to wait for another process, which may be stopped
ABANDONED = 86400  # seconds after which a workspace is stale, on a file system without locks
IN_PLACE = ("/dev/", "/proc/")  # written in place: /dev/stdout, a shell's >(…)
NO_EXCHANGE = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}
MEANWHILE = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
HELD = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EBUSY,
}  # a file that is a mount point, a read-only directory


class Progress(NamedTuple):
    """Callbacks that report progress in bytes."""

    expect: Callable[[int], None]  # so many more bytes are to be written
    advance: Callable[[int], None]  # so many more bytes have been written


SILENT = Progress(lambda _: None, lambda _: None)


@contextlib.contextmanager
def workspace(directory: Path) -> Iterator[Path]:
    """Make a directory next to `directory`, on the same file system, and delete it afterwards.

    Workspaces that killed processes left next to `directory` are removed; those in use are locked and kept.

    Raises:
        FileError: it cannot be created.
    """
    with contextlib.ExitStack() as stack:
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            work = stack.enter_context(beside(directory))
        except OSError as error:
            raise unwritable(directory, error) from error
        yield work


@contextlib.contextmanager
def beside(place: Path) -> Iterator[Path]:
    """Make a locked directory next to a path, and delete it afterwards; those of killed processes are removed now.

    Raises:
        OSError: it cannot be created.
    """
    short = os.fsdecode(os.fsencode(place.name)[:LONGEST_NAME])
    prefix = f".{short}{MARK}"
    _sweep(place.parent)
    with contextlib.ExitStack() as stack:
        while True:
            work = Path(tempfile.mkdtemp(prefix=prefix, dir=place.parent))
            stack.callback(shutil.rmtree, work, ignore_errors=True)
            with contextlib.suppress(FileNotFoundError):
                # Another process may find it unlocked and remove it.
                held = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(os.close, held)
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(held, fcntl.LOCK_EX)
                there = work.stat()
                if os.path.samestat(os.fstat(held), there):
                    break
        yield work


def publish(filled: Path, directory: Path) -> None:
    """Move a finished directory from a workspace to its target.

    Raises:
        FileError: it cannot be renamed.
    """
    try:
        move_in(filled, directory)
    except OSError as error:
        raise unwritable(directory, error) from error


def move_in(filled: Path, directory: Path, *, stays: Callable[[], bool] = lambda: False) -> None:
    """Move a finished directory from a workspace to its target.

    An existing target is exchanged with it, atomically where the system supports that, and deleted with the workspace;
    where `stays` returns True it is kept: another process was faster.

    Raises:
        OSError: it cannot be renamed.
    """
    while True:
        try:
            filled.rename(directory)
        except OSError as error:
            if error.errno not in MEANWHILE:
                raise
        else:
            return
        if stays():
            return
        with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
            _exchange(filled, directory)
            return


def write_file(path: Path, data: bytes, *, mode: int | None = None, durable: bool = True) -> None:
    """Write one file atomically; one that is not a regular file (a pipe) in place.

    A link is followed; a replaced file's mode and owner are kept. A file that cannot be replaced, such as one mounted
    in a container, is written in place.

    Args:
        path: the file.
        data: its new content.
        mode: its mode; None: the existing one, else as the umask permits.
        durable: sync to disk, so that a power failure does not leave an empty file.

    Raises:
        OSError: it cannot be written.
    """
    before = _status(path)
    if before is not None and (not stat.S_ISREG(before.st_mode) or str(path).startswith(IN_PLACE)):
        path.write_bytes(data)
        return
    real = Path(os.path.realpath(path))
    try:
        with beside(real) as work:
            fresh = work / "whole"
            _write(fresh, data, durable=durable)
            if mode is not None:
                fresh.chmod(mode)
            elif before is not None:
                _make_like(fresh, before)
            fresh.replace(real)
    except OSError as error:
        if error.errno not in HELD or before is None or not os.access(real, os.W_OK):
            raise _named(error, path) from error
        real.write_bytes(data)


def write_link(path: Path, target: str) -> None:
    """Make a symlink, or point an existing one elsewhere, atomically.

    Args:
        path: the link.
        target: what it contains, relative to its directory.

    Raises:
        FileExistsError: there is something other than a symlink.
        OSError: it cannot be written.
    """
    if path.is_symlink() and os.readlink(path) == target:  # noqa: PTH115 - text
        return
    if os.path.lexists(path) and not path.is_symlink():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    with beside(path) as work:
        (work / "link").symlink_to(target)
        (work / "link").replace(path)


def write_tree(files: Callable[[], Mapping[str, bytes]], directory: Path) -> None:
    """Write files to a directory: all or none.

    A missing directory appears complete. In an existing one, new files appear one by one or by whole directory, and
    changed ones are exchanged one by one, or by whole directory where it contains nothing else; where a step fails, the
    previous ones are undone. A file that has its content already is not touched.

    Args:
        files: returns the contents by name relative to `directory`; called while no other process writes there, and
            again whenever another was faster. An exception from it aborts the writing.
        directory: created if missing, with its parents.

    Raises:
        OSError: a file or directory cannot be written.
    """
    real = Path(os.path.realpath(directory))
    try:
        while not (_merged(files, real) if os.path.lexists(real) else _appeared(files, real)):
            pass  # another process has created or removed it meanwhile
    except OSError as error:
        raise _named(error, directory) from error


def fill(directory: Path, files: Mapping[str, bytes], *, durable: bool = False) -> None:
    """Write files to a directory that no other process uses, which is created if missing.

    Raises:
        OSError: one cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        _write(directory / name, data, durable=durable)


def check_space(directory: Path, needed: int) -> None:
    """Check that the disk of a directory, or of its nearest existing parent, has so many bytes free.

    Raises:
        FileError: it has not.
    """
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise FileError(
            f"The disk of {directory} has {free >> 20} MiB free, but {(needed >> 20) + 1} MiB are needed.",
            hint="Free some space, or name a directory on another disk.",
        )


def unwritable(path: Path, error: OSError, hint: str = "Name a writable directory.") -> TorchlinkError:
    """Return the error for a path that cannot be written."""
    named = _named(error, path)
    if error.errno in RESOURCES:
        return out_of_resources(f"Cannot write {named.filename}", error)
    return FileError(f"Cannot write {named.filename}: {named.strerror or named}.", hint=hint)


def _appeared(files: Callable[[], Mapping[str, bytes]], directory: Path) -> bool:
    """Create a missing directory with files in it; False: another process has created it."""
    top = directory  # the highest that is missing
    while not os.path.lexists(top.parent):
        top = top.parent
    with beside(top) as work:
        whole = work / "whole"
        fill(whole / directory.relative_to(top), files(), durable=True)
        try:
            whole.rename(top)
        except OSError as error:
            if error.errno not in MEANWHILE:
                raise
            return False
    return True


def _merged(files: Callable[[], Mapping[str, bytes]], directory: Path) -> bool:
    """Write files to an existing directory; False: it has been removed."""
    with contextlib.ExitStack() as stack:
        try:
            before = stack.enter_context(_locked(directory))
        except FileNotFoundError:
            return False
        there = _status(directory)
        if there is None or not os.path.samestat(before, there):
            return False
        wanted = files()
        changed = [name for name, data in wanted.items() if not _holds(directory / name, data)]
        if not changed:
            return True
        units = _units(changed, wanted.keys(), directory)
        whole = stack.enter_context(beside(directory / directory.name)) / "whole"
        fill(whole, wanted, durable=True)
        for fresh in whole.rglob("*"):
            old = _status(directory / fresh.relative_to(whole))
            if old is not None:
                _make_like(fresh, old)
        undo: list[Callable[[], object]] = []
        try:
            for unit in units:
                undo.append(_put(whole / unit, directory / unit))  # noqa: PERF401 - those before a failure are undone
        except BaseException:
            for step in reversed(undo):
                with contextlib.suppress(OSError):
                    step()
            raise
    return True


def _units(changed: Collection[str], wanted: Collection[str], directory: Path) -> tuple[Path, ...]:
    """Return the files and directories to move in one step each, relative to a directory.

    For every changed file it is the topmost directory above it that is missing, or that contains several changed files
    and only wanted ones; else the file itself.

    Raises:
        NotADirectoryError: there is a file where a directory is needed.
    """
    ours = {directory / name for name in wanted}
    units: dict[Path, None] = {}
    for name in map(Path, changed):
        unit = name
        for part in reversed([*name.parents][:-1]):
            place = directory / part
            if os.path.lexists(place) and not place.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
            several = sum(part in Path(each).parents for each in changed) > 1
            if not place.exists() or (several and _is_exchangeable(place, ours)):
                unit = part
                break
        units[unit] = None
    return tuple(units)


def _is_exchangeable(place: Path, ours: Collection[Path]) -> bool:
    """Whether a directory contains only these files, is not a link, and is not above the current directory."""
    if place.is_symlink() or place in (Path.cwd(), *Path.cwd().parents):
        return False
    return all(path in ours or (path.is_dir() and not path.is_symlink()) for path in place.rglob("*"))


def _put(fresh: Path, place: Path) -> Callable[[], object]:
    """Move a file or directory to its target, and return a function that undoes it."""
    if not os.path.lexists(place):
        fresh.rename(place)
        return partial(os.rename, place, fresh)
    if place.is_symlink():  # its target may be on another file system
        before = place.read_bytes() if place.exists() else b""
        write_file(place, fresh.read_bytes())
        return partial(write_file, place, before)
    _exchange(fresh, place)
    return partial(_exchange, fresh, place)


def _exchange(fresh: Path, place: Path) -> None:
    """Exchange two files or directories, atomically where the system and the file system support it.

    Raises:
        FileNotFoundError: `place` does not exist any more.
        OSError: they cannot be renamed.
    """
    if _exchanged(fresh, place):
        return
    aside = fresh.with_name(f"{fresh.name}.before")
    if place.is_dir() and not place.is_symlink():
        place.rename(aside)
    else:
        shutil.copy2(place, aside, follow_symlinks=False)
    try:
        fresh.replace(place)
    except BaseException:
        if not os.path.lexists(place):
            aside.rename(place)
        raise
    aside.rename(fresh)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two names atomically (Linux since 3.15); return whether the system supports it."""
    import ctypes

    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if exchange is None:
        return False
    here, flag = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if exchange(here, os.fsencode(one), here, os.fsencode(other), flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(other))


def _write(file: Path, data: bytes, *, durable: bool) -> None:
    with file.open("xb") as stream:
        stream.write(data)
        if durable:
            stream.flush()
            os.fsync(stream.fileno())


def _make_like(fresh: Path, before: os.stat_result) -> None:
    """Set the mode and, where that is permitted, the owner of a file or directory to those of the one it replaces."""
    now = fresh.stat()
    if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        with contextlib.suppress(OSError):
            os.chown(fresh, before.st_uid, before.st_gid)
    fresh.chmod(stat.S_IMODE(before.st_mode))


def _holds(file: Path, data: bytes) -> bool:
    try:
        return holds(file, data)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _named(error: OSError, place: Path) -> OSError:
    """Return the error with the user's path where it names the workspace, or nothing."""
    name = error.filename
    if name is None or MARK in os.fsdecode(name):
        return OSError(error.errno, error.strerror, str(place))
    return error


def _sweep(parent: Path) -> None:
    """Remove the workspaces, whatever they were for, that nobody holds any more."""
    with os.scandir(parent) as entries:
        left = [entry.path for entry in entries if MARK in entry.name and WORKSPACE.fullmatch(entry.name)]
    for path in left:
        with contextlib.suppress(OSError):
            held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if _is_left(held):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(held)


def _is_left(workspace: int) -> bool:
    """Whether the process that created a workspace has ended; this process then holds its lock."""
    try:
        fcntl.flock(workspace, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return time.time() - os.fstat(workspace).st_mtime > ABANDONED
    return True


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[os.stat_result]:
    """Lock a directory against other processes that use this function, and yield its status.

    A lock that is held longer than writing takes (such as by `flock DIR torchlink …`) is ignored.

    Raises:
        OSError: it does not exist, or is not a directory.
    """
    held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.02)
            except OSError:  # a file system without locks
                break
            else:
                break
        yield os.fstat(held)
    finally:
        os.close(held)
