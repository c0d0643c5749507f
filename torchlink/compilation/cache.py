"""What was built and kept: one directory an entry, whole or absent; to delete, copy or share at any time.

An entry is written beside its place and renamed into it. Its name is the hash of everything that it is known to
depend on before it is built; `headers` lists what the compiler read besides; `entry.json`, written last, says what
it is, how large its program must be, and how those headers were.

Everything that torchlink keeps: listing it, and deleting it without touching anything else.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

from torchlink.bounds import LONGEST_JSON, first_bytes, holds, load_json, read_whole
from torchlink.errors import FileError
from torchlink.paths import LOGS, cache_dir, close_to_others, distrust, kept_in, usable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


BUILDS = "loaders"
MANIFEST = "entry.json"
LONGEST_KEY = 4096
FORM = 2  # raise it whenever the meaning of a manifest changes


class CachedProgram(NamedTuple):  # made in a third of a dataclass's time, and on the way of every warm start
    """A program in the cache."""

    program: Path
    facts: Mapping[str, Any]  # of its manifest: libtorch, compiler, command, compile_seconds, …


def find(key: str) -> CachedProgram | None:
    """The entry of this key; None where there is none, where it is not whole, or where a header has changed since."""
    entry = _whole(key)
    return entry if entry is not None and _current(entry) else None


def recent(asked: str) -> CachedProgram | None:
    """The entry that served the same question last time; whether it still does is for its key to say."""
    try:
        file = _recent(asked)
        return _whole(first_bytes(file, LONGEST_KEY).decode("ascii")) if distrust(file) is None else None
    except (OSError, FileError, ValueError):
        return None


def remember_recent(asked: str, entry: Path) -> None:
    """Keep, for `recent`, which entry's program has answered a question; a cache that is read-only stays so."""
    file = _recent(asked)
    key = entry.parent.name
    with contextlib.suppress(OSError, ValueError):
        if not file.is_file() or not holds(file, key.encode("ascii")):
            from torchlink.atomic import write_file

            write_file(file, key.encode("ascii"), mode=0o600, durable=False)


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """A new directory beside the entries, gone afterwards.

    Raises:
        FileError: the cache cannot be written.
    """
    from torchlink.atomic import beside

    try:
        with beside(usable(BUILDS) / "entry") as work:
            yield work
    except OSError as error:
        raise _unwritable(error) from error


def publish(key: str, directory: Path, program: str, facts: Mapping[str, object]) -> CachedProgram:
    """Turn a directory in a workspace, with the finished program in it, into the entry of a key.

    Where another process was faster, its entry stays and is returned.

    Raises:
        FileError: the cache cannot be written.
    """
    from torchlink.atomic import move_in

    place = directory.parent.parent / key
    size = (directory / program).stat().st_size
    manifest = {"form": FORM, "program": program, "size": size, **facts}
    try:
        (directory / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        close_to_others(directory)
        # What is there and no entry is half copied, or made by another torchlink.
        move_in(directory, place, stays=lambda: find(key) is not None)
    except OSError as error:
        entry = find(key)
        if entry is None:
            raise _unwritable(error) from error
        return entry
    return find(key) or CachedProgram(place / program, manifest)


@contextlib.contextmanager
def lock(key: str) -> Iterator[None]:
    """Keep a second process from building the same entry; it waits and then finds it.

    Raises:
        FileError: the cache cannot be written.
    """
    from filelock import FileLock

    try:
        held = FileLock(usable(BUILDS) / f".{key}.lock")
        held.acquire()
    except OSError as error:
        raise _unwritable(error) from error
    try:
        yield
    finally:
        held.release()


def keep_log(name: str, text: str) -> Path:
    """Write a log and return its path.

    Raises:
        FileError: the cache cannot be written.
    """
    from torchlink.atomic import write_file

    try:
        file = usable(LOGS) / name
        write_file(file, text.encode(errors="backslashreplace"), durable=False)
    except OSError as error:
        raise _unwritable(error) from error
    return file


def _whole(key: str) -> CachedProgram | None:
    """The entry of this key, where all of it is there and nobody else can have written it."""
    builds = kept_in(BUILDS)
    directory = builds / key
    if directory.parent != builds or key == "..":
        return None
    try:
        facts = json.loads(read_whole(directory / MANIFEST, LONGEST_JSON))
        program = directory / str(facts["program"])
        if program.parent != directory or any(map(distrust, (directory, directory / MANIFEST, program))):
            return None
        whole = facts["form"] == FORM and os.stat(program).st_size == facts["size"]  # noqa: PTH116 - warm path
    except (OSError, FileError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return CachedProgram(program, facts) if whole and os.access(program, os.X_OK) else None


def _current(entry: CachedProgram) -> bool:
    """Whether the headers are as they were when the entry's program was built."""
    from torchlink.compilation import recipe

    before = entry.facts.get("headers")
    if before is None:  # not a compiler's work
        return True
    try:
        names = os.fsdecode(read_whole(entry.program.with_name(recipe.LIST)))
    except (OSError, FileError):
        return False
    return recipe.stamp(names.split("\n") if names else ()) == str(before)


def _recent(asked: str) -> Path:
    return kept_in(BUILDS) / f".recent-{zlib.crc32(asked.encode(errors='surrogateescape')):08x}"


def _unwritable(error: OSError) -> FileError:
    return FileError(
        f"Cannot write the cache {kept_in(BUILDS).parent}: {error.strerror or error}.",
        hint="Name a directory that you may write to with TORCHLINK_CACHE_DIR.",
    )


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
