"""The cache of built programs, and listing and clearing everything that torchlink caches.

Each entry is a directory, complete or absent, which can be deleted, copied or shared at any time. It is written next to
its place and renamed into it. Its name is the hash of everything that it is known to depend on before it is built;
`headers` lists the headers that the compiler read; `entry.json`, written last, describes the entry and holds the size
of its program and a hash over the state of those headers.
"""

from __future__ import annotations

import contextlib
import json
import os
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
FORM = 2  # increment it whenever the meaning of a manifest changes
# Every directory that torchlink creates in its cache, and its contents. Nothing else is ever deleted.
KINDS = {
    BUILDS: "loaders built by verify",
    "toolchain": "properties of compilers and tools",
    "cmake": "prefixes and initial caches for CMake",
    LOGS: "logs of failed builds",
    "causes": "the index of the causes that explain names",
}


class CachedProgram(NamedTuple):  # a third of a dataclass's cost, and every warm start makes one
    """A program in the cache."""

    program: Path
    facts: Mapping[str, Any]  # its manifest: libtorch, compiler, command, compile_seconds, …


def find(key: str) -> CachedProgram | None:
    """Return the entry of this key; None if it is missing or incomplete, or if a header has changed since."""
    entry = _whole(key)
    return entry if entry is not None and _current(entry) else None


def recent(request: str) -> CachedProgram | None:
    """Return the entry that was used for the same request last time; the caller checks its key."""
    try:
        file = _recent(request)
        return _whole(first_bytes(file, LONGEST_KEY).decode("ascii")) if distrust(file) is None else None
    except (OSError, FileError, ValueError):
        return None


def remember_recent(request: str, entry: Path) -> None:
    """Record for `recent` which entry was used for a request; failing to write is ignored."""
    file = _recent(request)
    key = entry.parent.name
    with contextlib.suppress(OSError, ValueError):
        if not file.is_file() or not holds(file, key.encode("ascii")):
            from torchlink.atomic import write_file

            write_file(file, key.encode("ascii"), mode=0o600, durable=False)


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """Make a directory next to the entries, and delete it afterwards.

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
    """Move a directory with a finished program from a workspace to the entry of a key.

    Where another process was faster, its entry is kept and returned.

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
        # A directory that is not an entry is half copied, or from another version of torchlink.
        move_in(directory, place, stays=lambda: find(key) is not None)
    except OSError as error:
        entry = find(key)
        if entry is None:
            raise _unwritable(error) from error
        return entry
    return find(key) or CachedProgram(place / program, manifest)


@contextlib.contextmanager
def lock(key: str) -> Iterator[None]:
    """Hold the lock of an entry, so that a second process waits and then finds it.

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
    """Return the entry of this key if it is complete and no other user can have written it."""
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
    """Whether the headers are unchanged since the entry's program was built."""
    from torchlink.compilation import recipe

    before = entry.facts.get("headers")
    if before is None:  # nothing was compiled
        return True
    try:
        names = os.fsdecode(read_whole(entry.program.with_name(recipe.LIST)))
    except (OSError, FileError):
        return False
    return recipe.stamp(names.split("\n") if names else ()) == str(before)


def _recent(request: str) -> Path:
    return kept_in(BUILDS) / f".recent-{zlib.crc32(request.encode(errors='surrogateescape')):08x}"


def _unwritable(error: OSError) -> FileError:
    return FileError(
        f"Cannot write the cache {kept_in(BUILDS).parent}: {error.strerror or error}.",
        hint="Set TORCHLINK_CACHE_DIR to a writable directory.",
    )


class Kept(NamedTuple):
    """One line of `torchlink cache show`: a file or directory below the cache."""

    kind: str  # a key of KINDS
    path: Path
    size: int  # bytes
    modified: float  # seconds since the epoch
    about: str  # "" if the kind says enough


def contents() -> tuple[Kept, ...]:
    """List everything in the cache by kind, the newest first."""
    kept = [
        Kept(kind, path, _size(path), path.lstat().st_mtime, _about(path))
        for kind in KINDS
        for path in _children(cache_dir() / kind)
        if not path.name.startswith(".")
    ]
    order = list(KINDS)
    return tuple(sorted(kept, key=lambda entry: (order.index(entry.kind), -entry.modified)))


def clear() -> int:
    """Delete everything that torchlink has cached, and nothing else; return the bytes that were freed.

    Raises:
        FileError: something cannot be deleted.
    """
    root = cache_dir()
    freed = sum(_size(root / kind) for kind in KINDS)
    try:
        for kind in KINDS:
            if (root / kind).is_dir() and not (root / kind).is_symlink():
                import shutil  # a warm `verify` does not need it

                shutil.rmtree(root / kind)
        with contextlib.suppress(OSError):  # it contains something else, or does not exist
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
    """Return the bytes of a file, or of all files below a directory; symlinks are not followed."""
    try:
        if path.is_dir() and not path.is_symlink():
            return sum(_size(child) for child in _children(path))
        return path.lstat().st_size
    except OSError:
        return 0


def _about(path: Path) -> str:
    """Describe a loader by its manifest."""
    try:
        facts = load_json(read_whole(path / MANIFEST, LONGEST_JSON))
        return f"libtorch {facts['libtorch']['version']}, {facts['compiler']}, via {facts['via']}"
    except (OSError, FileError, ValueError, KeyError, TypeError):
        return ""
