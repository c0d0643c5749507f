"""A whole run: everything that was named, judged, and what could not be looked at."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.binary.loader import OpenFiles
from torchlink.errors import FileError, TorchlinkError
from torchlink.lint.finding import FileReport, LintReport
from torchlink.lint.inputs import Subject, subjects
from torchlink.lint.judge import judge
from torchlink.lint.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torchlink.lint.case import Wanted
    from torchlink.lint.rule import Rule

UNREADABLE = "unreadable"


def lint(
    paths: Sequence[Path],
    wanted: Wanted | None = None,
    *,
    rules: Iterable[Rule] = RULES,
    root: Path | None = None,
    standard_input: str = "",
) -> LintReport:
    """Judge files, directories, wheels and texts; nothing is run.

    Args:
        paths: what to judge; `-` or a `.txt` file is the text of `ldd`, `lddtree` or `readelf -d`.
        wanted: what it is judged against.
        rules: the rules to apply.
        root: an image or sysroot that the binaries will run in.
        standard_input: what stands for `-`.

    A file of several that cannot be judged becomes a report of kind "unreadable".

    Raises:
        FileError, MalformedFileError: there was one path, and it cannot be judged.
    """
    files = OpenFiles()
    chosen = tuple(rules)
    reports: list[FileReport] = []
    for path in paths:
        try:
            reports += lint_one(path, wanted, chosen, root=root, files=files, standard_input=standard_input)
        except TorchlinkError as error:
            if len(paths) == 1:
                raise
            reports.append(unreadable(str(path), error))
    return LintReport(tuple(reports))


def lint_one(
    path: Path,
    wanted: Wanted | None,
    rules: Sequence[Rule],
    *,
    root: Path | None,
    files: OpenFiles,
    standard_input: str,
) -> list[FileReport]:
    """The reports for one word of the command line."""
    if str(path) == "-" or path.suffix == ".txt":
        from torchlink.lint.texts import judge_text

        text = standard_input if str(path) == "-" else read_text(path)
        return list(judge_text(text, str(path), wanted, rules=rules))
    with tempfile.TemporaryDirectory(prefix="torchlink-lint-") as scratch:
        return [judged(subject, wanted, rules, root, files) for subject in subjects(path, Path(scratch))]


def judged(
    subject: Subject, wanted: Wanted | None, rules: Sequence[Rule], root: Path | None, files: OpenFiles
) -> FileReport:
    """The report for one file; one that was found in a directory or wheel may be unreadable."""
    try:
        report = judge(subject.file, wanted, rules=rules, root=root, files=files)
    except TorchlinkError as error:
        if subject.named:
            raise
        return unreadable(subject.label, error)
    return replace(report, path=subject.label)


def unreadable(label: str, error: TorchlinkError) -> FileReport:
    """The report for a file that could not be judged."""
    return FileReport(label, UNREADABLE, (), (), not_judged=(error.message,))


def read_text(path: Path) -> str:
    """The text of a file of `ldd` output.

    Raises:
        FileError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise FileError(f"Cannot read {path}: {error.strerror}.", hint="Name a file that exists.") from error
