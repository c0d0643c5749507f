"""A file's bytes behind checked accesses: what lies outside is a `MalformedFileError`, never a traceback."""

from __future__ import annotations

import errno
import mmap
import os
import resource  # here, because importing takes descriptors, and they have run out when it is needed
import stat
import sys
from array import array
from typing import TYPE_CHECKING, Any

from torchlink.errors import RESOURCES, FileError, MalformedFileError, TorchlinkError, out_of_resources

if TYPE_CHECKING:
    import struct
    from pathlib import Path

Buffer = bytes | mmap.mmap

# A C++ name can be long (templates of templates), but one above this is a sign of a missing NUL.
LONGEST_STRING = 1 << 20

# A map keeps a descriptor of its own unless it is told not to.
UNTRACKED: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) and os.name == "posix" else {}


class Data:
    """The bytes of one file, mapped or in memory, with its name for messages.

    Args:
        buffer: the bytes; a memory map is closed by `close`.
        name: what messages call the file.
        kind: what the file should be, e.g. `ELF file`; for messages.
    """

    __slots__ = ("buffer", "kind", "name", "size")

    def __init__(self, buffer: Buffer, name: str, kind: str) -> None:
        self.buffer = buffer
        self.name = name
        self.kind = kind
        self.size = len(buffer)

    @classmethod
    def map(cls, path: Path | str, kind: str) -> Data:
        """Map a regular file into memory.

        Raises:
            FileError: it does not exist, may not be read, or is no regular file (a FIFO is not waited for).
            ResourcesError: the system cannot open anything just now.
            MalformedFileError: it is empty.
        """
        try:
            descriptor = open_descriptor(path)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise unreadable(path, error) from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FileError(f"{path} is {file_kind(status.st_mode)}, not a file.", hint="Name a file.")
            if status.st_size == 0:
                raise MalformedFileError(f"{path} is empty, and an empty file is no {kind}.")
            return cls(_mapped(descriptor), str(path), kind)
        except OSError as error:
            raise unreadable(path, error) from error
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Give the memory map back; bytes in memory are left to their owner."""
        if isinstance(self.buffer, mmap.mmap):
            self.buffer.close()

    def malformed(self, what: str) -> MalformedFileError:
        """The error for a contradiction in the file; `what` is a clause such as `its header is cut off`."""
        return MalformedFileError(
            f"{self.name} is a damaged {self.kind}: {what}.",
            hint="Copy, build or download it again.",
        )

    def unpack(self, layout: struct.Struct, offset: int) -> tuple[Any, ...]:
        """The fields of `layout` at `offset` bytes."""
        if offset < 0 or offset + layout.size > self.size:
            raise self.malformed(f"it should go on to byte {offset + layout.size} but ends at {self.size}")
        return layout.unpack_from(self.buffer, offset)

    def take(self, offset: int, size: int) -> bytes:
        """A copy of `size` bytes at `offset`."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise self.malformed(f"it should go on to byte {offset + size} but ends at {self.size}")
        return self.buffer[offset : offset + size]

    def numbers(self, kind: str, offset: int, size: int, byteorder: str) -> array[int]:
        """The unsigned numbers of `kind` (as `array` names them) in `size` bytes at `offset`."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise self.malformed(f"it should go on to byte {offset + size} but ends at {self.size}")
        found = array(kind)
        with memoryview(self.buffer) as whole, whole[offset : offset + size] as part:
            found.frombytes(part)  # one copy of what may be large: fresh memory costs more than copying
        if byteorder != sys.byteorder:
            found.byteswap()
        return found

    def raw_string(self, offset: int, end: int) -> bytes:
        """The bytes from `offset` up to the next NUL, which must lie before `end`."""
        stop = -1
        if 0 <= offset < self.size:
            stop = self.buffer.find(b"\0", offset, min(end, offset + LONGEST_STRING))
        if stop < 0:
            raise self.malformed(f"the string at byte {offset} has no end")
        return self.buffer[offset:stop]

    def string(self, offset: int, end: int) -> str:
        """`raw_string` as text; bytes that are no UTF-8 survive as surrogates, as in file names."""
        return self.raw_string(offset, end).decode("utf-8", "surrogateescape")


def open_descriptor(path: Path | str) -> int:
    """A descriptor to read from, without waiting for a FIFO; the soft limit is raised where it is met."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(path, flags)
    except OSError as error:
        if error.errno != errno.EMFILE or not _raise_limit():
            raise
    return os.open(path, flags)


def _mapped(descriptor: int) -> mmap.mmap:
    try:
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ, **UNTRACKED)
    except OSError as error:
        if error.errno != errno.EMFILE or not _raise_limit():
            raise
    return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ, **UNTRACKED)


def _raise_limit() -> bool:
    """Raise the soft limit of open files to the hard one; whether it was lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return True


def unreadable(path: Path | str, error: OSError | ValueError) -> TorchlinkError:
    """The error for a file that cannot be opened: a `ResourcesError` where the file is not what is at fault."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, OSError) and error.errno in RESOURCES:
        return out_of_resources(f"Cannot read {path}", error)
    return FileError(f"Cannot read {path}: {reason}.", hint="Check the path and its permissions.")


def not_about_the_file(path: Path | str, error: OSError | ValueError) -> None:
    """Raise a `ResourcesError` for an error that must not be read as "this file is not there"."""
    if isinstance(error, OSError) and error.errno in RESOURCES:
        raise unreadable(path, error) from error


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
