"""The one way to write files: beside their place, whole, and renamed into it.

A process that is killed at any moment leaves its place as it was or as it was to be. What it leaves beside it, a
workspace, is locked while it is in use; the next process that writes beside it removes it. Processes that write
into one directory wait for each other.
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
LONGEST_NAME = 200  # bytes of a place's name in that of its workspace; a file's name may have 255
PATIENCE = 10  # seconds for which another process is waited for; it may be stopped
ABANDONED = 86400  # seconds after which a workspace is nobody's, on a file system without locks
IN_PLACE = ("/dev/", "/proc/")  # files that are another's: /dev/stdout, a shell's >(…)
NO_EXCHANGE = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}
MEANWHILE = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
HELD = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EBUSY,
}  # a file of its own mount, a directory that is closed


class Progress(NamedTuple):
    """Whom to tell how far the work is; both are called with bytes."""

    expect: Callable[[int], None]  # so much more is to be written
    advance: Callable[[int], None]  # so much more is written


SILENT = Progress(lambda _: None, lambda _: None)


@contextlib.contextmanager
def workspace(directory: Path) -> Iterator[Path]:
    """A new directory beside `directory`, on the same file system; gone afterwards.

    What killed processes left beside `directory` is removed; a workspace in use is locked and stays.

    Raises:
        FileError: it cannot be made.
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
    """A locked directory beside a place, gone afterwards; those of killed processes go now.

    Raises:
        OSError: it cannot be made.
    """
    short = os.fsdecode(os.fsencode(place.name)[:LONGEST_NAME])
    prefix = f".{short}{MARK}"
    _sweep(place.parent)
    with contextlib.ExitStack() as stack:
        while True:
            work = Path(tempfile.mkdtemp(prefix=prefix, dir=place.parent))
            stack.callback(shutil.rmtree, work, ignore_errors=True)
            with contextlib.suppress(FileNotFoundError):
                # Another process may have found it unlocked, and removes it.
                held = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(os.close, held)
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(held, fcntl.LOCK_EX)
                there = work.stat()
                if os.path.samestat(os.fstat(held), there):
                    break
        yield work


def publish(filled: Path, directory: Path) -> None:
    """Put a finished directory, which is in a workspace, where the user wants it.

    Raises:
        FileError: it cannot be renamed.
    """
    try:
        move_in(filled, directory)
    except OSError as error:
        raise unwritable(directory, error) from error


def move_in(filled: Path, directory: Path, *, stays: Callable[[], bool] = lambda: False) -> None:
    """Put a finished directory where it belongs.

    What stood there is exchanged for it, in one step where the system can do that, and goes with the workspace;
    `stays` may say that what is there is to stay: another process was faster.

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
        with contextlib.suppress(FileNotFoundError):  # it went meanwhile
            _exchange(filled, directory)
            return


def write_file(path: Path, data: bytes, *, mode: int | None = None, durable: bool = True) -> None:
    """Write one file, or one that is no regular file (a pipe) in place.

    A link is followed; what is replaced keeps its mode and owner. A file that cannot be replaced by another, as one
    that a container mounts, is written in place.

    Args:
        path: where to.
        data: what.
        mode: of the file; None: what it has, or else what the umask leaves.
        durable: wait for the disk, so that a power failure leaves no empty file.

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


def write_tree(files: Callable[[], Mapping[str, bytes]], directory: Path) -> None:
    """Write files into a directory: all or none, as far as one can see from outside.

    A directory that is missing appears whole. In one that is there, what is new appears by file or by whole directory,
    and what changes is exchanged by file, or by whole directory where nothing else is in it; where a step fails, those
    before it are undone. A file that holds its text already is not touched.

    Args:
        files: gives the contents by name relative to `directory`; called while no other process writes there, once more
            whenever another has been faster. What it raises ends the writing.
        directory: made where it is missing, with those above it.

    Raises:
        OSError: a file or directory cannot be written.
    """
    real = Path(os.path.realpath(directory))
    try:
        while not (_merged(files, real) if os.path.lexists(real) else _appeared(files, real)):
            pass  # another process made or removed it meanwhile
    except OSError as error:
        raise _named(error, directory) from error


def fill(directory: Path, files: Mapping[str, bytes], *, durable: bool = False) -> None:
    """Write files into a directory that nobody else uses, which is made where it is missing.

    Raises:
        OSError: one cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        _write(directory / name, data, durable=durable)


def check_space(directory: Path, needed: int) -> None:
    """See that the disk of a directory, or of the nearest one that exists, can take so many bytes.

    Raises:
        FileError: it cannot.
    """
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise FileError(
            f"The disk of {directory} has {free >> 20} MiB free, and {(needed >> 20) + 1} MiB are needed.",
            hint="Free some space, or name a directory on another disk.",
        )


def unwritable(
    path: Path, error: OSError, hint: str = "Name a directory that you may write to."
) -> TorchlinkError:
    """The error for a place that cannot be written."""
    named = _named(error, path)
    if error.errno in RESOURCES:
        return out_of_resources(f"Cannot write {named.filename}", error)
    return FileError(f"Cannot write {named.filename}: {named.strerror or named}.", hint=hint)


def _appeared(files: Callable[[], Mapping[str, bytes]], directory: Path) -> bool:
    """Make a missing directory with files in it; False: somebody else has made it."""
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
    """Put files into a directory that is there; False: it is not any more."""
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
                undo.append(_put(whole / unit, directory / unit))  # noqa: PERF401 - those before a failure count
        except BaseException:
            for step in reversed(undo):
                with contextlib.suppress(OSError):
                    step()
            raise
    return True


def _units(changed: Collection[str], wanted: Collection[str], directory: Path) -> tuple[Path, ...]:
    """What appears in one step each, relative to a directory.

    For every file that changes it is the highest directory above it that is missing, or that holds more than one such
    file and none but wanted ones; else the file itself.

    Raises:
        NotADirectoryError: a file stands where a directory is needed.
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
    """Whether a directory holds nothing but these files, and is nobody's link and not where this process is."""
    if place.is_symlink() or place in (Path.cwd(), *Path.cwd().parents):
        return False
    return all(path in ours or (path.is_dir() and not path.is_symlink()) for path in place.rglob("*"))


def _put(fresh: Path, place: Path) -> Callable[[], object]:
    """Put a file or directory in its place, and return what undoes that."""
    if not os.path.lexists(place):
        fresh.rename(place)
        return partial(os.rename, place, fresh)
    if place.is_symlink():  # what it leads to may lie on another file system
        before = place.read_bytes() if place.exists() else b""
        write_file(place, fresh.read_bytes())
        return partial(write_file, place, before)
    _exchange(fresh, place)
    return partial(_exchange, fresh, place)


def _exchange(fresh: Path, place: Path) -> None:
    """Exchange two files or directories: in one step where the system and the file system can.

    Raises:
        FileNotFoundError: nothing stands in the place any more.
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
    """Whether the system has exchanged two names in one step, which Linux can since 3.15."""
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
    """Give a file or directory the mode and, where that is allowed, the owner of what it replaces."""
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
    """The error, with the user's name for a place where it names the workspace beside it, or nothing."""
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
    """Whether the process that made a workspace is gone; its lock is then this process's."""
    try:
        fcntl.flock(workspace, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return time.time() - os.fstat(workspace).st_mtime > ABANDONED
    return True


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[os.stat_result]:
    """Keep other processes that use this from writing into a directory; gives its status.

    Whoever holds it longer than any writing takes (`flock DIR torchlink …` does) is passed over.

    Raises:
        OSError: it is not there, or no directory.
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
