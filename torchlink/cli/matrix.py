"""`torchlink matrix`: one model, several libtorchs, several compilers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from torchlink.cli.options import JsonOption, offering
from torchlink.cli.output import answer, note, say
from torchlink.cli.plan_options import CpuOption
from torchlink.cli.verify import EnvOption
from torchlink.shown import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torchlink.cli.progress import Display
    from torchlink.matrix.facts import Cell, Column, MatrixReport, Row

app = typer.Typer(add_completion=False, rich_markup_mode=None)

EPILOG = """\b
Examples:
  torchlink matrix
  torchlink matrix model.pt --libtorch libs/2.6.0 --libtorch libs/2.13.0 --compiler g++ --compiler clang++
  torchlink matrix model.pt --via cxx --via cmake --via nim --jobs 2
  torchlink matrix model.pt --markdown >> "$GITHUB_STEP_SUMMARY"

\b
On GitHub Actions, one job a verification (nothing is run by --github itself):
  echo "matrix=$(torchlink matrix --github --libtorch a --libtorch b)" >> "$GITHUB_OUTPUT"
  strategy: { matrix: '${{ fromJSON(needs.plan.outputs.matrix) }}' }
  runs-on: '${{ matrix.runner }}'
  steps: [{ run: '${{ matrix.run }}' }]

\b
Exit code: 0 all is well; 1 a verification failed; 2 none failed, but some could not be tried.
"""
ATOL, RTOL = 1e-5, 1e-4
JOBS_HELP = "How many verifications at once; a compiler takes about a gigabyte of memory."


@app.command(epilog=EPILOG)
def matrix(
    *,
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="[MODEL]", help="A TorchScript file; a tiny one that torchlink carries without."
        ),
    ] = None,
    libtorch: Annotated[
        list[Path] | None,
        typer.Option(
            "--libtorch",
            metavar="PATH",
            help="A row; may be repeated. Without any: every usable one of find --all.",
        ),
    ] = None,
    compiler: Annotated[
        list[str] | None,
        typer.Option(
            "--compiler",
            metavar="EXE",
            help="A C++ compiler; may be repeated. Without any: $CXX, else c++.",
        ),
    ] = None,
    via: Annotated[
        list[str] | None,
        typer.Option(
            "--via",
            metavar="cxx|cmake|nim",
            autocompletion=offering("cxx", "cmake", "nim"),
            help="A way of building, as in verify; may be repeated.",
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input", metavar="VALUE", help="One argument of forward, as in verify; may be repeated."
        ),
    ] = None,
    expect: Annotated[
        Path | None, typer.Option("--expect", metavar="FILE", help="The tensors that forward should return.")
    ] = None,
    library: Annotated[
        list[Path] | None,
        typer.Option(
            "--library", metavar="LIB.so", help="A library of operators, as in verify; may be repeated."
        ),
    ] = None,
    atol: Annotated[float, typer.Option("--atol", help="Absolute tolerance of --expect.")] = ATOL,
    rtol: Annotated[float, typer.Option("--rtol", help="Relative tolerance of --expect.")] = RTOL,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            metavar="cpu|cuda|auto",
            autocompletion=offering("cpu", "cuda", "auto"),
            help="Where to run, as in verify.",
        ),
    ] = "cpu",
    env: EnvOption = None,
    cpu: CpuOption = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", metavar="N", help=JOBS_HELP)] = 1,
    json: JsonOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="The table as Markdown.")] = False,
    github: Annotated[
        bool, typer.Option("--github", help="Run nothing: print a matrix for GitHub Actions, on one line.")
    ] = False,
) -> None:
    """Verify one model against several libtorchs with several compilers, and print a table.

    A row is a libtorch, a column a compiler or a way of building. Loaders that were built before are used
    again.
    """
    from torchlink.cli.progress import working
    from torchlink.errors import UsageError
    from torchlink.matrix.run import columns_of, rows_of, run_matrix

    if json + markdown + github > 1:
        raise UsageError("--json, --markdown and --github exclude one another.", hint="Say one of them.")
    for option, words in (("--libtorch", libtorch), ("--compiler", compiler), ("--via", via)):
        for word in dict.fromkeys(words or ()):
            if words and words.count(word) > 1:  # type: ignore[arg-type]  # each list holds words of one type
                note(f"{option} {word} is given twice and tried once.")
    columns = columns_of(compiler or (), via or (), ask=not github)
    rows = rows_of(libtorch or ())
    if github:
        words = words_of(
            inputs or (),
            expect,
            library or (),
            {"--atol": (atol, ATOL), "--rtol": (rtol, RTOL)},
            device,
            cpu=cpu,
        )
        words += [word for value in env or () for word in ("--env", value)]
        answer(jobs_of(rows, columns, model, words))
        return
    from torchlink.plan import Wishes

    options = {
        "device": device,
        "inputs": inputs,
        "expect": expect,
        "libraries": library or (),
        "atol": atol,
        "rtol": rtol,
        "wishes": Wishes(cpu_only=cpu),
        "env": env or (),
    }
    with working("verifying", len(rows) * len(columns)) as display:
        told = teller(len(rows) * len(columns), display)
        report = run_matrix(model, rows, columns, options, jobs=jobs, done=told)
    show(report, as_json=json, as_markdown=markdown)
    raise typer.Exit(report.exit_code)


def words_of(
    inputs: Sequence[str],
    expect: Path | None,
    libraries: Sequence[Path],
    tolerances: dict[str, tuple[float, float]],
    device: str,
    *,
    cpu: bool,
) -> list[str]:
    """What every job says to `torchlink verify` besides; a tolerance comes with what it is without a word."""
    words = [word for value in inputs for word in ("--input", value)]
    words += ["--expect", str(expect)] if expect else []
    words += [word for library in libraries for word in ("--library", str(library))]
    words += [
        word
        for option, (value, usual) in tolerances.items()
        if value != usual
        for word in (option, str(value))
    ]
    words += ["--device", device] if device != "cpu" else []
    return [*words, "--cpu"] if cpu else words


def jobs_of(rows: Sequence[Row], columns: Sequence[Column], model: Path | None, words: Sequence[str]) -> str:
    """The answer of --github; a libtorch that was named and is none is an error, one for which no job can work a note.

    Raises:
        LibtorchUnusableError: a named libtorch is none, or no job is left.
    """
    from json import dumps

    from torchlink.errors import LibtorchUnusableError
    from torchlink.report.github_matrix import github_matrix

    for row in rows:
        if row.error:
            raise row.error
    found = github_matrix(rows, columns, str(model) if model else None, words)
    if not found.jobs:
        raise LibtorchUnusableError(
            f"No job is left. {' '.join(found.left_out)}", hint="Name a libtorch that a runner can verify."
        )
    for sentence in found.left_out:
        note(sentence)
    if "--device" in words:
        note("GitHub's own runners have no GPU: give these jobs one that has.")
    return dumps({"include": found.jobs}, separators=(",", ":"))


def show(report: MatrixReport, *, as_json: bool, as_markdown: bool) -> None:
    """Print the report in the form that was asked for."""
    from torchlink.report import matrix as renderers

    if as_json:
        from json import dumps

        answer(dumps(renderers.to_json(report), indent=2))
    elif as_markdown:
        say(renderers.to_markdown(report), end="")
    else:
        import os
        import sys

        from torchlink.report.ansi import wanted

        color = wanted(sys.stdout, os.environ)
        say(renderers.to_text(report, color=color), color=color, end="")


def teller(count: int, display: Display) -> Callable[[Cell], None]:
    """Tell on stderr how far it is: a line for each verification when it is done."""
    from torchlink.report.matrix import title

    ended = 0

    def tell(cell: Cell) -> None:
        nonlocal ended
        ended += 1
        what = f"libtorch {cell.row.version}, {title(cell.column)}: {cell.status}"
        say(f"torchlink: {ended} of {count}: {visible(what)} ({cell.seconds:.1f} s)", err=True)
        if ended < count:
            display.show("verifying", ended, count)

    return tell
