"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

LibtorchOption = Annotated[
    Path | None,
    typer.Option(
        "--libtorch",
        metavar="PATH",
        help="The libtorch to use: its root, its lib directory, a wheel or a zip.",
    ),
]
PythonOption = Annotated[
    str | None,
    typer.Option("--python", metavar="EXE", help="Use the torch that this Python interpreter would import."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
