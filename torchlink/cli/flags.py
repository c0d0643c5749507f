"""`torchlink flags`: the words for one target on stdout, and nothing else there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torchlink.cli.options import LibtorchOption, PythonOption
from torchlink.cli.plan_options import (
    AotiOption,
    CompilerOption,
    CpuOption,
    HeadersOption,
    RpathOption,
    StdOption,
)

app = typer.Typer(add_completion=False, rich_markup_mode=None)

EPILOG = """\b
Examples:
  eval c++ main.cpp -o app $(torchlink flags)
  torchlink flags --response-file w.rsp && c++ main.cpp -o app @w.rsp
  c++ -c main.cpp $(torchlink flags --compile)
  torchlink flags --cpu --rpath origin=lib
  torchlink flags --pkg-config > torch.pc
"""

ResponseFileOption = Annotated[
    Path | None,
    typer.Option("--response-file", metavar="PATH", help="Write a file for `c++ @PATH` instead of printing."),
]


@app.command(epilog=EPILOG)
def flags(
    *,
    libtorch: LibtorchOption = None,
    python: PythonOption = None,
    cxx: Annotated[
        bool, typer.Option("--cxx", help="One shell-quoted line for a C++ compiler (the default).")
    ] = False,
    cmake: Annotated[bool, typer.Option("--cmake", help="A snippet for a CMakeLists.txt.")] = False,
    nim: Annotated[bool, typer.Option("--nim", help="Lines for a nim.cfg.")] = False,
    pkg_config: Annotated[bool, typer.Option("--pkg-config", help="A complete torch.pc.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The whole plan as one JSON object.")] = False,
    compile_half: Annotated[bool, typer.Option("--compile", help="Only what a compile step needs.")] = False,
    link_half: Annotated[bool, typer.Option("--link", help="Only what a link step needs.")] = False,
    cpu: CpuOption = False,
    rpath: RpathOption = "absolute",
    headers: HeadersOption = "system",
    aoti: AotiOption = False,
    std: StdOption = None,
    compiler: CompilerOption = None,
    response_file: ResponseFileOption = None,
    force: Annotated[bool, typer.Option("--force", help="Let --response-file overwrite any file.")] = False,
) -> None:
    """Print the words that compile and link a program against libtorch.

    The answer alone is on stdout, notes are on stderr. The words go at the end of a command, behind sources
    and objects. For paths with spaces use eval, as below, or --response-file.
    """
    from torchlink.cli.flags_run import Order, run

    raise typer.Exit(
        run(
            Order(
                libtorch=libtorch,
                python=python,
                cxx=cxx,
                cmake=cmake,
                nim=nim,
                pkg_config=pkg_config,
                json=json,
                compile_half=compile_half,
                link_half=link_half,
                cpu=cpu,
                rpath=rpath,
                headers=headers,
                aoti=aoti,
                std=std,
                compiler=compiler,
                response_file=response_file,
                force=force,
            )
        )
    )
