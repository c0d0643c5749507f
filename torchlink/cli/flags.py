"""`torchlink flags`: the words for one target on stdout, and nothing else there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from torchlink.cli.options import LibtorchOption, PythonOption, locate
from torchlink.cli.plan_options import (
    AotiOption,
    CompilerOption,
    CpuOption,
    HeadersOption,
    RpathOption,
    StdOption,
    plan_for,
    say_notes,
)
from torchlink.errors import FileError, UsageError, WouldOverwriteError

if TYPE_CHECKING:
    from torchlink.plan import LinkPlan

app = typer.Typer(add_completion=False, rich_markup_mode=None)

EPILOG = """\b
Examples:
  eval c++ main.cpp -o app $(torchlink flags)
  torchlink flags --response-file w.rsp && c++ main.cpp -o app @w.rsp
  c++ -c main.cpp $(torchlink flags --compile)
  torchlink flags --cpu --rpath origin=lib
  torchlink flags --pkg-config > torch.pc
"""
# How a response file by torchlink begins; anything else is a file of the user's.
OWN_BEGINNINGS = (
    "-D_GLIBCXX_USE_CXX11_ABI=",
    "-isystem",
    "-idirafter",
    "-std=c++",
    "-L",
    "-l",
    "-Wl,",
    "-Xlinker",
    "/MD",
    "/LIBPATH:",
)


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
    asked = {"cxx": cxx, "cmake": cmake, "nim": nim, "pkg-config": pkg_config, "json": json}
    targets = [name for name, wanted in asked.items() if wanted] or ["cxx"]
    if len(targets) > 1:
        raise UsageError(f"--{' and --'.join(targets)} ask for two answers at once.", hint="Name one target.")
    if response_file and targets != ["cxx"]:
        raise UsageError(
            f"--response-file goes with --cxx, not with --{targets[0]}.", hint="Leave one of them away."
        )
    half = "both" if compile_half == link_half else "compile" if compile_half else "link"

    from torchlink.plan import Wishes

    wishes = Wishes(cpu_only=cpu, rpath=rpath, headers=headers, aoti=aoti, cxx_standard=std)
    plan = plan_for(locate(libtorch, python), wishes, compiler)
    if response_file:
        write_response_file(plan, half, response_file, force=force)
    else:
        import os

        from torchlink.emit import emit

        # As bytes: a path need not be text in the terminal's encoding.
        typer.echo(os.fsencode(emit(plan, targets[0], half)))
    say_notes(plan)


def write_response_file(plan: LinkPlan, half: str, path: Path, *, force: bool) -> None:
    """Write the words for `c++ @PATH`, over an older response file but over nothing else."""
    import os

    from torchlink.emit import cxx

    try:
        if path.exists() and not force:
            before = path.read_bytes().decode("latin-1")
            if before.strip() and not before.startswith(OWN_BEGINNINGS):
                raise WouldOverwriteError(
                    f"{path} is no response file of torchlink's; it was left as it is.",
                    hint="Name another file, or give --force to overwrite it.",
                )
        path.write_bytes(os.fsencode(cxx.response_file(plan, half)))
    except OSError as error:
        raise FileError(
            f"Cannot write {path}: {error.strerror}.", hint="Name a file that you may write."
        ) from error
