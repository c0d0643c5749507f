"""Filling a directory beside its place and renaming it there whole: what is interrupted leaves nothing behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import RESOURCES, FileError, TorchlinkError, out_of_resources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Progress(NamedTuple):
    """Whom to tell how far the work is; both are called with bytes."""

    expect: Callable[[int], None]  # so much more is to be written
    advance: Callable[[int], None]  # so much more is written


SILENT = Progress(lambda _: None, lambda _: None)
YOUNG = 60  # seconds in which a workspace may not have its lock yet


@contextlib.contextmanager
def workspace(directory: Path) -> Iterator[Path]:
    """A new directory beside `directory`, on the same file system; gone afterwards.

    What killed processes left beside `directory` is removed; a workspace in use is locked and stays.

    Raises:
        FileError: it cannot be made.
    """
    prefix = f".{directory.name}.torchlink-"
    with contextlib.ExitStack() as stack:
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            _sweep(directory.parent, prefix)
            work = Path(tempfile.mkdtemp(prefix=prefix, dir=directory.parent))
            stack.callback(shutil.rmtree, work, ignore_errors=True)
            lock = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, lock)
            _lock(lock)
        except OSError as error:
            raise unwritable(directory, error) from error
        yield work


def publish(filled: Path, directory: Path) -> None:
    """Put a finished directory, which lies in a workspace, where the user wants it.

    What stood there goes only then, and comes back where that fails.

    Raises:
        FileError: it cannot be renamed.
    """
    replaced = filled.with_name("replaced")
    try:
        if directory.is_dir():
            directory.rename(replaced)
        filled.rename(directory)
    except OSError as error:
        if replaced.exists() and not directory.exists():
            replaced.rename(directory)
        raise unwritable(directory, error) from error


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


def unwritable(path: Path, error: OSError) -> TorchlinkError:
    """The error for a place that cannot be written."""
    if error.errno in RESOURCES:
        return out_of_resources(f"Cannot write {error.filename or path}", error)
    return FileError(
        f"Cannot write {error.filename or path}: {error.strerror or error}.",
        hint="Name a directory that you may write to.",
    )


def _sweep(parent: Path, prefix: str) -> None:
    """Remove the workspaces that nobody holds any more."""
    for left in parent.iterdir():
        if not left.name.startswith(prefix):
            continue
        with contextlib.suppress(OSError):
            held = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if time.time() - os.fstat(held).st_mtime > YOUNG:
                    shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(held)


def _lock(descriptor: int) -> None:
    """Hold a workspace as long as it is open; a file system without locks has none that are swept either."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
