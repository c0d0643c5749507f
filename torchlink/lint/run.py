"""A whole run: everything that was named, checked, and what could not be looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from torchlink.binary.opening import OpenFiles
from torchlink.errors import TorchlinkError, UsageError
from torchlink.lint.checking import check_binary
from torchlink.lint.finding import UNREADABLE, FileReport, LintReport
from torchlink.lint.rules import RULES
from torchlink.lint.torches import Torches
from torchlink.status import is_dir

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from torchlink.lint.context import LintOptions
    from torchlink.lint.rule import Rule

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
            reports.append(unreadable(str(path), error))
    if len(reports) > 1:
        from torchlink.lint.together import together

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
            from torchlink.lint.text_formats.detect import decode
            from torchlink.lint.texts import check_text

            data = self.standard_input if str(path) == STREAM else read_text(path)
            text = decode(data, str(path))
            yield from check_text(
                text, str(path), self.options, rules=self.rules, files=self.files, torches=self.torches
            )
        elif is_dir(path):
            from torchlink.lint.inputs import elf_files

            for file in elf_files(path):
                yield self.found(file)
        elif path.suffix == ".whl":
            from torchlink.lint.inputs import elf_files, unpacked

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
            return unreadable(str(file), error)


def relabelled(report: FileReport, scratch: str, wheel: str) -> FileReport:
    """The report with a wheel's own name for the directory that it was unpacked to."""

    def name(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace(scratch, wheel)
        if isinstance(value, tuple) and hasattr(value, "_make"):
            return value._make(map(name, value))
        return tuple(map(name, value)) if isinstance(value, tuple) else value

    return cast("FileReport", name(report))


def unreadable(label: str, error: TorchlinkError) -> FileReport:
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
