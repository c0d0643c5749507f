"""Options about the program to be built."""

from __future__ import annotations

from typing import Annotated

import typer

from torchlink.cli.options import offering
from torchlink.cli.planning import cxx_standard


def standard(text: str) -> int:
    """The value of --std."""
    try:
        return cxx_standard(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


CpuOption = Annotated[
    bool,
    typer.Option("--cpu", help="Link only what a CPU program needs, even on a CUDA build."),
]
RpathOption = Annotated[
    str,
    typer.Option(
        "--rpath",
        metavar="absolute|origin=DIR|none",
        autocompletion=offering("absolute", "origin=", "none"),
        help="Where the program looks for libtorch when it starts: where it is now, in DIR beside the "
        "program (for programs that are shipped), or nowhere.",
    ),
]
HeadersOption = Annotated[
    str,
    typer.Option(
        "--headers",
        metavar="system|after",
        autocompletion=offering("system", "after"),
        help="system: -isystem. after: -idirafter, behind the system's own fmt, protobuf, pybind11, "
        "which libtorch's include directory has, too.",
    ),
]
AotiOption = Annotated[
    bool,
    typer.Option("--aoti", help="The program loads AOTInductor packages (.pt2): keep libtorch.so linked."),
]
StdOption = Annotated[
    int | None,
    typer.Option(
        "--std",
        metavar="N",
        parser=standard,
        autocompletion=offering("17", "20", "23", "c++17", "c++20", "c++23"),
        help="C++ standard: 17, 20, … or c++20; at least what libtorch's headers need.",
    ),
]
CompilerOption = Annotated[
    str | None,
    typer.Option(
        "--compiler",
        metavar="EXE",
        help="The C++ compiler to suit; otherwise $CXX, else c++.",
    ),
]
