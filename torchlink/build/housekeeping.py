"""Everything that torchlink keeps: listing it, and deleting it without touching anything else."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, NamedTuple

from torchlink.bounds import LONGEST_JSON, load_json, read_whole
from torchlink.build.cache import BUILDS, MANIFEST
from torchlink.errors import FileError
from torchlink.paths import LOGS, cache_dir

if TYPE_CHECKING:
    from pathlib import Path

# Every directory that torchlink makes below its cache, and what is in it. Nothing else is ever deleted.
KINDS = {
    BUILDS: "loaders that verify has built",
    "toolchain": "what compilers and tools said of themselves",
    "cmake": "prefixes and caches for CMake",
    LOGS: "logs of failed builds",
}


class Kept(NamedTuple):
    """One line of `torchlink cache show`: a file or directory below the cache."""

    kind: str  # a key of KINDS
    path: Path
    size: int  # bytes
    modified: float  # seconds since the epoch
    about: str  # "" where the kind says all


def contents() -> tuple[Kept, ...]:
    """Everything that is kept, by kind, the youngest first."""
    kept = [
        Kept(kind, path, _size(path), path.lstat().st_mtime, _about(path))
        for kind in KINDS
        for path in _children(cache_dir() / kind)
        if not path.name.startswith(".")
    ]
    order = list(KINDS)
    return tuple(sorted(kept, key=lambda entry: (order.index(entry.kind), -entry.modified)))


def clear() -> int:
    """Delete everything that torchlink keeps, and nothing else; returns the bytes that were freed.

    Raises:
        FileError: something cannot be deleted.
    """
    root = cache_dir()
    freed = sum(_size(root / kind) for kind in KINDS)
    try:
        for kind in KINDS:
            if (root / kind).is_dir() and not (root / kind).is_symlink():
                shutil.rmtree(root / kind)
        with contextlib.suppress(OSError):  # something else is in it, or it was never there
            root.rmdir()
    except OSError as error:
        raise FileError(
            f"Cannot delete {error.filename or root}: {error.strerror}.",
            hint="Check its permissions with `ls -ld`.",
        ) from error
    return freed


def _children(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []


def _size(path: Path) -> int:
    """Bytes of a file, or of all files below a directory; symlinks are not followed."""
    try:
        if path.is_dir() and not path.is_symlink():
            return sum(_size(child) for child in _children(path))
        return path.lstat().st_size
    except OSError:
        return 0


def _about(path: Path) -> str:
    """What the manifest of a loader says of it."""
    try:
        facts = load_json(read_whole(path / MANIFEST, LONGEST_JSON))
        return f"libtorch {facts['libtorch']['version']}, {facts['compiler']}, via {facts['via']}"
    except (OSError, FileError, ValueError, KeyError, TypeError):
        return ""
