"""`torchlink flags`: the flags for one target on stdout, and nothing else there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from torchlink.cli import options
from torchlink.cli.declaration import Command, Option
from torchlink.cli.output import answer
from torchlink.cli.planning import locate, plan_for, say_notes
from torchlink.errors import UsageError, WouldOverwriteError
from torchlink.plan import PlanOptions

if TYPE_CHECKING:
    from torchlink.plan import LinkPlan

EPILOG = """\b
Examples:
  eval c++ main.cpp -o app $(torchlink flags)
  torchlink flags --response-file w.rsp && c++ main.cpp -o app @w.rsp
  c++ -c main.cpp $(torchlink flags --compile)
  torchlink flags --cpu --rpath origin=lib
  torchlink flags --pkg-config > torch.pc
"""
TARGETS = ("cxx", "cmake", "nim", "pkg-config", "json")
# How a response file by torchlink begins; anything else is a file of the user's.
HEAD = 4096  # bytes that tell whose a response file is
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


class FlagsArguments(NamedTuple):
    """The command line of `torchlink flags`."""

    libtorch: options.Libtorch = None
    python: options.Python = None
    cxx: Annotated[bool, Option("--cxx", "One shell-quoted line for a C++ compiler (the default).")] = False
    cmake: Annotated[bool, Option("--cmake", "A snippet for a CMakeLists.txt.")] = False
    nim: Annotated[bool, Option("--nim", "Lines for a nim.cfg.")] = False
    pkg_config: Annotated[bool, Option("--pkg-config", "A complete torch.pc.")] = False
    json: Annotated[bool, Option("--json", "The whole plan as one JSON object.")] = False
    compile: Annotated[bool, Option("--compile", "Only what a compile step needs.")] = False
    link: Annotated[bool, Option("--link", "Only what a link step needs.")] = False
    plan: Annotated[PlanOptions, options.PLAN] = PlanOptions()
    compiler: options.Compiler = None
    response_file: Annotated[
        Path | None,
        Option("--response-file", "Write a file for `c++ @PATH` instead of printing.", metavar="PATH"),
    ] = None
    force: Annotated[bool, Option("--force", "Let --response-file overwrite any file.")] = False


def flags(arguments: FlagsArguments) -> int:
    """Print the flags that compile and link a program against libtorch.

    The answer alone is on stdout, notes are on stderr. The flags go at the end of a command, behind sources
    and objects. For paths with spaces use eval, as below, or --response-file.
    """
    targets = [target for target in TARGETS if getattr(arguments, target.replace("-", "_"))] or ["cxx"]
    if len(targets) > 1:
        raise UsageError(f"--{' and --'.join(targets)} ask for two answers at once.", hint="Name one target.")
    if arguments.response_file and targets != ["cxx"]:
        raise UsageError(
            f"--response-file goes with --cxx, not with --{targets[0]}.", hint="Use only one of them."
        )
    phase = "both" if arguments.compile == arguments.link else "compile" if arguments.compile else "link"
    libtorch = locate(arguments.libtorch, arguments.python)
    plan = plan_for(libtorch, arguments.plan._replace(compiles=phase != "link"), arguments.compiler)
    if arguments.response_file:
        write_response_file(plan, phase, arguments.response_file, force=arguments.force)
    else:
        from torchlink.emit import emit

        answer(emit(plan, targets[0], phase))
    say_notes(plan)
    return 0


def write_response_file(plan: LinkPlan, phase: str, path: Path, *, force: bool) -> None:
    """Write the flags for `c++ @PATH`, over an older response file but over nothing else."""
    from torchlink.atomic import unwritable, write_file
    from torchlink.bounds import first_bytes
    from torchlink.emit import cxx

    try:
        if (
            path.is_file() and not force
        ):  # a pipe has nothing of the user's, and reading it would wait for ever
            before = first_bytes(path, HEAD).decode("latin-1")
            blank = len(before) < HEAD and not before.strip()
            if not blank and not before.startswith(OWN_BEGINNINGS):
                raise WouldOverwriteError(
                    f"{path} is no response file of torchlink's; it was left as it is.",
                    hint="Name another file, or give --force to overwrite it.",
                )
        write_file(path, os.fsencode(cxx.response_file(plan, phase)))
    except OSError as error:
        raise unwritable(path, error, "Name a file that you may write.") from error


COMMAND = Command(FlagsArguments, flags, EPILOG)
