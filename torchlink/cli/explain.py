"""`torchlink explain`: the causes behind the errors in a log, and their fixes."""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, cast

from torchlink.cli import options, plain
from torchlink.cli.declaration import Command, Option, Positional
from torchlink.cli.output import note, say
from torchlink.errors import FileError, UsageError
from torchlink.shown import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torchlink.explain.explanation import Facts
    from torchlink.explain.lines import Stream

EPILOG = """\b
Examples:
  g++ main.cpp -ltorch 2>&1 | torchlink explain -
  torchlink explain ci.log
  torchlink explain --json build.log run.log
  torchlink explain -- cmake --build build
"""
MOST_KEPT = 1 << 20  # bytes
LISTING = re.compile(rb"^\s+\S+\.so\S* => ", re.MULTILINE)  # ldd's


FORMATS = ("text", "json", "github")


class ExplainArguments(NamedTuple):
    """The command line of `torchlink explain`."""

    files: Annotated[
        tuple[str, ...],
        Positional(
            "[FILE... | -- COMMAND...]",
            "Logs, - is stdin; or after -- a command to run, whose failure is explained.",
            show_default=False,
        ),
    ] = ("-",)
    json: options.Json = False
    format: Annotated[str, Option("--format", "The output format.", choices=FORMATS)] = "text"
    no_machine_facts: Annotated[
        bool,
        Option(
            "--no-machine-facts", "Use the text alone; do not look at this machine's libtorch and compiler."
        ),
    ] = False
    libtorch: options.Libtorch = None
    python: options.Python = None
    verbose: Annotated[bool, Option("-v --verbose", "Show the fixes for all build systems.")] = False


class ExplainCall(NamedTuple):
    """The command line, with a command to run."""

    options: ExplainArguments
    command: tuple[str, ...]


def read(words: Sequence[str]) -> ExplainArguments | ExplainCall | None:
    """Take the command after `--`, and the options before it; None if these are not plain."""
    words = list(words)
    if "--" not in words:
        return cast("ExplainArguments | None", plain.read(COMMAND, words))
    at = words.index("--")
    before, command = words[:at], tuple(words[at + 1 :])
    given = plain.read(COMMAND, before)
    if given is None:
        return None
    if "files" in given._fields and given.files != ("-",):
        raise UsageError(
            "A log and a command cannot be combined.", hint="Write torchlink explain -- COMMAND."
        )
    if not command:
        raise UsageError("A command is missing after --.", hint="For example torchlink explain -- make")
    return ExplainCall(given, command)


def explain(arguments: ExplainArguments | ExplainCall) -> int:
    """Print the causes of the errors in a log of a build or a run, the lines that show them, and the fixes.

    The log may be of a compiler, linker, CMake, make, ninja, Nim, cargo, go, Python, the dynamic loader or a program
    that uses libtorch. With -- COMMAND, the command is run, its output and exit code are passed on, and a failure is
    explained at the end, on stderr (with --json, the command's output goes to stderr). Exit code without a command: 0 a
    cause is named; 1 none is; 2 a log could not be read (the others are explained).
    """
    if isinstance(arguments, ExplainCall):
        return run_and_explain(arguments)
    from torchlink.cli.explain_output import form_of, show, show_failures
    from torchlink.explain.causes import directories
    from torchlink.explain.explanation import explain as run

    form = form_of(arguments)
    beginning = bytearray()
    places = directories(Path.cwd())
    failed: list[FileError] = []
    explanation = run(opened(arguments.files, beginning, failed), facts_for(arguments), places, failed)
    show_failures(failed, form, len(arguments.files))
    show(explanation, form, verbose=arguments.verbose, failed=failed)
    # At least half of its lines: a log of a build may print ldd's output, too.
    listed = form == "text" and 2 * len(LISTING.findall(beginning)) > beginning.count(b"\n")
    if listed and not explanation.causes:
        lint_output_of_ldd(bytes(beginning), arguments)
    for error in failed:
        say(f"torchlink: {visible(error.message)}\n  -> {error.hint}", err=True)
    return 2 if failed else 0 if explanation.causes else 1


def run_and_explain(call: ExplainCall) -> int:
    """Run a command, and explain its failure."""
    from io import BytesIO

    from torchlink.cli.explain_output import form_of, show
    from torchlink.explain.causes import directories
    from torchlink.explain.explanation import explain as run
    from torchlink.process import copied

    form = form_of(call.options)
    with stdout_to_stderr() if form == "json" else nullcontext():
        code, output = copied(call.command)
    if code == 0 and form != "json":
        return code
    try:
        facts = facts_for(call.options, call.command)
        explanation = run([(call.command[0], BytesIO(output))], facts, directories(Path.cwd()))
    except FileError as error:  # the command has written something else than text
        note(error.message)
        return code
    show(explanation, form, verbose=call.options.verbose, err=form != "json")
    return code


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Lead descriptor 1 to where 2 leads, for a program that is run in the block."""
    sys.stdout.flush()
    before = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(before, 1)
        os.close(before)


def facts_for(arguments: ExplainArguments, command: Sequence[str] = ()) -> Facts | None:
    """Return what is known of this machine, unless it is not to be looked at.

    Args:
        arguments: the options.
        command: what was run here and failed.
    """
    if arguments.no_machine_facts:
        return None
    from torchlink.explain.facts import MachineFacts

    return MachineFacts(arguments.libtorch, arguments.python, here=bool(command), command=command)


def lint_output_of_ldd(text: bytes, arguments: ExplainArguments) -> None:
    """Print what `torchlink lint` finds in the output of ldd, which is no log of errors."""
    from torchlink.cli.lint_output import show
    from torchlink.errors import TorchlinkError
    from torchlink.lint.finding import Severity
    from torchlink.lint.importing import Torches
    from torchlink.lint.linting import lint

    try:
        report = lint(
            (Path("-"),), standard_input=text, torches=Torches(arguments.libtorch, arguments.python)
        )
    except TorchlinkError:
        say("torchlink: `torchlink lint -` reads the complete output of `ldd -r`", err=True)
        return
    say("\nThis is the output of ldd, which `torchlink lint -` reads:\n")
    show(report, "text", Severity.ERROR, tree=False, verbose=arguments.verbose)


class Kept:
    """A stream whose beginning is kept.

    Args:
        stream: is read.
        beginning: what is kept.
    """

    def __init__(self, stream: Stream, beginning: bytearray) -> None:
        self._stream = stream
        self._beginning = beginning
        self._begun = self._again = False

    def read(self, size: int, /) -> bytes:
        """Read up to `size` bytes."""
        data = self._stream.read(size)
        self._begun = True
        if len(self._beginning) < MOST_KEPT and not self._again:
            self._beginning += data[: MOST_KEPT - len(self._beginning)]
        return data

    def seekable(self) -> bool:
        """Whether it can be read again."""
        return bool(getattr(self._stream, "seekable", bool)())

    def tell(self) -> int:
        """Return the position."""
        return int(self._stream.tell())  # type: ignore[attr-defined]

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position, to read it again if it has been read."""
        self._again = self._begun
        return int(self._stream.seek(position, whence))  # type: ignore[attr-defined]


def opened(
    files: Sequence[str], beginning: bytearray, failed: list[FileError]
) -> Iterator[tuple[str, Stream]]:
    """Open logs one by one.

    Args:
        files: their names.
        beginning: gets the first bytes of the first one.
        failed: gets the errors of those that cannot be read.
    """
    for name in files:
        if name == "-":
            if sys.stdin is None:
                continue
            if sys.stdin.isatty():
                say("torchlink: reading a log from the terminal (end it with Ctrl-D) …", err=True)
            # Raw: what is there, without waiting for more.
            yield name, Kept(getattr(sys.stdin.buffer, "raw", sys.stdin.buffer), beginning)
            continue
        try:
            with open(name, "rb", buffering=0) as stream:  # noqa: PTH123 - plain strings
                yield name, Kept(stream, beginning)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            hint = "Name the log of a build or a run."
            failed.append(FileError(f"Cannot read {name}: {reason}.", hint=hint))


COMMAND = Command(ExplainArguments, explain, EPILOG, read=read)
