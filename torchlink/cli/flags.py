"""`torchlink flags`: print the flags for one target on stdout, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from torchlink.cli import options
from torchlink.cli.declaration import Command, Option, Positional
from torchlink.cli.output import answer, note
from torchlink.cli.planning import interpreter, locate, plan_for, print_notes
from torchlink.emit import TARGETS, emit
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
  eval c++ module.cpp -o module.so $(torchlink flags --python-extension --tensors --rpath origin=torch/lib)
  eval c++ ops.cpp -o libops.so $(torchlink flags --plugin --soname libops.so)
  eval c++ main.cpp -o app $(torchlink flags --whole-archive libops.a)
  torchlink flags --pkg-config > torch.pc
  torchlink flags --embed-python .venv/bin/python
"""
HEAD = 4096  # bytes of a file that are read to recognise a response file of torchlink's
# How such a file begins; anything else belongs to the user.
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
    "-shared",
    "-dynamiclib",
    "/DLL",
    "-fPIC",
)


class FlagsArguments(NamedTuple):
    """The command line of `torchlink flags`."""

    libtorch: options.Libtorch = None
    python: options.Python = None
    cxx: Annotated[bool, Option("--cxx", "Print one shell-quoted line for a C++ compiler (the default).")] = (
        False
    )
    cmake: Annotated[bool, Option("--cmake", "Print a snippet for a CMakeLists.txt.")] = False
    nim: Annotated[bool, Option("--nim", "Print lines for a nim.cfg.")] = False
    pkg_config: Annotated[bool, Option("--pkg-config", "Print a complete torch.pc.")] = False
    json: Annotated[bool, Option("--json", "Print the whole link plan as one JSON object.")] = False
    compile: Annotated[bool, Option("--compile", "Print only the flags for compiling.")] = False
    link: Annotated[bool, Option("--link", "Print only the flags for linking.")] = False
    plan: Annotated[PlanOptions, options.PLAN] = PlanOptions()
    embed_python: Annotated[
        bool,
        Option(
            "--embed-python",
            "For a program that embeds one Python interpreter, EXE or the one that libtorch belongs to: its headers, "
            "libpython (a static one whole), libtorch_python, and exported symbols.",
        ),
    ] = False
    exe: Annotated[str | None, Positional("[EXE]", "The interpreter of --embed-python.")] = None
    compiler: options.Compiler = None
    response_file: Annotated[
        Path | None,
        Option("--response-file", "Write the flags to PATH, to be used as `c++ … @PATH`.", metavar="PATH"),
    ] = None
    force: Annotated[bool, Option("--force", "Let --response-file overwrite any file.")] = False


def flags(arguments: FlagsArguments) -> int:
    """Print the flags that compile and link a program against libtorch.

    The flags alone are printed on stdout; notes go to stderr. Put them after sources and objects, at the end of the
    command. For paths with spaces use eval, as below, or --response-file.
    """
    targets = [target for target in TARGETS if getattr(arguments, target.replace("-", "_"))] or ["cxx"]
    if len(targets) > 1:
        raise UsageError(f"--{' and --'.join(targets)} cannot be combined.", hint="Use only one of them.")
    if arguments.response_file and targets != ["cxx"]:
        raise UsageError(
            f"--response-file works only with --cxx, not with --{targets[0]}.", hint="Use only one of them."
        )
    phase = "both" if arguments.compile == arguments.link else "compile" if arguments.compile else "link"
    if arguments.exe and not arguments.embed_python:
        raise UsageError(
            f"Unexpected argument: {arguments.exe}.", hint="`torchlink flags` takes options only; see --help."
        )
    # The torch of an interpreter that is embedded, unless another one is named.
    python = arguments.python or (None if arguments.libtorch else arguments.exe)
    libtorch = locate(arguments.libtorch, python)
    embedded = (arguments.exe or arguments.python or "") if arguments.embed_python else None
    wanted = arguments.plan._replace(compiles=phase != "link", embed_python=embedded)
    if wanted.python_extension:
        wanted = wanted._replace(python=interpreter(arguments.python))
    if phase == "compile":
        wanted = wanted._replace(whole_archive=())  # they may not be built yet
    plan = plan_for(libtorch, wanted, arguments.compiler)
    if arguments.response_file:
        write_response_file(plan, phase, arguments.response_file, force=arguments.force)
    else:
        answer(emit(plan, targets[0], phase))
    print_notes(plan)
    if wanted.plugin and not wanted.soname and phase != "compile" and targets != ["cmake"]:
        note("the plugin gets no soname, which is its file's name: add --soname libNAME.so.")
    return 0


def write_response_file(plan: LinkPlan, phase: str, path: Path, *, force: bool) -> None:
    """Write the flags for `c++ @PATH`; overwrite an older response file, but no other file."""
    from torchlink.atomic import unwritable, write_file
    from torchlink.bounds import first_bytes
    from torchlink.emit import cxx

    try:
        if path.is_file() and not force:  # reading a FIFO would block, and it holds nothing to be lost
            before = first_bytes(path, HEAD).decode("latin-1")
            blank = len(before) < HEAD and not before.strip()
            if not blank and not before.startswith(OWN_BEGINNINGS):
                raise WouldOverwriteError(
                    f"{path} exists and is not a response file of torchlink's.",
                    hint="Name another file, or use --force to overwrite it.",
                )
        write_file(path, os.fsencode(cxx.response_file(plan, phase)))
    except OSError as error:
        raise unwritable(path, error, "Name a file that you can write.") from error


COMMAND = Command(FlagsArguments, flags, EPILOG)
