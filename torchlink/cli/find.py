"""`torchlink find`: which libtorch is taken, why, and what it is."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from torchlink.cli.options import JsonOption, PythonOption  # noqa: TC001 - typer reads the annotations

app = typer.Typer(add_completion=False, rich_markup_mode=None)

EPILOG = """\b
Examples:
  torchlink find
  torchlink find --all
  torchlink find --libtorch torch-2.6.0-cp311-cp311-manylinux1_x86_64.whl
  torchlink find --python .venv/bin/python --json
  ln -s "$(torchlink find --print root)" libtorch
"""


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
            help="Only one value, for scripts: root, version, cxx11_abi, cxx_standard, library_dir, … "
            "(the names of --json); an element of a list a line.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find libtorch and say what it is.

    Version, C++ ABI, C++ standard, libraries and accelerator are read from its files.

    Without --libtorch and --python the first usable one is taken of: the variables TORCHLINK_LIBTORCH,
    LIBTORCH, TORCH_INSTALL_PREFIX, Torch_DIR and CMAKE_PREFIX_PATH; the active virtual environment, then the
    conda environment; ./libtorch and the other places where projects vendor one; python3 on PATH; the Python
    that runs torchlink; the system's own places.
    """
    from torchlink.errors import UsageError
    from torchlink.libtorch.choose import failure, search

    if as_json and field:
        raise UsageError("--print and --json exclude one another.", hint="Say one of them.")
    if libtorch and len(libtorch) > 1 and not everything:
        raise UsageError("Several --libtorch need --all.", hint="Say --all to see every one of them.")
    found = search(libtorch or (), python, everything=everything)
    error = None if found.chosen else failure(found)
    if error is not None and (field or not everything):
        raise error
    from torchlink.report.find import field_values, search_to_json, search_to_text

    if as_json:
        import json

        print(json.dumps(search_to_json(found, error), indent=2))
    elif field and found.chosen:
        print("\n".join(field_values(found.chosen, field)))
    else:
        print(search_to_text(found, everything=everything))
    if error is not None:
        if not as_json:
            raise error
        raise typer.Exit(error.exit_code)
