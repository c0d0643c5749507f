"""What a path leads to, for verdicts: absent is only what the system says is absent.

`os.path.exists` and its like take every error for "no". Without memory or with a failing disk that would be a wrong
verdict, so here such errors are raised.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from torchlink.errors import RESOURCES, out_of_resources

if TYPE_CHECKING:
    from pathlib import Path


def status_of(path: Path | str) -> os.stat_result | None:
    """The status of what a path leads to; None where nothing is there, or nothing that may be looked at.

    Raises:
        ResourcesError: the system cannot tell just now.
    """
    try:
        return os.stat(path)  # noqa: PTH116 - plain strings: this runs at every start
    except (OSError, ValueError) as error:  # ValueError: what no file can be called
        not_about_the_file(path, error)
        return None


def exists(path: Path | str) -> bool:
    """Whether anything is there, a dangling link aside; errors are those of `status_of`."""
    return status_of(path) is not None


def is_file(path: Path | str) -> bool:
    """Whether a regular file, or a link to one, is there; errors are those of `status_of`."""
    status = status_of(path)
    return status is not None and stat.S_ISREG(status.st_mode)


def is_dir(path: Path | str) -> bool:
    """Whether a directory, or a link to one, is there; errors are those of `status_of`."""
    status = status_of(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def not_about_the_file(path: Path | str, error: Exception) -> None:
    """Raise a `ResourcesError` for an error that must not be read as "this file is not there"."""
    if isinstance(error, OSError) and error.errno in RESOURCES:
        raise out_of_resources(f"Cannot read {path}", error) from error


def file_kind(mode: int) -> str:
    """What a file mode says the thing is, with its article."""
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a character device",
        stat.S_IFBLK: "a block device",
    }
    return kinds.get(stat.S_IFMT(mode), "something special")
