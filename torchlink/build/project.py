"""Writing a project skeleton: everything or nothing, and never over what the user has."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from torchlink.errors import FileError, WouldOverwriteError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path


def write_project(
    files: Mapping[str, str], directory: Path, *, force: bool = False, ours: Collection[str] = ()
) -> tuple[Path, ...]:
    """Write files, given by name relative to `directory`, which is made where it is missing.

    A file that already holds exactly the new text is no obstacle, and a `.gitignore` is added to. `ours` may be
    overwritten in any case. Returns the paths written, in order.

    Raises:
        WouldOverwriteError: a file with other content stands there and `force` is off; nothing was written.
        FileError: the directory cannot be made or written; what is new there is gone again.
    """
    made: list[Path] = []
    try:
        files = {name: _merged(directory / name, text) for name, text in files.items()}
        in_the_way = [name for name, text in files.items() if _differs(directory / name, text)]
        in_the_way = [name for name in in_the_way if name not in ours]
        if in_the_way and not force:
            raise WouldOverwriteError(
                f"{directory} already holds {', '.join(in_the_way)}; nothing was written.",
                hint="Name another directory, or give --force to overwrite.",
            )
        written = [directory / name for name in files]
        for path, text in zip(written, files.values(), strict=True):
            _make_directory(path.parent, made)
            if not path.exists():
                made.append(path)
            path.write_text(text, encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        _remove(made)
        raise FileError(
            f"Cannot write {error.filename or directory}: {error.strerror}.",
            hint="Name a directory that you may write to.",
        ) from error
    return tuple(written)


def _make_directory(directory: Path, made: list[Path]) -> None:
    """Make a directory and those above it, and put those that are new into `made`."""
    missing = [place for place in (directory, *directory.parents) if not place.exists()]
    made += reversed(missing)
    directory.mkdir(parents=True, exist_ok=True)


def _remove(made: list[Path]) -> None:
    """Take back what was made, the last first; what somebody else has put there meanwhile stays."""
    for path in reversed(made):
        with contextlib.suppress(OSError):
            path.rmdir() if path.is_dir() else path.unlink()


def _merged(path: Path, text: str) -> str:
    """The text for a file, behind what is there already where that is a list of names for git to ignore."""
    if path.name != ".gitignore" or not path.is_file() or path.read_bytes() == text.encode():
        return text
    before = path.read_text(encoding="utf-8", errors="surrogateescape")
    new = [line for line in text.splitlines() if line not in before.splitlines()]
    return "\n".join([before.rstrip("\n"), *new]) + "\n"


def _differs(path: Path, text: str) -> bool:
    """Whether something other than this text stands at `path`."""
    if not (path.exists() or path.is_symlink()):
        return False
    if not path.is_file():
        return True
    before = path.read_bytes()
    return before != text.encode(errors="surrogateescape") and path.name != ".gitignore"
