"""Writing members of archives to disk, piece by piece, and what may be replaced by them."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING
from zipfile import BadZipFile, ZipFile

from torchlink.atomic import unwritable
from torchlink.errors import MalformedFileError, WouldOverwriteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from torchlink.extract.members import Item

PIECE = 1 << 20  # bytes
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
