"""What the command line names: ELF files, directories and wheels, turned into files to judge."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.errors import FileError, MalformedFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

ELF_MAGIC = b"\x7fELF"
DYNAMIC_TYPES = (2, 3)  # ET_EXEC and ET_DYN: object files and core dumps have no closure
LARGEST_WHEEL = 16 << 30  # bytes unpacked; torch's own is a quarter of one GiB to three


@dataclass(frozen=True, slots=True)
class Subject:
    """One file to judge."""

    label: str  # as reports call it: a path, or `x.whl/torch/lib/libc10.so`
    file: Path
    named: bool  # the user named this very file, so that it cannot be judged is an error


def subjects(path: Path, scratch: Path) -> Iterator[Subject]:
    """The files that one word of the command line stands for.

    Args:
        path: a file, a directory (every program and library below it) or a wheel.
        scratch: an empty directory for what a wheel holds; its caller removes it.

    Raises:
        FileError: there is no such file, or a directory or wheel holds nothing to judge.
        MalformedFileError: a wheel is no zip file.
    """
    if path.is_dir():
        found = [Subject(str(each), each, named=False) for each in elf_files(path)]
        if not found:
            raise FileError(
                f"{path} holds no ELF program or library.", hint="Name a file, or another directory."
            )
        yield from found
    elif path.suffix == ".whl":
        yield from wheel(path, scratch)
    else:
        yield Subject(str(path), path, named=True)


def elf_files(directory: Path) -> Iterator[Path]:
    """Programs and shared libraries below a directory, sorted; symlinks are not followed."""
    for parent, directories, names in os.walk(directory):
        directories.sort()
        for name in sorted(names):
            path = Path(parent, name)
            try:
                if path.is_file() and not path.is_symlink() and is_dynamic(path):
                    yield path
            except OSError:  # not for us to read: what may not be opened cannot be judged
                continue


def is_dynamic(path: Path) -> bool:
    """Whether a file begins like an ELF program or shared library."""
    with path.open("rb") as stream:
        return begins_dynamic(stream.read(18))


def begins_dynamic(head: bytes) -> bool:
    """The same for a file's first 18 bytes."""
    if len(head) < 18 or head[:4] != ELF_MAGIC:
        return False
    return int.from_bytes(head[16:18], "little" if head[5] == 1 else "big") in DYNAMIC_TYPES


def wheel(path: Path, scratch: Path) -> Iterator[Subject]:
    """The programs and libraries in a wheel, laid out in `scratch` as an installation would."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [each for each in archive.infolist() if not each.is_dir()]
            if sum(each.file_size for each in members) > LARGEST_WHEEL:
                raise MalformedFileError(f"{path} claims to unpack to more than 16 GiB.")
            found = []
            for member in members:
                with archive.open(member) as stream:
                    if not begins_dynamic(stream.read(18)):
                        continue
                found.append(
                    Subject(f"{path}/{member.filename}", Path(archive.extract(member, scratch)), named=False)
                )
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise MalformedFileError(
            f"{path} is no readable wheel: {error}.", hint="Build or download it again."
        ) from error
    except OSError as error:
        raise FileError(f"Cannot read {path}: {error.strerror or error}.") from error
    if not found:
        raise FileError(f"{path} holds no ELF program or library.", hint="A pure Python wheel needs no lint.")
    yield from found
