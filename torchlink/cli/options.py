"""Options that several commands share, and what they turn into."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from torchlink.libtorch.facts import Libtorch

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


def locate(libtorch: Path | None, python: str | None) -> Libtorch:
    """The libtorch that the common options choose.

    Raises:
        LibtorchNotFoundError: nothing usable; the details list where torchlink looked.
        LibtorchUnusableError: the one that was named cannot serve.
    """
    from torchlink.libtorch.choose import choose

    return choose(libtorch=libtorch, python=python)
