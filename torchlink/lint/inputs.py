"""Directories and wheels, turned into the ELF files to check in them."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from torchlink.binary.data import unreadable
from torchlink.errors import FileError, MalformedFileError
from torchlink.status import file_kind, not_about_the_file

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Iterator

ELF_MAGIC = b"\x7fELF"
DYNAMIC_TYPES = (2, 3)  # ET_EXEC and ET_DYN: object files and core dumps have no closure
DEBUG_ONLY = ".debug"  # what `objcopy --only-keep-debug` takes out of a binary is called so
LARGEST_WHEEL = 16 << 30  # bytes unpacked; torch's own is a quarter of one GiB to three


def elf_files(directory: Path) -> list[Path]:
    """Programs and shared libraries below a directory, sorted; symlinks are not followed.

    Their debug information in files of its own is left out.

    Raises:
        FileError: it may not be read, or holds none.
    """

    def failed(error: OSError) -> None:
        if error.filename == str(directory):
            raise unreadable(directory, error) from error
        not_about_the_file(error.filename, error)

    found = []
    for parent, directories, names in os.walk(directory, onerror=failed):
        directories.sort()
        found += [
            path
            for name in sorted(names)
            if not name.endswith(DEBUG_ONLY) and is_dynamic(path := Path(parent, name))
        ]
    if not found:
        raise FileError(
            f"{directory} holds no ELF program or library.", hint="Name a file, or another directory."
        )
    return found


def is_dynamic(path: Path) -> bool:
    """Whether a path is a file, no symlink, that begins like an ELF program or shared library."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        with path.open("rb") as stream:
            return begins_dynamic(stream.read(18))
    except OSError as error:  # not for us to read: what may not be opened cannot be checked
        not_about_the_file(path, error)
        return False


def begins_dynamic(head: bytes) -> bool:
    """The same for a file's first 18 bytes."""
    if len(head) < 18 or head[:4] != ELF_MAGIC:
        return False
    return int.from_bytes(head[16:18], "little" if head[5] == 1 else "big") in DYNAMIC_TYPES


@contextmanager
def unpacked(wheel: Path) -> Iterator[Path]:
    """A temporary directory with the programs and libraries of a wheel, laid out as an installation would.

    Raises:
        FileError: it cannot be read, or holds none.
        MalformedFileError: it is no zip file, is damaged, or claims to be larger than any wheel.
    """
    import tempfile

    with tempfile.TemporaryDirectory(prefix="torchlink-lint-") as scratch:
        unpack(wheel, Path(scratch))
        yield Path(scratch)


def unpack(wheel: Path, scratch: Path) -> None:
    """Extract what begins like a program or library."""
    import zipfile
    import zlib

    try:
        mode = wheel.stat().st_mode
        if not stat.S_ISREG(mode):  # opening a FIFO would wait for a writer
            raise FileError(f"{wheel} is {file_kind(mode)}, not a file.", hint="Name a wheel.")
        with zipfile.ZipFile(wheel) as archive:
            found = [each for each in archive.infolist() if begins_dynamic(head(archive, each))]
            if sum(each.file_size for each in found) > LARGEST_WHEEL:
                damaged(wheel, "it claims to unpack to more than 16 GiB")
            for each in found:
                archive.extract(each, scratch)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
        damaged(wheel, str(error))
    except OSError as error:
        raise unreadable(wheel, error) from error
    if not found:
        raise FileError(
            f"{wheel} holds no ELF program or library.",
            hint="Wheels of pure Python, and those for Windows and macOS, have nothing to lint.",
        )


def head(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The first bytes of a member."""
    if member.is_dir():
        return b""
    with archive.open(member) as stream:
        return stream.read(18)


def damaged(wheel: Path, why: str) -> NoReturn:
    """Refuse a wheel."""
    raise MalformedFileError(f"{wheel} is no readable wheel: {why}.", hint="Build or download it again.")
