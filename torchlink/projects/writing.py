"""Writing the files of a project: all or none, and never over the user's own files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink import atomic
from torchlink.bounds import holds, read_whole
from torchlink.errors import WouldOverwriteError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


def write_project(
    files: Mapping[str, str | bytes],
    directory: Path,
    *,
    force: bool = False,
    is_ours: Callable[[Path], bool] = lambda _: False,
) -> tuple[Path, ...]:
    """Write files, named relative to `directory`, which is created if missing; return their paths.

    A file that already has exactly the new text is accepted, and a `.gitignore` is extended. Files for which `is_ours`
    returns true are overwritten in any case. Several processes may write to the directory at once.

    Raises:
        WouldOverwriteError: a file has other content and `force` is off; nothing was written.
        FileError: the directory cannot be created or written; what was written is removed.
    """

    def contents() -> dict[str, bytes]:
        texts = {name: _merged(directory / name, encoded(text)) for name, text in files.items()}
        existing = [name for name, text in texts.items() if _differs(directory / name, text)]
        existing = [name for name in existing if not is_ours(directory / name)]
        if existing and not force:
            raise WouldOverwriteError(
                f"{directory} already contains {', '.join(existing)}; nothing was written.",
                hint="Name another directory, or use --force to overwrite.",
            )
        return texts

    try:
        atomic.write_tree(contents, directory)
    except OSError as error:
        raise atomic.unwritable(directory, error) from error
    return tuple(directory / name for name in files)


def encoded(content: str | bytes) -> bytes:
    """Encode a file's content; paths in it may have bytes that are not UTF-8."""
    return content if isinstance(content, bytes) else content.encode(errors="surrogateescape")


def _merged(path: Path, text: bytes) -> bytes:
    """Return the text for a file; for a `.gitignore`, its present lines and then the new ones."""
    if path.name != ".gitignore" or not path.is_file():
        return text
    before = read_whole(path)
    new = [line for line in text.splitlines() if line not in before.splitlines()]
    return b"\n".join([before.rstrip(b"\n"), *new]) + b"\n" if new else before


def _differs(path: Path, text: bytes) -> bool:
    """Whether there is something at `path` other than this text."""
    if not (path.exists() or path.is_symlink()):
        return False
    return not path.is_file() or (path.name != ".gitignore" and not holds(path, text))
