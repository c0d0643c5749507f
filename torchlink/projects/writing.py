"""Writing a project skeleton: everything or nothing, and never over what the user has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink import atomic
from torchlink.bounds import holds, read_whole
from torchlink.errors import WouldOverwriteError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


def write_project(
    files: Mapping[str, str],
    directory: Path,
    *,
    force: bool = False,
    is_ours: Callable[[Path], bool] = lambda _: False,
) -> tuple[Path, ...]:
    """Write files, given by name relative to `directory`, which is made where it is missing.

    A file that already holds exactly the new text is no obstacle, and a `.gitignore` is added to. What `is_ours` may be
    overwritten in any case. Several processes may write there at once. Returns the paths written, in order.

    Raises:
        WouldOverwriteError: a file with other content stands there and `force` is off; nothing was written.
        FileError: the directory cannot be made or written; what is new there is gone again.
    """

    def contents() -> dict[str, bytes]:
        texts = {name: _merged(directory / name, encoded(text)) for name, text in files.items()}
        in_the_way = [name for name, text in texts.items() if _differs(directory / name, text)]
        in_the_way = [name for name in in_the_way if not is_ours(directory / name)]
        if in_the_way and not force:
            raise WouldOverwriteError(
                f"{directory} already holds {', '.join(in_the_way)}; nothing was written.",
                hint="Name another directory, or give --force to overwrite.",
            )
        return texts

    try:
        atomic.write_tree(contents, directory)
    except OSError as error:
        raise atomic.unwritable(directory, error) from error
    return tuple(directory / name for name in files)


def encoded(text: str) -> bytes:
    """A file's content; a path in it need not be text."""
    return text.encode(errors="surrogateescape")


def _merged(path: Path, text: bytes) -> bytes:
    """The text for a file, behind what is there already where that is a list of names for git to ignore."""
    if path.name != ".gitignore" or not path.is_file():
        return text
    before = read_whole(path)
    new = [line for line in text.splitlines() if line not in before.splitlines()]
    return b"\n".join([before.rstrip(b"\n"), *new]) + b"\n" if new else before


def _differs(path: Path, text: bytes) -> bool:
    """Whether something other than this text stands at `path`."""
    if not (path.exists() or path.is_symlink()):
        return False
    return not path.is_file() or (path.name != ".gitignore" and not holds(path, text))
