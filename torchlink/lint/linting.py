"""Binaries that are checked together: what a library lacks by itself, the one that brings it may find for it.

An RPATH (not a RUNPATH) serves everything that is loaded because of its owner. Where that owner is checked in the
same run, a library that relies on it is no defect of what is shipped.

Directories and wheels, turned into the ELF files to check in them.

A whole run: everything that was named, checked, and what could not be looked at.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from torchlink.binary.data import unreadable
from torchlink.binary.loader import OpenFiles
from torchlink.errors import FileError, MalformedFileError, TorchlinkError, UsageError
from torchlink.lint.checking import check_binary
from torchlink.lint.finding import UNREADABLE, FileReport, LintReport
from torchlink.lint.importing import Torches
from torchlink.lint.rules import RULES
from torchlink.status import file_kind, is_dir, not_about_the_file

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torchlink.lint.context import LintOptions
    from torchlink.lint.finding import Rule


NOT_FOUND = "library-not-found"


def together(reports: Iterable[FileReport], root: Path | None = None) -> tuple[FileReport, ...]:
    """The reports without what is only missing where a library is loaded by itself; that is said instead.

    Args:
        reports: of a whole run.
        root: the image or sysroot that paths of closures start from.
    """
    files = tuple(reports)
    if not any(each.rule == NOT_FOUND for file in files for each in file.findings):
        return files
    served: dict[str, dict[str, str]] = {}  # a library's real path -> what it needs -> who finds that for it
    for file in files:
        found = {
            entry.key: entry for entry in file.closure if entry.path and entry.found_via.startswith("RPATH ")
        }
        for entry in file.closure:
            names = {found[key].name: file.path for key in entry.needs if key in found}
            served.setdefault(real(entry.key, root), {}).update(names)
    return tuple(_without(file, served.get(os.path.realpath(file.path), {})) for file in files)


def real(path: str, root: Path | None) -> str:
    """The real path of an object that a closure names."""
    inside = f"{root}{path}"
    # What is checked may lie outside of the root, and then so does what its own search path leads to.
    below = root is not None and not path.startswith(f"{root}/") and os.path.lexists(inside)
    return os.path.realpath(inside if below else path)


def _without(file: FileReport, served: Mapping[str, str]) -> FileReport:
    """One report less the missing libraries that others find."""
    left, sentences = [], []
    for finding in file.findings:
        names = finding.subject.split(" + ")
        if finding.rule == NOT_FOUND and all(name in served for name in names):
            owners = ", ".join(dict.fromkeys(served[name] for name in names))
            sentences.append(
                f"{', '.join(names)}: not found where {file.path} is loaded by itself; {owners}, which brings it, has "
                "an RPATH that serves it."
            )
        else:
            left.append(finding)
    return file._replace(findings=tuple(left), not_checked=(*file.not_checked, *sentences))


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


STREAM = "-"  # what the command line calls standard input


def lint(
    paths: Sequence[Path],
    options: LintOptions | None = None,
    *,
    rules: Iterable[Rule] = RULES,
    root: Path | None = None,
    standard_input: bytes = b"",
    keep_going: bool = False,
    torches: Torches | None = None,
) -> LintReport:
    """Check files, directories, wheels and texts; nothing is run.

    Args:
        paths: what to check; `-` or a `.txt` file is the text of `ldd`, `lddtree` or `readelf -d`.
        options: what it is checked against.
        rules: the rules to apply.
        root: an image or sysroot that the binaries will run in.
        standard_input: what stands for `-`.
        keep_going: a report of kind "unreadable" stands for a path that cannot be checked, even if it is the
            only one; of several it always does.
        torches: the libtorchs that Python extensions are checked with.

    Raises:
        FileError, MalformedFileError: there was one path, and it cannot be checked.
        UsageError: `root` is no directory.
    """
    if root is not None and not is_dir(root):
        raise UsageError(
            f"The root {root} is no such directory.", hint="Name the image's or sysroot's directory."
        )
    torches = torches or Torches()
    torches.check()
    job = _Job(options, tuple(rules), root, OpenFiles(), standard_input, torches)
    reports: list[FileReport] = []
    for path in paths:
        try:
            reports += job.check_binary(path)
        except TorchlinkError as error:
            if len(paths) == 1 and not keep_going:
                raise
            reports.append(unreadable_report(str(path), error))
    if len(reports) > 1:
        return LintReport(together(reports, root))
    return LintReport(tuple(reports))


class _Job:
    """What holds for every path of one run."""

    def __init__(
        self,
        options: LintOptions | None,
        rules: Sequence[Rule],
        root: Path | None,
        files: OpenFiles,
        standard_input: bytes,
        torches: Torches,
    ) -> None:
        self.options = options
        self.rules = rules
        self.root = root
        self.files = files
        self.standard_input = standard_input
        self.torches = torches

    def check_binary(self, path: Path) -> Iterator[FileReport]:
        """The reports for one word of the command line."""
        if str(path) == STREAM or path.suffix == ".txt":
            from torchlink.lint.text.detect import decode
            from torchlink.lint.text.texts import check_text

            data = self.standard_input if str(path) == STREAM else read_text(path)
            text = decode(data, str(path))
            yield from check_text(
                text, str(path), self.options, rules=self.rules, files=self.files, torches=self.torches
            )
        elif is_dir(path):
            for file in elf_files(path):
                yield self.found(file)
        elif path.suffix == ".whl":
            with unpacked(path) as scratch:
                for file in elf_files(scratch):
                    yield relabelled(self.found(file), str(scratch), str(path))
        else:
            yield self.one(path)

    def one(self, file: Path) -> FileReport:
        """The report for an ELF file."""
        return check_binary(
            file, self.options, rules=self.rules, root=self.root, files=self.files, torches=self.torches
        )

    def found(self, file: Path) -> FileReport:
        """The report for a file that the user did not name himself; it may be unreadable."""
        try:
            return self.one(file)
        except TorchlinkError as error:
            return unreadable_report(str(file), error)


def relabelled(report: FileReport, scratch: str, wheel: str) -> FileReport:
    """The report with a wheel's own name for the directory that it was unpacked to."""

    def name(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace(scratch, wheel)
        if isinstance(value, tuple) and hasattr(value, "_make"):
            return value._make(map(name, value))
        return tuple(map(name, value)) if isinstance(value, tuple) else value

    return cast("FileReport", name(report))


def unreadable_report(label: str, error: TorchlinkError) -> FileReport:
    """The report for a file that could not be checked."""
    return FileReport(label, UNREADABLE, (), (), not_checked=(error.message,))


def read_text(path: Path) -> bytes:
    """The bytes of a file of `ldd` output.

    Raises:
        FileError: it cannot be read, or is no regular file (a FIFO is not waited for).
    """
    from torchlink.binary.data import LARGEST_TABLE, Data
    from torchlink.errors import FileError, MalformedFileError

    try:
        data = Data.open(path, "text")
    except MalformedFileError:  # empty
        return b""
    try:
        if data.size > LARGEST_TABLE:
            raise FileError(
                f"{path} is neither an ELF file nor a text of less than {LARGEST_TABLE >> 20} MB.",
                hint="Name a program, a library, a wheel or what a tool has printed.",
            )
        return data.take(0, data.size)
    finally:
        data.close()
