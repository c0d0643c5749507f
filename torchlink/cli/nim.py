"""`torchlink nim`: start a Nim project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from torchlink.cli import options
from torchlink.cli.declaration import Command, CommandGroup, Option, Positional, command_line
from torchlink.cli.output import answer, say
from torchlink.cli.planning import locate, plan_for, print_notes
from torchlink.plan import PlanOptions
from torchlink.shown import quoted, visible

if TYPE_CHECKING:
    from torchlink.libtorch.facts import Libtorch

EPILOG_INIT = """\b
Examples:
  torchlink nim init app && cd app && nim cpp main.nim && ./main model.pt 1 3 224 224
  torchlink nim init app --shared          # for a repository that is built on several machines
  torchlink flags --nim > nim.cfg          # after libtorch was upgraded or replaced
"""


class NimInitArguments(NamedTuple):
    """The command line of `torchlink nim init`."""

    directory: Annotated[Path, Positional("[DIR]", "The project's directory; it is created if missing.")] = (
        Path()
    )
    shared: Annotated[
        bool,
        Option(
            "--shared",
            "For a shared repository: write no paths; config.nims calls torchlink at every compilation.",
        ),
    ] = False
    force: Annotated[bool, Option("--force", "Overwrite existing files.")] = False
    libtorch: options.Libtorch = None
    python: options.Python = None
    plan: Annotated[PlanOptions, options.PROJECT] = PlanOptions()
    json: options.Json = False


def init(arguments: NimInitArguments) -> int:
    """Write a Nim project that builds: a small typed wrapper, a program that runs a model, a .nimble file.

    Its nim.cfg contains the flags for this machine's libtorch, and git ignores it. With --shared, a config.nims
    runs torchlink at every compilation instead, so that each machine gets the flags for its own libtorch.
    """
    from torchlink.errors import UsageError
    from torchlink.libtorch.machine import is_foreign
    from torchlink.libtorch.tree import check_unpacked
    from torchlink.projects.nim import project, shared_project
    from torchlink.projects.writing import write_project

    directory = arguments.directory
    name = directory.absolute().resolve().name
    if arguments.shared:
        if arguments.libtorch or arguments.python:
            raise UsageError(
                "--shared writes no paths: --libtorch and --python cannot be used with it.",
                hint="Omit them, and set TORCHLINK_LIBTORCH when Nim runs.",
            )
        files = shared_project(name, tuple(command_line(options.PROJECT, arguments.plan)))
        plan = None
    else:
        found = locate(arguments.libtorch, arguments.python)
        check_unpacked(found)
        plan = plan_for(found, arguments.plan, None)
        files = project(plan, name)
    written = write_project(files, directory, force=arguments.force)
    if arguments.json:
        import json

        fields = {"schema": 1, "directory": str(directory), "files": [str(path) for path in written]}
        answer(json.dumps(fields, indent=2))
    else:
        for path in written:
            say(visible(str(path)))
    if plan:
        print_notes(plan)

    place = f"torchlink: next: cd {quoted(str(directory))} &&"
    if plan and is_foreign(plan.libtorch):
        command = f"{place} {cross_command(plan.libtorch)}"
    else:
        command = f"{place} nim cpp main.nim && ./main model.pt"
    say(visible(command), err=True)
    return 0


def cross_command(libtorch: Libtorch) -> str:
    """Return the command that cross-compiles the program for a libtorch, and runs it if that is possible here."""
    import shlex

    from torchlink.emit.cross import nim_switches
    from torchlink.toolchain.cross import default_compiler
    from torchlink.toolchain.emulator import command_for

    if libtorch.platform != "linux":
        return "nim cpp main.nim"
    compiler = default_compiler(libtorch)
    run = command_for(libtorch.arch, compiler) if compiler else None
    words = shlex.join(("nim", "cpp", *nim_switches(libtorch, compiler), "main.nim"))
    return f"{words} && {run} ./main model.pt" if run else words


COMMAND = CommandGroup({"init": Command(NimInitArguments, init, EPILOG_INIT)}, help="Start a Nim project.")
