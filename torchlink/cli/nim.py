"""`torchlink nim`: a Nim project that builds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from torchlink.cli.options import JsonOption, LibtorchOption, PythonOption
from torchlink.cli.output import answer, say
from torchlink.cli.plan_options import AotiOption, CpuOption, HeadersOption
from torchlink.cli.planning import locate, plan_for, say_notes
from torchlink.shown import visible

if TYPE_CHECKING:
    from torchlink.libtorch.facts import Libtorch

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, help="Start a Nim project."
)

EPILOG_INIT = """\b
Examples:
  torchlink nim init app && cd app && nim cpp main.nim && ./main model.pt 1 3 224 224
  torchlink nim init app --shared          (for a repository that others build, too)
  torchlink flags --nim > nim.cfg          (after libtorch has changed)
"""


@app.callback()
def group() -> None:
    """Make typer keep `init` a command of its own while it is the only one."""


@app.command(epilog=EPILOG_INIT)
def init(
    directory: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Where to; it is made where it is missing.")
    ] = Path(),
    *,
    shared: Annotated[
        bool,
        typer.Option(
            "--shared",
            help="For a shared repository: no paths in it; its config.nims calls torchlink at every compile.",
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that stand there.")] = False,
    libtorch: LibtorchOption = None,
    python: PythonOption = None,
    cpu: CpuOption = False,
    headers: HeadersOption = "system",
    aoti: AotiOption = False,
    json: JsonOption = False,
) -> None:
    """Write a Nim project that builds: a small typed wrapper, a program that runs a model, a .nimble file.

    Its nim.cfg holds the words for this machine's libtorch, and git ignores it. With --shared there is a
    config.nims instead that asks torchlink whenever Nim runs, so that everyone gets the words for theirs.
    """
    from torchlink.build.project import write_project
    from torchlink.emit.nim_project import project, shared_project
    from torchlink.errors import UsageError
    from torchlink.libtorch.machine import is_foreign
    from torchlink.libtorch.packed import check_unpacked
    from torchlink.plan import Wishes

    name = directory.absolute().resolve().name
    if shared:
        if libtorch or python:
            raise UsageError(
                "--shared keeps every machine's paths out of the project, --libtorch and --python name one.",
                hint="Leave them away here; set TORCHLINK_LIBTORCH when Nim runs.",
            )
        wished = {"--cpu": cpu, "--headers=after": headers == "after", "--aoti": aoti}
        files = shared_project(name, tuple(option for option, wanted in wished.items() if wanted))
        notes = None
    else:
        found = locate(libtorch, python)
        check_unpacked(found)
        notes = plan_for(found, Wishes(cpu_only=cpu, headers=headers, aoti=aoti), None)
        files = project(notes, name)
    written = write_project(files, directory, force=force)
    if json:
        import json as writer

        fields = {"schema": 1, "directory": str(directory), "files": [str(path) for path in written]}
        answer(writer.dumps(fields, indent=2))
    else:
        for path in written:
            say(visible(str(path)))
    if notes:
        say_notes(notes)
    import shlex

    place = f"torchlink: next: cd {shlex.quote(str(directory))} &&"
    if notes and is_foreign(notes.libtorch):
        command = f"{place} {cross_command(notes.libtorch)}"
    else:
        command = f"{place} nim cpp main.nim && ./main model.pt"
    say(visible(command), err=True)


def cross_command(libtorch: Libtorch) -> str:
    """What compiles the program for a libtorch of another machine, and runs it where that is possible here."""
    import shlex

    from torchlink.emit.cross import nim_words
    from torchlink.toolchain.cross import default_compiler
    from torchlink.toolchain.emulator import command_for

    if libtorch.platform != "linux":
        return "nim cpp main.nim"
    compiler = default_compiler(libtorch)
    run = command_for(libtorch.arch, compiler) if compiler else None
    words = shlex.join(("nim", "cpp", *nim_words(libtorch, compiler), "main.nim"))
    return f"{words} && {run} ./main model.pt" if run else words
