"""`torchlink matrix`: verify one model against several libtorchs with several compilers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from torchlink.cli import options
from torchlink.cli.declaration import Command, Option, Positional, command_line, only
from torchlink.cli.output import answer, colored, note, say
from torchlink.shown import visible
from torchlink.verify.options import DEFAULTS, VerifyOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torchlink.cli.progress import Display
    from torchlink.matrix.cells import Cell, Column, MatrixReport, Row

EPILOG = """\b
Examples:
  torchlink matrix
  torchlink matrix model.pt --libtorch libs/2.6.0 --libtorch libs/2.13.0 --compiler g++ --compiler clang++
  torchlink matrix model.pt --via cxx --via cmake --via nim --jobs 2
  torchlink matrix model.pt --markdown >> "$GITHUB_STEP_SUMMARY"

\b
On GitHub Actions, one job for each verification (--github itself runs nothing):
  echo "matrix=$(torchlink matrix --github --libtorch a --libtorch b)" >> "$GITHUB_OUTPUT"
  strategy: { matrix: '${{ fromJSON(needs.plan.outputs.matrix) }}' }
  runs-on: '${{ matrix.runner }}'
  steps: [{ run: '${{ matrix.run }}' }]

\b
Exit code: 0 every verification passed; 1 one failed; 2 none failed, but some could not be run.
"""
# The options that apply to every verification; the other options of `verify` become rows and columns.
OPTIONS = {
    **only(options.VERIFY, "inputs", "expect", "libraries", "atol", "rtol", "timeout", "device", "env"),
    "plan": only(options.PLAN, "cpu_only"),
}


class MatrixArguments(NamedTuple):
    """The command line of `torchlink matrix`."""

    model: Annotated[
        Path | None, Positional("[MODEL]", "A TorchScript file. [default: the bundled test model]")
    ] = None
    libtorch: Annotated[
        tuple[Path, ...],
        Option(
            "--libtorch",
            "A libtorch, one row; may be repeated. [default: every usable one of `torchlink find --all`]",
            metavar="PATH",
        ),
    ] = ()
    compiler: Annotated[
        tuple[str, ...],
        Option(
            "--compiler",
            "A C++ compiler, one column; may be repeated. [default: $CXX, else c++]",
            metavar="EXE",
        ),
    ] = ()
    via: Annotated[
        tuple[str, ...],
        options.VIA._replace(
            help="How to build the loader, as in `torchlink verify`, one column; may be repeated."
        ),
    ] = ()
    verify: Annotated[VerifyOptions, OPTIONS] = DEFAULTS
    jobs: Annotated[
        int,
        Option(
            "--jobs -j",
            "The number of verifications at once; each compiler needs about a gigabyte of memory.",
            metavar="N",
        ),
    ] = 1
    json: options.Json = False
    markdown: Annotated[bool, Option("--markdown", "Print the table as Markdown.")] = False
    github: Annotated[
        bool, Option("--github", "Print a job matrix for GitHub Actions, on one line; run nothing.")
    ] = False


def matrix(arguments: MatrixArguments) -> int:
    """Verify one model against several libtorchs with several compilers, and print a table.

    Each row is a libtorch, each column a compiler or a way of building. Loaders that were built before are
    reused.
    """
    from torchlink.cli.progress import working
    from torchlink.errors import UsageError
    from torchlink.matrix.cells import columns_of, rows_of, run_matrix

    if arguments.json + arguments.markdown + arguments.github > 1:
        raise UsageError("--json, --markdown and --github cannot be combined.", hint="Use only one of them.")
    for option, values in (
        ("--libtorch", arguments.libtorch),
        ("--compiler", arguments.compiler),
        ("--via", arguments.via),
    ):
        for value, count in Counter(map(str, values)).items():
            if count > 1:
                note(f"{option} {value} is given {count} times; it is tried once.")
    columns = columns_of(arguments.compiler, arguments.via, ask=not arguments.github)
    rows = rows_of(arguments.libtorch)
    if arguments.github:
        answer(github_jobs(rows, columns, arguments.model, command_line(OPTIONS, arguments.verify)))
        return 0
    with working("verifying", len(rows) * len(columns)) as display:
        done = progress_printer(len(rows) * len(columns), display)
        report = run_matrix(arguments.model, rows, columns, arguments.verify, jobs=arguments.jobs, done=done)
    show(report, as_json=arguments.json, as_markdown=arguments.markdown)
    return report.exit_code


def github_jobs(
    rows: Sequence[Row], columns: Sequence[Column], model: Path | None, options: Sequence[str]
) -> str:
    """Return the output of --github; a libtorch that no runner can verify is left out with a note.

    Raises:
        LibtorchUnusableError: a path that was given is not a libtorch, or no job is left.
    """
    from json import dumps

    from torchlink.errors import LibtorchUnusableError
    from torchlink.report.github import github_matrix

    for row in rows:
        if row.error:
            raise row.error
    found = github_matrix(rows, columns, str(model) if model else None, options)
    if not found.jobs:
        raise LibtorchUnusableError(
            f"No job is left. {' '.join(found.left_out)}", hint="Name a libtorch that a runner can verify."
        )
    for sentence in found.left_out:
        note(sentence)
    if "--device" in options:
        note("GitHub's own runners have no GPU: set `runner` of these jobs to one that has.")
    return dumps({"include": found.jobs}, separators=(",", ":"))


def show(report: MatrixReport, *, as_json: bool, as_markdown: bool) -> None:
    """Print the report in the chosen format."""
    from torchlink.report import matrix as renderers

    if as_json:
        from json import dumps

        answer(dumps(renderers.to_json(report), indent=2))
    elif as_markdown:
        say(renderers.to_markdown(report), end="")
    else:
        color = colored()
        say(renderers.to_text(report, color=color), color=color, end="")


def progress_printer(count: int, display: Display) -> Callable[[Cell], None]:
    """Return a function that prints a line on stderr for each verification that has ended."""
    from torchlink.report.matrix import title

    ended = 0

    def print_progress(cell: Cell) -> None:
        nonlocal ended
        ended += 1
        what = f"libtorch {cell.row.version}, {title(cell.column)}: {cell.status}"
        say(f"torchlink: {ended} of {count}: {visible(what)} ({cell.seconds:.1f} s)", err=True)
        if ended < count:
            display.show("verifying", ended, count)

    return print_progress


COMMAND = Command(MatrixArguments, matrix, EPILOG)
