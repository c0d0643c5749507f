"""What programs read of a verification: one JSON object, JSON lines as the models are done, JUnit XML, annotations."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, TYPE_CHECKING

from torchlink.cli.output import answer, flush, note

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from torchlink.cli.verify import VerifyArguments
    from torchlink.libtorch.facts import Libtorch
    from torchlink.lint.finding import Finding
    from torchlink.verify.result import ModelResult, VerifyReport
    from torchlink.verify.tasks import ModelTask


class ReportOutput:
    """The outputs of a run in addition to the text for people, as the command line requests them.

    Args:
        arguments: the command line.
        tasks: the models.
        libtorch: what they are verified with.

    Raises:
        FileError: a file cannot be read or written.
    """

    def __init__(self, arguments: VerifyArguments, tasks: Sequence[ModelTask], libtorch: Libtorch) -> None:
        self._arguments = arguments
        self._tasks = tasks
        self._libtorch = libtorch
        self._lines: IO[bytes] | None = None
        self._headed = False
        self.silent = arguments.json or arguments.jsonl == "-"
        self.known: Mapping[int, ModelResult] = (
            {} if arguments.resume is None else self._resumed(arguments.resume)
        )
        self._recording = arguments.jsonl is not None or arguments.resume is not None
        self._appending = arguments.resume is not None and (
            arguments.jsonl is None or _is_same(arguments.resume, arguments.jsonl)
        )

    def __enter__(self) -> Self:
        if self._recording and self._arguments.jsonl != "-":
            path = Path(self._arguments.jsonl or str(self._arguments.resume))
            self._lines = _opened(path, append=self._appending)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lines is not None:
            self._lines.close()

    def add(self, number: int, model: ModelResult, report: VerifyReport) -> None:
        """A model is done."""
        if not self._recording or (self._appending and number in self.known):
            return
        from torchlink.report import verify_records as records

        if not self._headed:
            self._headed = True
            self._write(records.begin(report, len(self._tasks)))
        self._write(records.model(number, model, records.identity_of(self._tasks[number], self._libtorch)))

    def finish(self, report: VerifyReport, findings: Sequence[Finding] | None) -> None:
        """All are done, or none will be any more.

        Raises:
            FileError: the JUnit file or the page cannot be written.
        """
        arguments = self._arguments
        if self._recording and self._headed:
            from torchlink.report import verify_records as records

            self._write(records.end(report))
        if arguments.json:
            from json import dumps

            from torchlink.report.verify import to_json

            answer(dumps(to_json(report, findings), indent=2))
        if arguments.junit is not None:
            write_junit(arguments.junit, report.models, report.libtorch.version)
        if arguments.html is not None:
            write_page(arguments.html, report)
        if arguments.github:
            from torchlink.cli.lint_output import append_summary, root_of_checkout
            from torchlink.report import verify_formats

            commands = verify_formats.github_commands(
                report.models, cwd=str(Path.cwd()), root=root_of_checkout()
            )
            if commands:
                answer(commands.rstrip("\n"))
            append_summary(verify_formats.summary(report))

    def _write(self, line: str) -> None:
        if self._lines is not None:
            self._lines.write(line.encode("utf-8", "backslashreplace") + b"\n")
        else:
            answer(line)
            flush()

    def _resumed(self, path: Path) -> dict[int, ModelResult]:
        """The results of an earlier run that still hold, by the numbers of their tasks."""
        from torchlink.report import verify_records as records
        from torchlink.status import exists

        if not exists(path):
            note(f"{path} does not exist: every model is run, and {path} is written.")
            return {}
        kept = {
            record.identity + str(record.entry["path"]): record.entry for record in records.read_records(path)
        }
        identities = [records.identity_of(task, self._libtorch) + task.path for task in self._tasks]
        found = {
            number: records.result_of(kept[identity])
            for number, identity in enumerate(identities)
            if identity in kept
        }
        note(f"{path}: {len(found)} of {len(self._tasks)} models are not run again.")
        return found


def write_junit(path: Path, models: Sequence[ModelResult], version: str | None) -> None:
    """Write models as JUnit XML.

    Raises:
        FileError: the file cannot be written.
    """
    from torchlink import __version__
    from torchlink.atomic import unwritable, write_file
    from torchlink.report import verify_formats

    properties = [("torchlink.version", __version__), *([("torchlink.libtorch", version)] if version else [])]
    text = verify_formats.junit(models, properties)
    try:
        write_file(path, text.encode(errors="backslashreplace"))
    except OSError as error:
        raise unwritable(path, error, "Name a file that you may write.") from error


def check_page(path: Path, tasks: Sequence[ModelTask], *, bench: bool, force: bool) -> None:
    """Refuse a page that would not be written, before anything is run.

    Raises:
        UsageError: there is nothing to show on it, or it is one of the models.
        WouldOverwriteError: something stands there.
        FileError: its directory is not there.
    """
    from torchlink.atomic import unwritable
    from torchlink.errors import UsageError, WouldOverwriteError
    from torchlink.shown import visible

    if not bench:
        raise UsageError("--html goes with --bench.", hint="Add --bench.")
    if not path.parent.is_dir():
        raise unwritable(path, FileNotFoundError(2, os.strerror(2), str(path.parent)))
    if not os.path.lexists(path):
        return
    if any(_is_same(path, task.path) for task in tasks):
        raise UsageError(f"--html {visible(str(path))} is a model.", hint="Name another file.")
    if not path.is_file():
        raise WouldOverwriteError(f"{visible(str(path))} is no regular file.", hint="Name another file.")
    if not force:
        raise WouldOverwriteError(
            f"{visible(str(path))} exists.", hint="Name another file, or give --force to overwrite it."
        )


def write_page(path: Path, report: VerifyReport) -> None:
    """Write the times of the models as an HTML page.

    Raises:
        FileError: the file cannot be written.
    """
    from torchlink.atomic import unwritable, write_file
    from torchlink.report import bench_html
    from torchlink.report.find import libtorch_to_json
    from torchlink.report.verify import model_to_json

    entries = [model_to_json(model) for model in report.models]
    page = bench_html.render(entries, libtorch_to_json(report.libtorch))
    try:
        write_file(path, page.encode(errors="backslashreplace"))
    except OSError as error:
        raise unwritable(path, error, "Name a file that you may write.") from error


def _is_same(one: Path, other: str) -> bool:
    try:
        return os.path.samefile(one, other)  # noqa: PTH121 - text
    except OSError:
        return str(one) == other


def _opened(path: Path, *, append: bool) -> IO[bytes]:
    """A file of lines, unbuffered: what is written is there when this process is killed."""
    from torchlink.atomic import unwritable

    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_APPEND if append else os.O_TRUNC)
    try:
        stream = open(os.open(path, flags, 0o666), "r+b" if not append else "a+b", buffering=0)  # noqa: PTH123, SIM115
        if append:
            _cut_to_whole_lines(stream)
    except OSError as error:
        raise unwritable(path, error, "Name a file that you may write.") from error
    return stream


def _cut_to_whole_lines(stream: IO[bytes]) -> None:
    """Take away a last line that was being written when the process was killed."""
    end = size = stream.seek(0, os.SEEK_END)
    while end:
        begin = max(0, end - 65536)
        stream.seek(begin)
        found = stream.read(end - begin).rfind(b"\n")
        if found >= 0:
            end = begin + found + 1
            break
        end = begin
    if end != size:
        stream.truncate(end)
