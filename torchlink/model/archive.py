"""PyTorch's zip archives: which entries they have, and where an entry's bytes lie in the file."""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchlink.errors import FileError, MalformedFileError

if TYPE_CHECKING:
    from pathlib import Path

LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of the name and of the extra field
READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
DAMAGE = (OSError, EOFError, ValueError, KeyError, RuntimeError, zlib.error, zipfile.BadZipFile)
LARGEST_RECORD = 64 << 20  # bytes that are ever read of one entry


@dataclass(frozen=True, slots=True)
class Entry:
    """One file inside the archive; `name` is without the archive's own top directory."""

    name: str
    size: int
    method: int  # of compression: 0 stored, 8 deflated
    header_offset: int


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip archive's table of contents."""

    path: Path
    root: str  # the one directory that holds everything (`model/`), or ""
    entries: dict[str, Entry]

    def read(self, name: str) -> bytes:
        """An entry's content.

        Raises:
            MalformedFileError: there is no such entry, it is damaged, or larger than `LARGEST_RECORD`.
        """
        entry = self.entries.get(name)
        if entry is None or entry.size > LARGEST_RECORD or entry.method not in READABLE:
            raise MalformedFileError(f"{self.path} has no entry {name} that can be read.")
        try:
            with zipfile.ZipFile(self.path) as archive:
                return archive.read(self.root + name)
        except (
            OSError,
            EOFError,
            ValueError,
            KeyError,
            RuntimeError,
            zlib.error,
            zipfile.BadZipFile,
        ) as error:
            raise MalformedFileError(f"{self.path}: the entry {name} is damaged.") from error

    def damaged(self) -> str | None:
        """The first entry up to `LARGEST_RECORD` whose bytes are not those of its checksum; None where all are."""
        name = None
        try:
            with zipfile.ZipFile(self.path) as archive:
                for name, entry in self.entries.items():
                    if entry.size <= LARGEST_RECORD and entry.method in READABLE:
                        archive.read(self.root + name)
        except DAMAGE:
            return name
        return None

    def offset(self, name: str) -> int:
        """Where the bytes of an uncompressed entry begin in the file.

        Raises:
            MalformedFileError: the entry is compressed, or its local header is damaged.
        """
        entry = self.entries[name]
        if entry.method != zipfile.ZIP_STORED:
            raise MalformedFileError(
                f"{self.path}: the entry {name} is compressed; only uncompressed ones can be read in place.",
                hint="Save it again with torch.save or numpy.save, which do not compress.",
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


def open_archive(path: Path) -> Archive | None:
    """The table of contents of a zip archive; None where the file has none (truncated, or no zip at all).

    Raises:
        FileError: the file cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except OSError as error:
        raise FileError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError, OverflowError):
        return None
    first = members[0].filename.partition("/") if members else ("", "", "")
    root = first[0] + first[1] if first[1] else ""
    if not all(member.filename.startswith(root) for member in members):
        root = ""
    entries = {
        name: Entry(name, member.file_size, member.compress_type, member.header_offset)
        for member in members
        if (name := member.filename[len(root) :])
    }
    return Archive(path, root, entries)
