"""Reading untrusted files, numbers and JSON with limits on their size."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from torchlink.errors import FileError
from torchlink.status import file_kind

if TYPE_CHECKING:
    from pathlib import Path

DIGITS = 18  # fit into 64 bits whatever the digits are
LARGEST = 1_000_000_000_000_000_000
LONGEST_JSON = 8 << 20  # bytes; in memory it takes up to twenty times as much (empty lists)
LONGEST_FILE = 32 << 20  # bytes of any other file that is read as a whole


def read_whole(path: Path | str, limit: int = LONGEST_FILE) -> bytes:
    """Read a whole regular file; never block on a FIFO, a terminal or a device.

    Raises:
        FileError: it is not a regular file, or larger than `limit`.
        OSError: it cannot be read.
    """
    data = first_bytes(path, limit + 1)
    if len(data) > limit:
        raise FileError(f"{path}: larger than {limit >> 20} MB.", hint="Check that it is the intended file.")
    return data


def first_bytes(path: Path | str, size: int) -> bytes:
    """Read the first `size` bytes of a regular file; errors are those of `read_whole`."""
    status = os.stat(path)  # noqa: PTH116 - plain strings: this runs at every start
    _check_regular(path, status)  # before it is opened: opening alone rewinds a tape
    held = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(held)
        _check_regular(path, status)
        pieces, left = [], size
        while left and (piece := os.read(held, min(left, status.st_size + 4096, 1 << 24))):
            pieces.append(piece)
            left -= len(piece)
    except OSError as error:
        error.filename = error.filename or os.fspath(path)
        raise
    finally:
        os.close(held)
    return b"".join(pieces)


def holds(path: Path | str, data: bytes) -> bool:
    """Whether a regular file's content is exactly these bytes; at most one byte more is read.

    Raises:
        OSError: it cannot be read.
    """
    try:
        return first_bytes(path, len(data) + 1) == data
    except FileError:
        return False


def _check_regular(path: Path | str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = file_kind(status.st_mode)
        raise FileError(f"{path}: not a regular file (it is {kind}).", hint="Name a regular file.")


def whole_number(digits: str) -> int:
    """Return the value of decimal digits; `LARGEST` for more than 18, 0 for anything else."""
    if len(digits) > DIGITS:
        return LARGEST
    try:
        return int(digits)
    except ValueError:  # `isdigit` takes superscripts too
        return 0


def load_json(text: str | bytes, limit: int = LONGEST_JSON) -> Any:
    """Parse a JSON document of up to `limit` bytes.

    Raises:
        ValueError: it is invalid, too large, or too deeply nested.
    """
    import json

    if len(text) > limit:
        raise ValueError(f"it is larger than {limit >> 20} MB")
    try:
        return json.loads(text, parse_constant=not_json)
    except RecursionError:
        raise ValueError("it is too deeply nested") from None
    except (json.JSONDecodeError, ConstantError):
        raise
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except ValueError:  # Python's limit on digits, whose message is for programmers
        raise ValueError("a number in it is too long") from None


class ConstantError(ValueError):
    """A number that Python's parser accepts and JSON does not have."""


def not_json(name: str) -> Any:
    """Reject `NaN`, `Infinity` and `-Infinity` outside strings: the `parse_constant` of Python's parser."""
    raise ConstantError(f"{name} is no number of JSON")
