"""Access to the files of a libtorch, the same for a directory and for a wheel or zip."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from torchlink.binary.elf import ElfFile
from torchlink.errors import FileError, LibtorchUnusableError, MalformedFileError
from torchlink.libtorch.disk import absolute, exists, is_dir, is_file, names_in, read_bytes, special_kind
from torchlink.shown import quoted
from torchlink.status import not_about_the_file, status_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from zipfile import ZipFile

    from torchlink.libtorch.facts import Libtorch


LONGEST_TEXT = 4 << 20  # bytes; METADATA with every licence, the largest text that is read, is far smaller
ANCHORS = frozenset({"libc10.so", "libtorch.so", "libc10.dylib", "libtorch.dylib", "c10.dll", "torch.dll"})
ZIP_START = b"PK\3\4"  # the header of the first member
LARGEST_PACKED = 64 << 20  # bytes; a larger library would take too long to unpack in memory


class Tree(Protocol):
    """Read access to one libtorch.

    Names are relative to `root` and use `/`; `""` is the root itself, and `..` may lead out of it, to what is next to
    torch. For a name that does not exist the methods return False, None or an empty tuple.
    """

    root: Path  # the directory, or the archive's own path
    packed: bool

    def path(self, name: str) -> Path:
        """The absolute path for messages and reports; below the archive's path where packed."""

    def is_file(self, name: str) -> bool:
        """Whether a file (or a link to one) has this name."""

    def is_dir(self, name: str) -> bool:
        """Whether a directory has this name."""

    def names(self, directory: str) -> tuple[str, ...]:
        """The sorted names in a directory."""

    def same_file(self, one: str, other: str) -> bool:
        """Whether two names lead to one file (links resolved)."""

    def size(self, name: str) -> int:
        """Bytes of a file, 0 if there is none."""

    def text(self, name: str) -> str | None:
        """The content of a text file, at most `LONGEST_TEXT` bytes."""

    def head(self, name: str, size: int) -> bytes:
        """The first bytes of a file."""

    def elf(self, name: str) -> ElfFile | None:
        """Open an ELF file; None if there is none or unpacking it would take too long.

        Raises:
            MalformedFileError: it is damaged.
        """


class DirectoryTree:
    """A libtorch in a directory."""

    packed = False

    def __init__(self, root: Path) -> None:
        self.root = absolute(root)
        self._base = str(self.root)
        self._listings: dict[str, tuple[str, ...]] = {}

    def _full(self, name: str) -> str:
        return f"{self._base}/{name}" if name else self._base

    def path(self, name: str) -> Path:
        """The absolute path, with `..` removed where that does not change its meaning."""
        full = self._full(name)
        if ".." not in name:
            return Path(full)
        short = os.path.normpath(full)
        try:
            same = os.path.samefile(short, full)  # noqa: PTH121 - strings: this runs at every start
        except OSError as error:
            not_about_the_file(full, error)
            same = not exists(full)  # then only messages use it
        return Path(short if same else os.path.realpath(full))

    def is_file(self, name: str) -> bool:
        """Whether a file (or a link to one) has this name."""
        return is_file(self._full(name))

    def is_dir(self, name: str) -> bool:
        """Whether a directory has this name."""
        return is_dir(self._full(name))

    def names(self, directory: str) -> tuple[str, ...]:
        """The sorted names in a directory."""
        if directory not in self._listings:
            self._listings[directory] = names_in(self._full(directory))
        return self._listings[directory]

    def same_file(self, one: str, other: str) -> bool:
        """Whether two names lead to one file."""
        return os.path.realpath(self._full(one)) == os.path.realpath(self._full(other))

    def size(self, name: str) -> int:
        """Bytes of a file, 0 if there is none."""
        status = status_of(self._full(name))
        return 0 if status is None else status.st_size

    def text(self, name: str) -> str | None:
        """The content of a text file, at most `LONGEST_TEXT` bytes."""
        content = self.head(name, LONGEST_TEXT)
        return content.decode("utf-8", "replace") if content or self.is_file(name) else None

    def head(self, name: str, size: int) -> bytes:
        """The first bytes of a file."""
        return read_bytes(self._full(name), size)

    def elf(self, name: str) -> ElfFile | None:
        """Open an ELF file; None if there is none."""
        if not self.is_file(name):
            return None
        return ElfFile.open(Path(self._full(name)))


class ArchiveTree:
    """A libtorch in a wheel or zip file, read in place: members are unpacked one at a time, in memory.

    Args:
        archive: the file.
        inside: the libtorch's root in the archive, such as `torch`, or `""` for the top; by default the directory whose
            `lib/` has a libtorch.

    Raises:
        FileError: it cannot be read.
        MalformedFileError: it is not a zip file, or its directory is damaged.
    """

    packed = True

    def __init__(self, archive: Path, inside: str | None = None) -> None:
        self.root = absolute(archive)
        self._zip = open_zip(self.root)
        self._sizes = {member.filename: member.file_size for member in self._zip.infolist()}
        self.inside = root_inside(self._sizes) if inside is None else inside

    def _member(self, name: str) -> str:
        joined = os.path.normpath(f"{self.inside}/{name}" if self.inside else name).replace(os.sep, "/")
        return "" if joined == "." else joined

    def path(self, name: str) -> Path:
        """The archive's path followed by the name inside."""
        member = self._member(name)
        return self.root / member if member else self.root

    def is_file(self, name: str) -> bool:
        """Whether a member has this name."""
        return self._member(name) in self._sizes

    def is_dir(self, name: str) -> bool:
        """Whether members are below this name."""
        below = self._member(name) + "/"
        return any(member.startswith(below) for member in self._sizes)

    def names(self, directory: str) -> tuple[str, ...]:
        """The sorted names in a directory."""
        below = self._member(directory)
        below = f"{below}/" if below else ""
        cut = len(below)
        found = {member[cut:].split("/", 1)[0] for member in self._sizes if member.startswith(below)}
        return tuple(sorted(found - {""}))

    def same_file(self, one: str, other: str) -> bool:
        """Whether two names are one member; a zip file has no links."""
        return self._member(one) == self._member(other)

    def size(self, name: str) -> int:
        """Unpacked bytes of a member, 0 if there is none."""
        return self._sizes.get(self._member(name), 0)

    def text(self, name: str) -> str | None:
        """The content of a text member, at most `LONGEST_TEXT` bytes."""
        return self.head(name, LONGEST_TEXT).decode("utf-8", "replace") if self.is_file(name) else None

    def head(self, name: str, size: int) -> bytes:
        """The first bytes of a member."""
        if not self.is_file(name):
            return b""
        import zlib
        from zipfile import BadZipFile

        try:
            with self._zip.open(self._member(name)) as member:
                return member.read(size)
        except (BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, zlib.error) as error:
            not_about_the_file(self.root, error)
            raise MalformedFileError(
                f"{self.root} is damaged or encrypted: {name} cannot be unpacked ({error}).",
                hint="Download it again.",
            ) from error

    def elf(self, name: str) -> ElfFile | None:
        """A reader of an ELF member; None if there is none or it is larger than `LARGEST_PACKED`."""
        if not 0 < self.size(name) <= LARGEST_PACKED:
            return None
        return ElfFile.from_buffer(self.head(name, LARGEST_PACKED), str(self.path(name)))


def open_zip(path: Path) -> ZipFile:
    """Open a zip file.

    Raises:
        FileError: it cannot be read.
        MalformedFileError: it is not a zip file.
    """
    from zipfile import BadZipFile, ZipFile

    kind = special_kind(path)  # opening a FIFO would wait
    if kind:
        raise FileError(f"{path} is {kind}, not a file.", hint="Name a wheel or a zip.")
    try:
        return ZipFile(path)
    except OSError as error:
        from torchlink.binary.data import unreadable  # rarely needed

        raise unreadable(path, error) from error
    except (BadZipFile, ValueError, NotImplementedError) as error:
        if read_bytes(path, len(ZIP_START)) == ZIP_START:
            raise MalformedFileError(
                f"{path} is cut off or damaged: it begins as a zip file, and the list of contents at its end is "
                "missing; download it again.",
                hint="Compare its size with the one on the download page.",
            ) from error
        raise MalformedFileError(
            f"{path} is neither a wheel nor a zip file.",
            hint="Name a libtorch's directory, a wheel or a zip.",
        ) from error


def root_inside(members: Iterable[str]) -> str:
    """Return the directory in an archive whose `lib/` has a libtorch; the shortest of several."""
    roots = []
    for member in members:
        directory, _, name = member.rpartition("/")
        if name in ANCHORS and (directory == "lib" or directory.endswith("/lib")):
            roots.append(directory[:-4])
    return min(roots, key=lambda root: (root.count("/"), len(root)), default="")


def check_unpacked(libtorch: Libtorch) -> None:
    """Refuse a libtorch that is not extracted: a build needs its files.

    Raises:
        LibtorchUnusableError: it is an archive.
    """
    if libtorch.packed:
        raise LibtorchUnusableError(
            f"{libtorch.root} is not extracted: compiler, linker and loader need files.",
            hint=f"Unpack it (torchlink extract {quoted(str(libtorch.root))} DIR) and use --libtorch DIR.",
        )
