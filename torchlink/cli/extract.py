"""`torchlink extract`: a libtorch cut out of a wheel, offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from torchlink.cli import options
from torchlink.cli.declaration import Command, Option, Positional
from torchlink.cli.output import answer, note, say

if TYPE_CHECKING:
    from torchlink.extract.extraction import ExtractReport

EPILOG = """\b
Examples:
  torchlink extract torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl libtorch
  pip download torch -d wheels && torchlink extract wheels/*.whl libtorch
  torchlink extract torch-2.15.0-cp312-cp312-win_amd64.whl libtorch-windows --json

\b
Exit code: 0 extracted; 2 it could not be, and nothing was written, or only the report on it could not be
printed, which is said.
"""


class ExtractArguments(NamedTuple):
    """The command line of `torchlink extract`."""

    wheels: Annotated[
        tuple[Path, ...],
        Positional(
            "WHEEL...",
            "A wheel of torch for any platform; and, in any order, wheels with libraries that it needs.",
        ),
    ]
    directory: Annotated[Path, Positional("DIR", "Where to. It may not exist yet, or be empty.")]
    python_libs: Annotated[
        bool,
        Option(
            "--python-libs",
            "Take libtorch_python and libshm as well, which only programs that embed Python need.",
        ),
    ] = False
    force: Annotated[bool, Option("--force", "Replace a libtorch that was extracted there before.")] = False
    json: options.Json = False


def extract(arguments: ExtractArguments) -> int:
    """Extract a libtorch from a wheel: include, lib, share and build-version, as in upstream's zips.

    Nothing is downloaded and nothing run. A CUDA wheel needs libraries of other wheels (nvidia-…); those that
    are given are laid beside its own. DIR can be moved and copied; --libtorch DIR names it.
    """
    from torchlink.cli.progress import watched
    from torchlink.extract.extraction import extract as cut_out

    report = watched(
        lambda progress: cut_out(
            arguments.wheels,
            arguments.directory,
            python_libs=arguments.python_libs,
            force=arguments.force,
            progress=progress,
        )
    )
    try:
        show(report, as_json=arguments.json)
    except OSError:
        note(f"{arguments.directory} is extracted in full; only this report is missing.")
        raise
    return 0


def show(report: ExtractReport, *, as_json: bool) -> None:
    """Print the report; flushed, so that what cannot be written is noticed here."""
    import sys

    for unused in report.unused:
        note(f"{unused} is not used: this libtorch needs no library of it.")
    if as_json:
        from json import dumps

        from torchlink.report.extract import to_json

        answer(dumps(to_json(report), indent=2))
    else:
        from torchlink.report.extract import to_text

        say(to_text(report), end="")
    sys.stdout.flush()


COMMAND = Command(ExtractArguments, extract, EPILOG)
