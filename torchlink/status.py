"""Checks whether files exist, and of what type, that raise errors of the system.

`os.path.exists` and the like return False for every error. Without memory or with a failing disk that would be wrong,
so such errors are raised here.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from torchlink.errors import RESOURCES, out_of_resources

if TYPE_CHECKING:
    from pathlib import Path


def status_of(path: Path | str) -> os.stat_result | None:
    """Return the status of a file; None if there is none, or if it cannot be accessed.

    Raises:
        ResourcesError: the system lacks the resources to tell.
    """
    try:
        return os.stat(path)  # noqa: PTH116 - plain strings: this runs at every start
    except (OSError, ValueError) as error:  # ValueError: an invalid file name
        not_about_the_file(path, error)
        return None


def exists(path: Path | str) -> bool:
    """Whether a file of any type exists, links followed; errors are those of `status_of`."""
    return status_of(path) is not None


def is_file(path: Path | str) -> bool:
    """Whether a regular file, or a link to one, exists; errors are those of `status_of`."""
    status = status_of(path)
    return status is not None and stat.S_ISREG(status.st_mode)


def is_dir(path: Path | str) -> bool:
    """Whether a directory, or a link to one, exists; errors are those of `status_of`."""
    status = status_of(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def not_about_the_file(path: Path | str, error: Exception) -> None:
    """Raise a `ResourcesError` for an error that does not mean that the file is missing or unreadable."""
    if isinstance(error, OSError) and error.errno in RESOURCES:
        raise out_of_resources(f"Cannot read {path}", error) from error


def file_kind(mode: int) -> str:
    """Return the file type of a mode, with its article."""
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a character device",
        stat.S_IFBLK: "a block device",
    }
    return kinds.get(stat.S_IFMT(mode), "a special file")
