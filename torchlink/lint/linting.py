"""A run of lint: finding the files below each argument, checking them, and comparing their reports.

Arguments are files, directories, wheels, and texts of `ldd` and similar tools. A library of one report may be found
through the RPATH of a program in another, see `without_found_elsewhere`.
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

STREAM = "-"  # standard input, on the command line
NOT_FOUND = "library-not-found"  # the rule
ELF_MAGIC = b"\x7fELF"
DYNAMIC_TYPES = (2, 3)  # ET_EXEC and ET_DYN: object files and core dumps have no closure
DEBUG_ONLY = ".debug"  # the suffix of what `objcopy --only-keep-debug` writes
LARGEST_WHEEL = 16 << 30  # bytes unpacked; torch's own unpack to 0.25 to 3 GiB


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
        options: what the binaries are checked against.
        rules: the rules to apply.
        root: an image or sysroot that the binaries will run in.
        standard_input: the text that `-` stands for.
        keep_going: return a report of kind "unreadable" even if the only path cannot be checked; with several
            paths, that is always done.
        torches: the libtorchs that Python extensions are checked with.

    Raises:
        FileError, MalformedFileError: there was one path, and it cannot be checked.
        UsageError: `root` is not a directory.
    """
    if root is not None and not is_dir(root):
        raise UsageError(
            f"--root: no such directory: {root}.", hint="Name the directory of an image or sysroot."
        )
    torches = torches or Torches()
    torches.check()
    run = _Run(options, tuple(rules), root, OpenFiles(), standard_input, torches)
    reports: list[FileReport] = []
    for path in paths:
        try:
            reports += run.check(path)
        except TorchlinkError as error:
            if len(paths) == 1 and not keep_going:
                raise
            reports.append(unreadable_report(str(path), error))
    if len(reports) > 1:
        return LintReport(without_found_elsewhere(reports, root))
    return LintReport(tuple(reports))


class _Run:
    """What the paths of one run share, and how each is checked."""

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

    def check(self, path: Path) -> Iterator[FileReport]:
        """Return the reports for one argument of the command line."""
        if str(path) == STREAM or path.suffix == ".txt":
            from torchlink.lint.text.tool_output import check_text, decode

            data = self.standard_input if str(path) == STREAM else read_text(path)
            text = decode(data, str(path))
            yield from check_text(
                text, str(path), self.options, rules=self.rules, files=self.files, torches=self.torches
            )
        elif is_dir(path):
            for file in elf_files(path):
                yield self.check_found(file)
        elif path.suffix == ".whl":
            with unpacked(path) as scratch:
                for file in elf_files(scratch):
                    yield relabelled(self.check_found(file), str(scratch), str(path))
        else:
            yield self.check_file(path)

    def check_file(self, file: Path) -> FileReport:
        """Return the report for an ELF file."""
        return check_binary(
            file, self.options, rules=self.rules, root=self.root, files=self.files, torches=self.torches
        )

    def check_found(self, file: Path) -> FileReport:
        """Return the report for a file that the user did not name; one that is unreadable does not end the run."""
        try:
            return self.check_file(file)
        except TorchlinkError as error:
            return unreadable_report(str(file), error)


def unreadable_report(label: str, error: TorchlinkError) -> FileReport:
    """Return the report for a file that could not be checked."""
    return FileReport(label, UNREADABLE, (), (), not_checked=(error.message,))


def read_text(path: Path) -> bytes:
    """Return the bytes of a file with the output of `ldd` or a similar tool.

    Raises:
        FileError: it cannot be read, or is not a regular file (lint does not wait for a FIFO).
    """
    from torchlink.binary.data import LARGEST_TABLE, Data

    try:
        data = Data.open(path, "text")
    except MalformedFileError:  # empty
        return b""
    try:
        if data.size > LARGEST_TABLE:
            raise FileError(
                f"{path} is neither an ELF file nor a text of less than {LARGEST_TABLE >> 20} MB.",
                hint="Name a program, a library, a wheel or a file with the output of ldd.",
            )
        return data.take(0, data.size)
    finally:
        data.close()


def elf_files(directory: Path) -> list[Path]:
    """Return the programs and shared libraries below a directory, sorted; symlinks are not followed.

    Separate debug files are left out.

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
    """Whether a path is a regular file, not a symlink, with the header of an ELF program or shared library."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        with path.open("rb") as stream:
            return has_dynamic_header(stream.read(18))
    except OSError as error:  # a file that may not be opened cannot be checked
        not_about_the_file(path, error)
        return False


def has_dynamic_header(head: bytes) -> bool:
    """Whether a file's first 18 bytes are the header of an ELF program or shared library."""
    if len(head) < 18 or head[:4] != ELF_MAGIC:
        return False
    return int.from_bytes(head[16:18], "little" if head[5] == 1 else "big") in DYNAMIC_TYPES


@contextmanager
def unpacked(wheel: Path) -> Iterator[Path]:
    """Extract the programs and libraries of a wheel to a temporary directory, laid out as when installed.

    Raises:
        FileError: it cannot be read, or holds none.
        MalformedFileError: it is not a zip file, is damaged, or claims to be larger than any wheel.
    """
    import tempfile

    with tempfile.TemporaryDirectory(prefix="torchlink-lint-") as scratch:
        unpack(wheel, Path(scratch))
        yield Path(scratch)


def unpack(wheel: Path, scratch: Path) -> None:
    """Extract the members with the header of a program or library."""
    import zipfile
    import zlib

    try:
        mode = wheel.stat().st_mode
        if not stat.S_ISREG(mode):  # opening a FIFO would wait for a writer
            raise FileError(f"{wheel} is {file_kind(mode)}, not a file.", hint="Name a wheel.")
        with zipfile.ZipFile(wheel) as archive:
            found = [each for each in archive.infolist() if has_dynamic_header(head(archive, each))]
            if sum(each.file_size for each in found) > LARGEST_WHEEL:
                refuse(wheel, "it claims to unpack to more than 16 GiB")
            for each in found:
                archive.extract(each, scratch)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
        refuse(wheel, str(error))
    except OSError as error:
        raise unreadable(wheel, error) from error
    if not found:
        raise FileError(
            f"{wheel} holds no ELF program or library.",
            hint="Name a wheel for Linux: pure Python wheels, and those for Windows and macOS, have nothing to lint.",
        )


def head(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Return the first bytes of a member."""
    if member.is_dir():
        return b""
    with archive.open(member) as stream:
        return stream.read(18)


def refuse(wheel: Path, why: str) -> NoReturn:
    """Raise the error for a damaged wheel."""
    raise MalformedFileError(f"{wheel} is not a readable wheel: {why}.", hint="Build or download it again.")


def relabelled(report: FileReport, scratch: str, wheel: str) -> FileReport:
    """Return a report in which the wheel's name replaces the directory that it was unpacked to."""

    def name(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace(scratch, wheel)
        if isinstance(value, tuple) and hasattr(value, "_make"):
            return value._make(map(name, value))
        return tuple(map(name, value)) if isinstance(value, tuple) else value

    return cast("FileReport", name(report))


def without_found_elsewhere(
    reports: Iterable[FileReport], root: Path | None = None
) -> tuple[FileReport, ...]:
    """Drop findings about libraries that are missing only if a file is loaded on its own.

    An RPATH (not a RUNPATH) is searched for everything that its owner loads, directly or not. If that owner is part of
    the same run, what its RPATH finds is not missing; a sentence in `not_checked` says so instead.

    Args:
        reports: of a whole run.
        root: the image or sysroot that paths of closures start from.
    """
    files = tuple(reports)
    if not any(each.rule == NOT_FOUND for file in files for each in file.findings):
        return files
    found_elsewhere: dict[
        str, dict[str, str]
    ] = {}  # a library's real path -> what it needs -> the file whose RPATH finds it
    for file in files:
        found = {
            entry.key: entry for entry in file.closure if entry.path and entry.found_via.startswith("RPATH ")
        }
        for entry in file.closure:
            names = {found[key].name: file.path for key in entry.needs if key in found}
            found_elsewhere.setdefault(real_path(entry.key, root), {}).update(names)
    return tuple(_without(file, found_elsewhere.get(os.path.realpath(file.path), {})) for file in files)


def real_path(path: str, root: Path | None) -> str:
    """Return the real path of an object in a closure."""
    inside = f"{root}{path}"
    # A file outside the root may be checked, and its own search path may lead to others outside.
    below = root is not None and not path.startswith(f"{root}/") and os.path.lexists(inside)
    return os.path.realpath(inside if below else path)


def _without(file: FileReport, found_elsewhere: Mapping[str, str]) -> FileReport:
    """Return a report without the missing libraries that other files find."""
    findings, sentences = [], []
    for finding in file.findings:
        names = finding.subject.split(" + ")
        if finding.rule == NOT_FOUND and all(name in found_elsewhere for name in names):
            owners = ", ".join(dict.fromkeys(found_elsewhere[name] for name in names))
            sentences.append(
                f"{', '.join(names)}: not found if {file.path} is loaded on its own; found through the RPATH of "
                f"{owners}, which loads it."
            )
        else:
            findings.append(finding)
    return file._replace(findings=tuple(findings), not_checked=(*file.not_checked, *sentences))
