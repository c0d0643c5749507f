"""Opening what may be a library, as the loader does: what it passes over, what it stops at, what it takes."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from torchlink.binary.data import unreadable
from torchlink.binary.elf import ElfFile
from torchlink.errors import FileError, MalformedFileError
from torchlink.status import file_kind, not_about_the_file

if TYPE_CHECKING:
    from pathlib import Path

MOST_OPEN = 200


class OpenFiles:
    """ELF files kept open, so that many closures over the same libraries read each header once.

    Only the latest ones are kept, because each holds a file descriptor; a closure holds its own.
    """

    def __init__(self) -> None:
        self._files: dict[tuple[int, int, int, int], ElfFile] = {}

    def open(self, path: Path) -> tuple[ElfFile, os.stat_result]:
        """The open file at `path` and its status; errors are those of `ElfFile.open`."""
        try:
            status = path.stat()
        except (OSError, ValueError) as error:
            raise unreadable(path, error) from error
        return self.get(str(path), status), status

    def get(self, path: str, status: os.stat_result) -> ElfFile:
        """The open file at `path`, whose status the caller has; errors are those of `ElfFile.open`."""
        key = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
        elf = self._files.pop(key, None) or ElfFile.open(path)
        self._files[key] = elf
        if len(self._files) > MOST_OPEN:
            del self._files[next(iter(self._files))]
        return elf


class Verdict(NamedTuple):
    """What opening a candidate gave: a file or a reason; with `fatal` the loader gives up."""

    elf: ElfFile | None
    status: os.stat_result | None
    reason: str = ""
    fatal: bool = False
    odd: bool = False  # an error at which glibc leaves the rest of a list of directories out


def check_binary(path: str, machine: str | None, files: OpenFiles) -> Verdict:
    """Open a candidate.

    Args:
        path: on this machine.
        machine: the program's; a file for another one is passed over. None: taken as musl does, which does
            not look.
        files: where open files are kept.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - hot
    except (FileNotFoundError, NotADirectoryError):
        return Verdict(None, None, "not there")
    except PermissionError:
        return Verdict(None, None, "may not be read")
    except (OSError, ValueError) as error:
        not_about_the_file(path, error)
        return Verdict(None, None, str(getattr(error, "strerror", None) or error), odd=True)
    if not stat.S_ISREG(status.st_mode):
        return Verdict(None, status, f"is {file_kind(status.st_mode)}", fatal=True)
    try:
        elf = files.get(path, status)
        dynamic = elf.dynamic
    except MalformedFileError:
        return Verdict(None, status, "is not an ELF file, or a damaged one", fatal=True)
    except FileError:
        return Verdict(None, status, "may not be read")
    if machine is None:
        return Verdict(elf, status)
    if elf.machine != machine:
        return Verdict(None, status, f"is for {elf.machine}")
    if elf.type != "dyn" or (dynamic.is_pie and elf.interpreter):
        return Verdict(None, status, "is not a shared library", fatal=True)
    return Verdict(elf, status)
