"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable


def offering(*values: str) -> Callable[[str], list[str]]:
    """For `autocompletion`: a shell offers these values, and any other may be typed all the same."""

    def complete(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return complete


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
