"""Writing members of archives to disk, piece by piece, and turning a finished directory into the user's."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile, ZipFile

from torchlink.errors import FileError, MalformedFileError, WouldOverwriteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torchlink.extract.members import Item

PIECE = 1 << 20  # bytes
ABANDONED = 86400  # seconds after which a workspace is what a killed process left behind
# The names at the top of what is written; a directory that holds others is not torchlink's to replace.
OWN_NAMES = frozenset({"bin", "build-hash", "build-version", "include", "lib", "share"})


def check_target(directory: Path, *, force: bool) -> None:
    """See whether a libtorch may be put at `directory`.

    Raises:
        WouldOverwriteError: something stands there, and without `force`, or something else than a libtorch.
        FileError: it cannot be looked at.
    """
    try:
        there = sorted(path.name for path in directory.iterdir()) if directory.is_dir() else None
        if there is None and (directory.exists() or directory.is_symlink()):
            raise WouldOverwriteError(
                f"{directory} is a file; nothing was written.", hint="Name another place."
            )
    except OSError as error:
        raise unwritable(directory, error) from error
    if not there:
        return
    if not force:
        raise WouldOverwriteError(
            f"{directory} is not empty; nothing was written.",
            hint="Name another directory, or give --force to replace a libtorch that was extracted before.",
        )
    others = [name for name in there if name not in OWN_NAMES]
    if others:
        raise WouldOverwriteError(
            f"{directory} holds more than a libtorch ({', '.join(others[:3])}), which --force would delete.",
            hint="Name a directory of its own.",
        )


@contextlib.contextmanager
def workspace(directory: Path) -> Iterator[Path]:
    """A new directory beside `directory`, on the same file system; gone afterwards.

    Raises:
        FileError: it cannot be made.
    """
    prefix = f".{directory.name}.torchlink-"
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        for left in directory.parent.glob(f"{glob_escape(prefix)}*"):
            if time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix=prefix, dir=directory.parent))
    except OSError as error:
        raise unwritable(directory, error) from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def publish(work: Path, directory: Path) -> None:
    """Put the finished `work/libtorch` where the user wants it; what stood there goes only then.

    Raises:
        FileError: it cannot be renamed.
    """
    replaced = work / "replaced"
    try:
        if directory.is_dir():
            directory.rename(replaced)
        (work / "libtorch").rename(directory)
    except OSError as error:
        if replaced.exists() and not directory.exists():
            replaced.rename(directory)
        raise unwritable(directory, error) from error


def unpack(
    archive: ZipFile, items: Iterable[Item], root: Path, advance: Callable[[int], None]
) -> tuple[int, int]:
    """Write members below `root`; returns how many files and bytes.

    Args:
        archive: where they are.
        items: the members and their places.
        root: the directory that they go to.
        advance: called with the number of bytes after every piece.

    Raises:
        MalformedFileError: the archive is damaged or encrypted.
        FileError: the disk is full, or may not be written.
    """
    count = size = 0
    for item in items:
        target = root / item.target
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            size += _write(archive, item, target, advance)
        except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise MalformedFileError(
                f"{archive.filename} is damaged or encrypted: {item.member.filename} cannot be unpacked ({error}).",
                hint="Download it again.",
            ) from error
        except OSError as error:
            raise unwritable(target, error) from error
        count += 1
    return count, size


def _write(archive: ZipFile, item: Item, target: Path, advance: Callable[[int], None]) -> int:
    size = 0
    with archive.open(item.member) as source, target.open("xb") as file:
        while piece := source.read(PIECE):
            file.write(piece)
            size += len(piece)
            advance(len(piece))
    executable = (item.member.external_attr >> 16) & 0o111
    if executable:
        target.chmod(target.stat().st_mode | executable)
    return size


def check_space(directory: Path, needed: int) -> None:
    """See that the disk can take so many bytes.

    Raises:
        FileError: it cannot.
    """
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise FileError(
            f"The disk of {directory} has {free >> 20} MiB free, and {needed >> 20} MiB are needed.",
            hint="Free some space, or name a directory on another disk.",
        )


def glob_escape(text: str) -> str:
    """The text as a pattern that matches only itself."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in text)


def unwritable(path: Path, error: OSError) -> FileError:
    """The error for a place that cannot be written."""
    return FileError(
        f"Cannot write {error.filename or path}: {error.strerror or error}.",
        hint="Name a directory that you may write to.",
    )
