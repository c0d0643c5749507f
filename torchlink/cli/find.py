"""`torchlink find`: which libtorch is taken, why, and what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torchlink.cli.options import JsonOption, PythonOption

app = typer.Typer(add_completion=False, rich_markup_mode=None)

EPILOG = """\b
Examples:
  torchlink find
  torchlink find --all
  torchlink find --libtorch torch-2.6.0-cp311-cp311-manylinux1_x86_64.whl
  torchlink find --python .venv/bin/python --json
  ln -s "$(torchlink find --print root)" libtorch
"""


def fields(incomplete: str) -> list[str]:
    """What --print takes, for a shell's completion: the fields of the libtorch that is here."""
    from torchlink.libtorch.choose import search
    from torchlink.report.libtorch import libtorch_to_json

    found = search([], None, everything=False).chosen
    return [name for name in libtorch_to_json(found) if name.startswith(incomplete)] if found else []


@app.command(epilog=EPILOG)
def find(
    *,
    libtorch: Annotated[
        list[Path] | None,
        typer.Option(
            "--libtorch",
            metavar="PATH",
            help="Look only here: a root, its lib directory, a directory around it, a wheel or a zip. "
            "May be repeated with --all.",
        ),
    ] = None,
    python: PythonOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every candidate in order, the rejected ones with their reason.")
    ] = False,
    field: Annotated[
        str | None,
        typer.Option(
            "--print",
            metavar="FIELD",
            autocompletion=fields,
            help="Only one value, for scripts: root, version, cxx11_abi, cxx_standard, library_dir, … "
            "(the names of --json); an element of a list a line.",
        ),
    ] = None,
    as_json: JsonOption = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Name the symbol that the C++ ABI was read from.")
    ] = False,
) -> None:
    """Find libtorch and say what it is.

    Version, C++ ABI, C++ standard, libraries and accelerator are read from its files.

    Without --libtorch and --python the first usable one is taken of: the variables TORCHLINK_LIBTORCH,
    LIBTORCH, TORCH_INSTALL_PREFIX, Torch_DIR and CMAKE_PREFIX_PATH; the active virtual environment, then the
    conda environment; ./libtorch and the other places where projects vendor one; python3 on PATH; the Python
    that runs torchlink; the system's own places.
    """
    from torchlink.cli.find_run import Order, run

    raise typer.Exit(run(Order(libtorch or (), python, everything, field, as_json, verbose)))
