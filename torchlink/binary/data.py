"""Bounds-checked access to a file's bytes: reading past the end is a `MalformedFileError`, never a traceback."""

from __future__ import annotations

import errno
import os
import resource  # not lazily: importing needs descriptors, which have run out by the time this is used
import stat
import sys
from _thread import RLock  # importing threading and weakref takes a millisecond
from _weakrefset import WeakSet
from array import array
from typing import TYPE_CHECKING, Any, ClassVar

from torchlink.errors import (
    RESOURCES,
    FileError,
    MalformedFileError,
    ResourcesError,
    TorchlinkError,
    out_of_resources,
)
from torchlink.status import file_kind

if TYPE_CHECKING:
    import struct
    from collections.abc import Callable
    from pathlib import Path

# bytes; a C++ name can be long (templates of templates), but beyond this a NUL must be missing
LONGEST_STRING = 1 << 20
LARGEST_TABLE = 5 << 24  # bytes of a table that is read as a whole; libtorch_cpu.so's largest has 15 MB
LARGEST_SEARCH = 1 << 30  # bytes that `find` reads; the read-only data of libtorch_cpu.so has 18 MB
SEARCHED = 1 << 20  # bytes that `find` reads at once
BLOCK = 1 << 12  # bytes that are read and kept for a small access: others follow nearby
MOST_BLOCKS = 1 << 10
MOST_HELD = 128  # descriptors at once, and at most half of the system's limit


class Data:
    """The bytes of one file, in memory or read on demand.

    Nothing is mapped: a file that is cut off while it is mapped kills the process that reads on (SIGBUS).

    Args:
        buffer: the bytes in memory, or the file to read them from.
        name: what messages call the file.
        kind: what the file should be, e.g. `ELF file`; for messages.
    """

    __slots__ = ("_blocks", "_source", "_window", "kind", "name", "size")

    def __init__(self, buffer: bytes | Source, name: str, kind: str) -> None:
        self._source = None if isinstance(buffer, bytes) else buffer
        self.name = name
        self.kind = kind
        self.size = len(buffer)
        self._window = (0, self.size, buffer) if isinstance(buffer, bytes) else (0, 0, b"")
        self._blocks: dict[int, bytes] = {}

    @classmethod
    def open(cls, path: Path | str, kind: str) -> Data:
        """Open a regular file.

        Raises:
            FileError: it does not exist, cannot be read, or is not a regular file (a FIFO does not block).
            ResourcesError: the system cannot open anything just now.
            MalformedFileError: it is empty.
        """
        return cls(Source(path, kind), str(path), kind)

    def close(self) -> None:
        """Close the descriptor; bytes in memory are not affected."""
        if self._source is not None:
            self._source.close()

    def malformed(self, what: str) -> MalformedFileError:
        """Return the error for an inconsistent file; `what` is a clause such as `its header is cut off`."""
        return MalformedFileError(
            f"{self.name} is a damaged {self.kind}: {what}.",
            hint="Copy, build or download it again.",
        )

    def unpack(self, layout: struct.Struct, offset: int) -> tuple[Any, ...]:
        """Return the fields of `layout` at `offset` bytes."""
        if offset < 0 or offset + layout.size > self.size:
            raise self.malformed(f"it should go on to byte {offset + layout.size} but ends at {self.size}")
        number, start = divmod(offset, BLOCK)
        block = self._blocks.get(number) or self._block(number)
        if start + layout.size <= len(block):
            return layout.unpack_from(block, start)
        return layout.unpack(self.take(offset, layout.size))

    def take(self, offset: int, size: int) -> bytes:
        """Return a copy of `size` bytes at `offset`."""
        self._check(offset, size)
        if self._source is None:
            return self._window[2][offset : offset + size]
        number, start = divmod(offset, BLOCK)
        if start + size <= BLOCK:
            return (self._blocks.get(number) or self._block(number))[start : start + size]
        return self._source.read(offset, size)

    def window(self, start: int, end: int) -> tuple[bytes, int]:
        """Return bytes that include those from `start` up to `end`, for callers that access many places there.

        Returns:
            The bytes, and the offset of the first one. They are kept until another window is requested.
        """
        begin, stop, content = self._window
        if begin <= start and end <= stop:
            return content, begin
        self._check(start, end - start)
        if self._source is not None:
            content = self._source.read(start, end - start)
            self._window = (start, end, content)
        return content, start

    def find(self, needle: bytes, start: int, end: int) -> int:
        """Return the offset of the first needle between two offsets, or -1; at most `LARGEST_SEARCH` bytes are read."""
        end = min(end, self.size, start + LARGEST_SEARCH)
        if self._source is None:
            return self._window[2].find(needle, start, end)
        overlap = len(needle) - 1
        for begin in range(start, end, SEARCHED):
            found = self._source.read(begin, min(SEARCHED + overlap, end - begin)).find(needle)
            if found >= 0:
                return begin + found
        return -1

    def numbers(self, kind: str, offset: int, size: int, byteorder: str) -> array[int]:
        """Return the unsigned numbers of `kind` (a type code of `array`) in `size` bytes at `offset`."""
        self._check(offset, size)
        found = array(kind)
        if self._source is None:
            found.frombytes(self._window[2][offset : offset + size])
        else:
            found.frombytes(self._source.read(offset, size))
        if byteorder != sys.byteorder:
            found.byteswap()
        return found

    def raw_string(self, offset: int, end: int) -> bytes:
        """Return the bytes from `offset` up to the next NUL, which must come before `end`."""
        limit = min(end, offset + LONGEST_STRING, self.size)
        pieces = []
        position = offset
        while 0 <= position < limit:
            number, start = divmod(position, BLOCK)
            block = self._blocks.get(number) or self._block(number)
            stop = block.find(b"\0", start, start + limit - position)
            if stop >= 0:
                pieces.append(block[start:stop])
                return b"".join(pieces) if len(pieces) > 1 else pieces[0]
            pieces.append(block[start:])
            position += len(block) - start
        raise self.malformed(f"the string at byte {offset} has no end")

    def _check(self, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset + size > self.size:
            raise self.malformed(f"it should go on to byte {offset + size} but ends at {self.size}")
        if size > LARGEST_TABLE and self._source is not None:
            raise self.malformed(f"one of its tables claims {size} bytes, more than any has")

    def _block(self, number: int) -> bytes:
        """Return a block by its number, and keep it."""
        start = number * BLOCK
        size = min(BLOCK, self.size - start)
        memory = self._window[2]
        block = memory[start : start + size] if self._source is None else self._source.read(start, size)
        if len(self._blocks) >= MOST_BLOCKS:
            self._blocks.clear()
        self._blocks[number] = block
        return block

    def string(self, offset: int, end: int) -> str:
        """Return `raw_string` as text; bytes that are not UTF-8 become surrogates, as in file names."""
        return self.raw_string(offset, end).decode("utf-8", "surrogateescape")


class LazyBytes:
    """The bytes of a file from an offset on; a slice is read when it is taken."""

    __slots__ = ("_start", "_take")

    def __init__(self, data: Data, start: int) -> None:
        self._take = data.take
        self._start = start

    def __getitem__(self, part: slice[int, int, None]) -> bytes:
        return self._take(self._start + part.start, part.stop - part.start)


class LazyNumbers:
    """The unsigned numbers of a file from an offset on; each is read when it is asked for."""

    __slots__ = ("_layout", "_start", "_unpack")

    def __init__(self, data: Data, start: int, layout: struct.Struct) -> None:
        self._unpack = data.unpack
        self._start = start
        self._layout = layout

    def __getitem__(self, number: int) -> int:
        value: int = self._unpack(self._layout, self._start + number * self._layout.size)[0]
        return value


class Source:
    """A regular file for random access.

    Before descriptors run out, all sources close theirs, and reopen the file for the next read.
    """

    __slots__ = ("__weakref__", "_descriptor", "_identity", "_path")

    _lock: ClassVar = RLock()  # a descriptor must not be given back while another thread reads through it
    _open: ClassVar[WeakSet[Source]] = WeakSet()

    def __init__(self, path: Path | str, kind: str) -> None:
        self._path = path
        self._descriptor = -1
        if len(self._open) >= min(MOST_HELD, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2):
            self.close_all()
        try:
            descriptor = open_descriptor(path)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise unreadable(path, error) from error
        try:
            self._identity = identity(regular(os.fstat(descriptor), path, kind))
        except BaseException:
            os.close(descriptor)
            raise
        self._hold(descriptor)

    def __len__(self) -> int:
        return self._identity[2]

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if self._descriptor >= 0:  # not by `close`: at the interpreter's end modules may be empty
            close(self._descriptor)

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes at `offset`; the file must be as it was when it was opened.

        Raises:
            ResourcesError: it has changed since, or cannot be read at the moment.
        """
        with self._lock:
            try:
                if self._descriptor < 0:
                    self._reopen()
                content = os.pread(self._descriptor, size, offset)
            except OSError as error:
                raise unreadable(self._path, error) from error
        if len(content) < size:
            raise self._changed()
        return content

    def close(self) -> None:
        """Close the descriptor."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            self._open.discard(self)
            os.close(descriptor)

    @classmethod
    def close_all(cls) -> bool:
        """Close the descriptors of all sources; return whether any was open."""
        with cls._lock:
            held = list(cls._open)
            for each in held:
                each.close()
        return bool(held)

    def _hold(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._open.add(self)

    def _reopen(self) -> None:
        try:
            descriptor = open_descriptor(self._path)
        except FileNotFoundError:
            raise self._changed() from None
        if identity(os.fstat(descriptor)) != self._identity:
            os.close(descriptor)
            raise self._changed()
        self._hold(descriptor)

    def _changed(self) -> ResourcesError:
        return ResourcesError(
            f"{self._path} changed while it was being read.", hint="Run it again when the file is complete."
        )


def regular(status: os.stat_result, path: Path | str, kind: str) -> os.stat_result:
    """Return the status of a file after checking that it can be read.

    Raises:
        FileError: it is not a regular file.
        MalformedFileError: it is empty.
    """
    if not stat.S_ISREG(status.st_mode):
        raise FileError(f"{path} is {file_kind(status.st_mode)}, not a file.", hint="Name a file.")
    if status.st_size == 0:
        raise MalformedFileError(f"{path} is empty: not a valid {kind}.")
    return status


def identity(status: os.stat_result) -> tuple[int, int, int, int]:
    """Return what identifies one state of a file: device, inode, size, modification time."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def open_descriptor(path: Path | str) -> int:
    """Open a file for reading; a FIFO does not block.

    Where the limit of descriptors is reached, the soft limit is raised, or those of all sources are closed.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(path, flags)
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE) or not (_raise_limit() or Source.close_all()):
            raise
    return os.open(path, flags)


def _raise_limit() -> bool:
    """Raise the soft limit of open files to the hard one; return whether it was lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return True


def unreadable(path: Path | str, error: OSError | ValueError) -> TorchlinkError:
    """Return the error for a file that cannot be opened: a `ResourcesError` where the file is not at fault."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, OSError) and error.errno in RESOURCES:
        return out_of_resources(f"Cannot read {path}", error)
    return FileError(f"Cannot read {path}: {reason}.", hint="Check the path and its permissions.")
