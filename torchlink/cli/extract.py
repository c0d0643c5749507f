"""`torchlink extract`: extract a libtorch from a wheel, offline."""

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
Exit code: 0 extracted; 2 it could not be extracted and nothing was written, or only the report could not be
printed, in which case a note says that DIR is complete.
"""


class ExtractArguments(NamedTuple):
    """The command line of `torchlink extract`."""

    wheels: Annotated[
        tuple[Path, ...],
        Positional(
            "WHEEL...",
            "A wheel of torch, for any platform, and any wheels of libraries that it needs, in any order.",
        ),
    ]
    directory: Annotated[Path, Positional("DIR", "The directory to create. If it exists, it must be empty.")]
    python_libs: Annotated[
        bool,
        Option(
            "--python-libs",
            "Also extract libtorch_python and libshm, which only programs that embed Python need.",
        ),
    ] = False
    force: Annotated[bool, Option("--force", "Replace a libtorch that was extracted to DIR before.")] = False
    json: options.Json = False


def extract(arguments: ExtractArguments) -> int:
    """Extract a libtorch from a wheel: include, lib, share and build-version, as in upstream's zip files.

    Nothing is downloaded and nothing is run. A CUDA wheel needs libraries from other wheels (nvidia-…): give those,
    too, and they are put next to its own. DIR can be moved and copied; use it with --libtorch DIR.
    """
    from torchlink.cli.progress import with_progress_bar
    from torchlink.extract.extraction import extract as run_extraction

    report = with_progress_bar(
        lambda progress: run_extraction(
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
        note(f"{arguments.directory} is complete; only this report could not be printed.")
        raise
    return 0


def show(report: ExtractReport, *, as_json: bool) -> None:
    """Print the report, and flush it, so that a failing write is noticed here."""
    import sys

    for unused in report.unused:
        note(f"{unused} is not used: this libtorch needs none of its libraries.")
    if as_json:
        from json import dumps

        from torchlink.report.extract import to_json

        answer(dumps(to_json(report), indent=2))
    else:
        from torchlink.report.extract import to_text

        say(to_text(report), end="")
    sys.stdout.flush()


COMMAND = Command(ExtractArguments, extract, EPILOG)
