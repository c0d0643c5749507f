"""Options about the program to be built, and what they turn into."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from torchlink.libtorch.facts import Libtorch
    from torchlink.plan import LinkPlan, Wishes

CpuOption = Annotated[
    bool,
    typer.Option("--cpu", help="Link only what a CPU program needs, even on a CUDA build."),
]
RpathOption = Annotated[
    str,
    typer.Option(
        "--rpath",
        metavar="absolute|origin=DIR|none",
        help="Where the program looks for libtorch when it starts: where it is now, in DIR beside the "
        "program (for programs that are shipped), or nowhere.",
    ),
]
HeadersOption = Annotated[
    str,
    typer.Option(
        "--headers",
        metavar="system|after",
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
        "--std", metavar="N", help="C++ standard: 17, 20, …; at least what libtorch's headers need."
    ),
]
CompilerOption = Annotated[
    str | None,
    typer.Option(
        "--compiler",
        "--cxx-compiler",
        metavar="EXE",
        help="The C++ compiler to suit; otherwise $CXX, else c++.",
    ),
]


def plan_for(libtorch: Libtorch, wishes: Wishes, compiler: str | None) -> LinkPlan:
    """The plan for a compiler command, or for the default compiler where that can serve at all.

    Raises:
        ToolMissingError: the compiler that was named, here or by `$CXX`, is not there.
        ToolUnfitError: it cannot build against this libtorch.
        LibtorchUnusableError: libtorch cannot be linked.
    """
    from torchlink.plan import make_plan
    from torchlink.toolchain.compiler import default_compiler, find_compiler

    found = find_compiler(compiler) if compiler else default_compiler(libtorch)
    return make_plan(libtorch, wishes, found)


def say_notes(plan: LinkPlan) -> None:
    """What the user should know about a plan, on stderr."""
    for note in plan.notes:
        typer.echo(f"torchlink: note: {note}", err=True)
