"""File system queries that treat what cannot be read as absent; only `ResourcesError` is raised.

pathlib's own raise PermissionError below a directory without search permission, and they are slower, which counts at
every start.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from torchlink.bounds import LONGEST_FILE, first_bytes
from torchlink.errors import FileError
from torchlink.status import exists, file_kind, is_dir, is_file, not_about_the_file, status_of

__all__ = [
    "absolute",
    "exists",
    "is_closed",
    "is_dir",
    "is_file",
    "names_in",
    "read_bytes",
    "read_text",
    "special_kind",
]


def special_kind(path: Path | str) -> str | None:
    """Return "a FIFO" or the like for what is neither a file nor a directory; nothing is opened."""
    status = status_of(path)
    if status is None or stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        return None
    return file_kind(status.st_mode)


def names_in(path: Path | str) -> tuple[str, ...]:
    """Return the sorted names in a directory; none where it cannot be listed."""
    try:
        return tuple(sorted(os.listdir(path)))  # noqa: PTH208 - names, not paths
    except (OSError, ValueError) as error:
        not_about_the_file(path, error)
        return ()


def is_closed(path: Path | str) -> bool:
    """Whether a directory exists but cannot be listed or entered."""
    return is_dir(path) and not os.access(path, os.R_OK | os.X_OK)


def read_bytes(path: Path | str, size: int = LONGEST_FILE) -> bytes:
    """Return the first `size` bytes of a regular file; none where it cannot be read."""
    try:
        return first_bytes(path, size)
    except (FileError, OSError, ValueError) as error:
        not_about_the_file(path, error)
        return b""


def read_text(path: Path | str) -> str:
    """Return a regular file decoded as UTF-8, invalid bytes replaced; empty if it cannot be read."""
    return read_bytes(path).decode("utf-8", "replace")


def absolute(path: Path | str) -> Path:
    """Return an absolute path without resolving links, because $ORIGIN and a venv's python depend on them."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow the links
