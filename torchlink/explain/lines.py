"""A log as a stream of bytes, in blocks of whole lines that are ready to be searched.

Removed are terminal sequences, carriage returns and the BOM of UTF-16; kept is the number of each line.
"""

from __future__ import annotations

import codecs
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Protocol

    from typing_extensions import Self

    class Stream(Protocol):
        """What is read: a binary file, or a pipe."""

        def read(self, size: int, /) -> bytes:
            """Return up to `size` bytes; none at the end."""


BLOCK = 1 << 18  # bytes that are searched at once
KEPT = 4 << 20  # bytes of a pipe that are kept in memory
# Of a longer log, only so many bytes of its beginning and its end are searched; both are even, for UTF-16.
HEAD = TAIL = 128 << 20
MOST = 4 << 30  # bytes that are read of a log whose size is unknown, such as a pipe's
SEPARATOR = b"\x1e"  # replaces a carriage return within a line: what follows it overwrites what is before
# CSI and OSC sequences (colours, titles, links), and the two-character ones.
_ESCAPES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
_SAMPLE = 1 << 14
_CONTROL = bytes({*range(9), 14, 15, *range(16, 27), 28, 29, 30, 31})
_MAGIC = {
    b"\x7fELF": "an ELF binary",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "compressed with gzip",
    b"\xfd7zXZ": "compressed with xz",
    b"(\xb5/\xfd": "compressed with zstd",
    b"BZh": "compressed with bzip2",
}
# What continuous integration and build tools write before each line.
_PREFIX = re.compile(
    r"""(?x)
    (?: [\w .()/-]{1,80}\t[^\t]{0,80}\t (?=\d{4}-) )?              # gh run view --log: job, step
    (?: \[? \d{4}-\d\d-\d\d [T\ ] \d\d:\d\d:\d\d (?:[.,]\d{1,9})? (?:Z|[+-]\d\d:?\d\d)? \]? [ \t] # GitHub, GitLab
        (?: \d\d[OE][ +] )?                                        # GitLab: the stream
      | \[\d\d:\d\d:\d\d\][ \t] | \d\d:\d\d:\d\d(?:\.\d{1,6})?[ ]{1,2} # TeamCity, Jenkins
      | \#\d{1,4}\ \d{1,6}\.\d{1,3}\                               # docker buildx
      | [\w.-]{1,60}\ +\|\                                         # docker compose
    ){0,2}"""
)


class Line(NamedTuple):
    """A line of a log, as evidence."""

    file: str
    number: int
    text: str


class Block(NamedTuple):
    """Whole lines, each ended by a newline."""

    data: bytes
    first: int  # the number of the first line
    gap: bool = False  # whether lines before it are left out


class Gap(NamedTuple):
    """The lines of a log that were not searched, or only in part."""

    file: str
    first: int
    last: int | None  # None: the end of the log was not reached


class Replay:
    """A log that can be read twice: a pipe is copied to temporary files, if it is longer than a few blocks.

    Of a log that is too long, the middle is left out: its lines are only counted.
    """

    def __init__(self, stream: Stream, name: str) -> None:
        self.gaps: list[Gap] = []  # known when `blocks` has come to its end
        self._stream, self._name = stream, name
        self._kept = bytearray()
        self._file: IO[bytes] | None = None
        self._ring: _Ring | None = None
        self._start, self._size = _extent(stream)
        self._passed: int | None = None  # how many lines end in the middle
        self._rest = b""  # of a pipe, if there is more after the limit

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._file, self._ring):
            if file is not None:
                file.close()

    def blocks(self) -> Iterator[Block]:
        """Yield the lines of the log.

        Raises:
            FileError: it is not a text.
        """
        read = self._stream.read if self._start is not None else self._copy
        return self._blocks(read)

    def again(self) -> Iterator[Block]:
        """Yield them again, after `blocks` has come to its end."""
        if self._start is not None:
            self._stream.seek(self._start)  # type: ignore[attr-defined]
            return self._blocks(self._stream.read)
        if self._file is not None:
            self._file.seek(0)
            return self._blocks(self._file.read)
        from io import BytesIO

        return self._blocks(BytesIO(self._kept).read)

    def _blocks(self, read: Callable[[int], bytes]) -> Iterator[Block]:
        text = _Text(self._name)
        left = HEAD
        while left > 0 and (data := read(min(BLOCK, left))):
            left -= len(data)
            yield from text.take(data)
        if left <= 0:
            for each in self._tail(text):
                yield from each if not isinstance(each, bytes) else text.take(each)
        yield from text.end()

    def _tail(self, text: _Text) -> Iterator[bytes | Iterator[Block]]:
        """Yield the bytes at the end of a long log, after what ends the block before the gap."""
        first = self._passed is None
        begin = text.number
        if self._start is None:
            self._ring = self._ring or self._drained(text)
            gap = self._ring.start
        else:
            gap = max(self._size - HEAD - TAIL, 0) & ~1
            if first:
                self._passed = self._pass(gap, text)
            else:
                self._stream.seek(self._start + HEAD + gap)  # type: ignore[attr-defined]
        if gap:
            yield text.skip(self._passed or 0)
            if first:
                self.gaps.append(Gap(self._name, begin, text.number))
        if self._ring is not None:
            yield from self._ring.read()
        else:
            left = TAIL + 1
            while left > 0 and (data := self._stream.read(min(BLOCK, left))):
                left -= len(data)
                yield data
        if first and self._rest:
            self.gaps.append(Gap(self._name, text.number, None))

    def _pass(self, size: int, text: _Text) -> int:
        """Read the middle of a file, and return how many lines end there."""
        count = text.counter()
        found = 0
        while size > 0 and (data := self._stream.read(min(BLOCK, size))):
            size -= len(data)
            found += count(data)
        return found

    def _drained(self, text: _Text) -> _Ring:
        """Read a pipe to its end, or the limit, and keep the last bytes."""
        ring = _Ring()
        count = text.counter()
        found = 0
        left = MOST
        while data := self._stream.read(BLOCK):
            if left <= 0:
                self._rest = data
                break
            left -= len(data)
            found += count(data)
            ring.write(data)
        self._passed = found - sum(map(text.counter(), ring.read()))
        return ring

    def _copy(self, size: int) -> bytes:
        """Read from a pipe, and keep what cannot be read again."""
        data = self._stream.read(size)
        if self._file is not None:
            self._file.write(data)
            return data
        self._kept += data
        if len(self._kept) > KEPT:
            from tempfile import TemporaryFile

            self._file = TemporaryFile(prefix="torchlink-")  # noqa: SIM115 - closed by __exit__
            self._file.write(self._kept)
            self._kept.clear()
        return data


class _Ring:
    """The last bytes of a stream, in a temporary file."""

    def __init__(self) -> None:
        from tempfile import TemporaryFile

        self._file = TemporaryFile(prefix="torchlink-")  # noqa: SIM115 - closed by `close`
        self._total = 0

    @property
    def start(self) -> int:
        """How many bytes are no longer kept."""
        missing = max(self._total - TAIL, 0)
        return missing + missing % 2

    def write(self, data: bytes) -> None:
        """Add bytes at the end, at most `TAIL`."""
        at = self._total % TAIL
        self._file.seek(at)
        self._file.write(data[: TAIL - at])
        if len(data) > TAIL - at:
            self._file.seek(0)
            self._file.write(data[TAIL - at :])
        self._total += len(data)

    def read(self) -> Iterator[bytes]:
        """Yield the bytes that are kept."""
        at = self.start
        while at < self._total:
            self._file.seek(at % TAIL)
            data = self._file.read(min(BLOCK, self._total - at, TAIL - at % TAIL))
            at += len(data)
            yield data

    def close(self) -> None:
        """Delete the file."""
        self._file.close()


def _extent(stream: Stream) -> tuple[int | None, int]:
    """Return the position and the rest of a file that can be read again; None for a pipe, a device or a terminal."""
    try:
        if not stream.seekable():  # type: ignore[attr-defined]
            return None, 0
        start = int(stream.tell())  # type: ignore[attr-defined]
        size = int(stream.seek(0, os.SEEK_END)) - start  # type: ignore[attr-defined]
        stream.seek(start)  # type: ignore[attr-defined]
    except (OSError, AttributeError):
        return None, 0
    return (start, size) if size > 0 else (None, 0)  # a device, or a file of the kernel


class _Text:
    """The bytes of a log become blocks of lines."""

    def __init__(self, name: str) -> None:
        self.number = 1  # of the next line
        self._name = name
        self._begun = False
        self._rest = b""
        self._gap = False
        self._encoding: str | None = None
        self._decoder: codecs.IncrementalDecoder | None = None

    def take(self, data: bytes) -> Iterator[Block]:
        """Yield the lines that more bytes complete.

        Raises:
            FileError: they are the first, and not of a text.
        """
        if not self._begun:
            self._begun = True
            self._encoding = _encoding(data, self._name)
            self._decode_anew()
            if self._encoding is not None and data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                data = data[2:]
        if self._decoder is not None:
            data = self._decoder.decode(data).encode("utf-8", "replace")
        whole, newline, self._rest = (self._rest + data).rpartition(b"\n")
        if newline:
            yield self._block(whole + newline)
            self.number += whole.count(b"\n") + 1
        elif len(self._rest) >= 16 * BLOCK:  # a line without an end
            yield from self._flushed()

    def end(self) -> Iterator[Block]:
        """Yield what is after the last newline."""
        if self._decoder is not None:
            self._rest += self._decoder.decode(b"", final=True).encode("utf-8", "replace")
        yield from self._flushed()

    def skip(self, lines: int) -> Iterator[Block]:
        """Yield what is before a gap in which some lines end."""
        found = [*self.end()]
        self._decode_anew()
        self.number += lines
        self._gap = True
        return iter(found)

    def counter(self) -> Callable[[bytes], int]:
        """Return what counts the lines that end in a sequence of bytes."""
        if self._encoding is None:
            return lambda data: data.count(b"\n")
        decoder = codecs.getincrementaldecoder(self._encoding)("replace")
        return lambda data: decoder.decode(data).count("\n")

    def _decode_anew(self) -> None:
        if self._encoding is not None:
            self._decoder = codecs.getincrementaldecoder(self._encoding)("replace")

    def _flushed(self) -> Iterator[Block]:
        rest, self._rest = self._rest, b""
        if rest:
            yield self._block(rest + b"\n")

    def _block(self, data: bytes) -> Block:
        gap, self._gap = self._gap, False
        return Block(_clean(data), self.number, gap)


def _encoding(data: bytes, name: str) -> str | None:
    """Return the encoding of a log if it is UTF-16.

    Raises:
        FileError: it is not a text.
    """
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if data.startswith(mark):
            return encoding
    sample = data[:_SAMPLE]
    for magic, what in _MAGIC.items():
        if sample.startswith(magic):
            hint = (
                "Decompress it first."
                if what.startswith("compressed")
                else "Name the log of a build or a run."
            )
            raise FileError(f"{name}: not a log: it is {what}.", hint=hint)
    zeros = sample.count(0)
    if zeros * 5 > len(sample) * 2:
        if sample[1::2].count(0) * 10 > len(sample) * 4 > sample[::2].count(0) * 40:
            return "utf-16-le"
        if sample[::2].count(0) * 10 > len(sample) * 4 > sample[1::2].count(0) * 40:
            return "utf-16-be"
    controls = len(sample) - len(sample.translate(None, _CONTROL))
    if controls * 20 > len(sample):
        raise FileError(f"{name}: not a log: it is binary.", hint="Name the log of a build or a run.")
    return None


def _clean(data: bytes) -> bytes:
    """Remove terminal sequences and carriage returns."""
    if b"\x1b" in data:
        data = _ESCAPES.sub(b"", data)
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", SEPARATOR)
    return data


def without_prefix(text: str) -> str:
    """Remove the time stamps and names that build services and tools write before a line."""
    found = _PREFIX.match(text)
    return text[found.end() :] if found else text
