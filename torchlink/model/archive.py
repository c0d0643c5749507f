"""PyTorch's zip archives: which entries they have, and where an entry's bytes are in the file."""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchlink.errors import FileError, MalformedFileError
from torchlink.status import not_about_the_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of the name and of the extra field
ENCRYPTED = 1  # the flag of an entry
READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
DAMAGE = (OSError, EOFError, ValueError, KeyError, RuntimeError, zlib.error, zipfile.BadZipFile)
PIECE = 1 << 20  # bytes
MOST_UNPACKED = 128 << 20  # bytes of all entries together, more than the file itself has
LARGEST_CONTENTS = (
    8 << 20
)  # bytes of the table of contents: 100,000 entries, which take 700 bytes of memory each
END_SEARCHED = (1 << 16) + 200  # bytes at the end: the longest comment, and the record before it
LARGEST_RECORD = 64 << 20  # bytes that are ever read of one entry


@dataclass(frozen=True, slots=True)
class Member:
    """One file inside the archive; `name` is without the archive's own top directory."""

    name: str
    size: int
    method: int  # of compression: 0 stored, 8 deflated
    header_offset: int
    crc: int | None = None  # the checksum of its bytes; None where they are encrypted


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip archive's table of contents."""

    path: Path
    root: str  # the one directory that holds everything (`model/`), or ""
    entries: dict[str, Member]

    def read(self, name: str, most: int = LARGEST_RECORD) -> bytes:
        """An entry's content.

        Raises:
            MalformedFileError: there is no such entry, it is damaged, or larger than `most` bytes.
        """
        entry = self.entries.get(name)
        if entry is not None and entry.size > most:
            raise MalformedFileError(
                f"{self.path}: the entry {name} is too large to read ({entry.size >> 20} MB)."
            )
        if entry is None or entry.method not in READABLE:
            raise MalformedFileError(f"{self.path} has no entry {name} that can be read.")
        if entry.method == zipfile.ZIP_STORED and entry.crc is not None:
            return self._stored(entry, entry.crc)
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.root + name) as file:
                return file.read(entry.size)  # without a size it would unpack more than the entry says
        except DAMAGE as error:
            not_about_the_file(self.path, error)
            raise MalformedFileError(f"{self.path}: the entry {name} is damaged.") from error

    def _stored(self, entry: Member, crc: int) -> bytes:
        """The bytes of an entry that is not compressed; `zipfile` would read the table of contents again.

        Raises:
            MalformedFileError: it is damaged.
        """
        try:
            start = self.offset(entry.name)
            with self.path.open("rb") as file:
                file.seek(start)
                content = file.read(entry.size)
        except DAMAGE as error:
            not_about_the_file(self.path, error)
            raise MalformedFileError(f"{self.path}: the entry {entry.name} is damaged.") from error
        if zlib.crc32(content) != crc:
            raise MalformedFileError(f"{self.path}: the entry {entry.name} is damaged.")
        return content

    def damaged(self) -> str | None:
        """The first entry up to `LARGEST_RECORD` whose bytes are not those of its checksum; None if all are."""
        name = None
        try:
            with zipfile.ZipFile(self.path) as archive:
                left = self.path.stat().st_size + MOST_UNPACKED
                for name, entry in self.entries.items():
                    left -= entry.size
                    if left < 0:  # entries that overlap or unpack to a thousand times their size
                        return None
                    if entry.size <= LARGEST_RECORD and entry.method in READABLE:
                        for _ in _pieces(archive, self.root + name):
                            pass
        except DAMAGE as error:
            not_about_the_file(self.path, error)
            return name
        return None

    def contains(self, directory: str, text: bytes) -> bool:
        """Whether an entry below a directory contains a text.

        Raises:
            MalformedFileError: one is damaged, or they are larger than `MOST_UNPACKED` in all.
        """
        names = [name for name in self.entries if name.startswith(directory) and name.endswith(".py")]
        if sum(self.entries[name].size for name in names) > MOST_UNPACKED:
            raise MalformedFileError(f"{self.path}: the contents of {directory} are too large to read.")
        try:
            with zipfile.ZipFile(self.path) as archive:
                for name in names:
                    before = b""
                    for piece in _pieces(archive, self.root + name):
                        if text in before + piece:
                            return True
                        before = piece[-len(text) :]
        except DAMAGE as error:
            not_about_the_file(self.path, error)
            raise MalformedFileError(f"{self.path}: {directory} is damaged.") from error
        return False

    def offset(self, name: str) -> int:
        """Where the bytes of an uncompressed entry begin in the file.

        Raises:
            MalformedFileError: the entry is compressed, or its local header is damaged.
        """
        entry = self.entries[name]
        if entry.method != zipfile.ZIP_STORED:
            raise MalformedFileError(
                f"{self.path}: the entry {name} is compressed; only uncompressed ones can be read in place.",
                hint=f"Save it again with {'numpy.savez' if name.endswith('.npy') else 'torch.save'}, which does not "
                "compress.",
            )
        with self.path.open("rb") as file:
            file.seek(entry.header_offset)
            header = file.read(LOCAL_HEADER.size)
            end = file.seek(0, 2)
        if len(header) < LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
            raise MalformedFileError(f"{self.path}: the entry {name} is damaged.")
        _, name_length, extra_length = LOCAL_HEADER.unpack(header)
        start = entry.header_offset + LOCAL_HEADER.size + int(name_length) + int(extra_length)
        if start + entry.size > end:
            raise MalformedFileError(f"{self.path} is cut short inside the entry {name}.")
        return start


def _pieces(archive: zipfile.ZipFile, name: str) -> Iterator[bytes]:
    """An entry's bytes, checked at its end."""
    with archive.open(name) as file:
        while piece := file.read(PIECE):
            yield piece


def _contents_size(path: Path) -> int:
    """The size of the table of contents according to the archive; 0 if there is none."""
    with path.open("rb") as file:
        file.seek(max(file.seek(0, 2) - END_SEARCHED, 0))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    large = tail.rfind(b"PK\x06\x06", 0, max(at, 0))
    if at < 0 or len(tail) < at + 16:
        return 0
    size = int.from_bytes(tail[at + 12 : at + 16], "little")
    return (
        int.from_bytes(tail[large + 40 : large + 48], "little") if size == 0xFFFFFFFF and large >= 0 else size
    )


def open_archive(path: Path) -> Archive | None:
    """The table of contents of a zip archive; None if the file has none (truncated, or not a zip file).

    Raises:
        FileError: the file cannot be read.
        MalformedFileError: it has too many entries.
    """
    try:
        if _contents_size(path) > LARGEST_CONTENTS:
            raise MalformedFileError(f"{path} is a zip archive with too many entries.")
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except OSError as error:
        not_about_the_file(path, error)
        raise FileError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError, OverflowError):
        return None
    first = members[0].filename.partition("/") if members else ("", "", "")
    root = first[0] + first[1] if first[1] else ""
    if not all(member.filename.startswith(root) for member in members):
        root = ""
    entries = {
        name: Member(
            name,
            member.file_size,
            member.compress_type,
            member.header_offset,
            None if member.flag_bits & ENCRYPTED else member.CRC,
        )
        for member in members
        if (name := member.filename[len(root) :])
    }
    return Archive(path, root, entries)
