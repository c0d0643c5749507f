"""`torchlink run`: run a program that was built without torchlink, with the library path set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

from torchlink.cli import options
from torchlink.cli.declaration import Command, Option, Positional
from torchlink.cli.output import answer
from torchlink.cli.planning import locate
from torchlink.errors import InexpressibleError, LibtorchUnusableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torchlink.libtorch.facts import Libtorch

EPILOG = """\b
Examples:
  torchlink run -- ./app model.pt
  torchlink run --libtorch /opt/libtorch ./app
  torchlink run --show ./app           # the command for a debugger or an IDE
"""
VARIABLES = {"linux": "LD_LIBRARY_PATH", "macos": "DYLD_LIBRARY_PATH"}


class RunArguments(NamedTuple):
    """The command line of `torchlink run`."""

    command: Annotated[
        tuple[str, ...], Positional("COMMAND...", "The program and its arguments.", show_default=False)
    ]
    libtorch: options.Libtorch = None
    python: options.Python = None
    show: Annotated[
        bool, Option("--show", "Print the command with its library path instead of running it.")
    ] = False


def run(arguments: RunArguments) -> int:
    """Run a program with libtorch's directories prepended to LD_LIBRARY_PATH (DYLD_LIBRARY_PATH on macOS).

    A program that was linked with torchlink's flags does not need this: it finds libtorch itself. The exit code is
    the program's, or 128 + N if signal N killed it.
    """
    import os

    from torchlink.process import replace

    libtorch = locate(arguments.libtorch, arguments.python)
    variables = environment(libtorch, os.environ)
    if not arguments.show:
        return replace(arguments.command, env=variables)
    import shlex

    changed = [f"{name}={value}" for name, value in variables.items() if os.environ.get(name) != value]
    answer(shlex.join(["env", *changed, *arguments.command]))
    return 0


def environment(libtorch: Libtorch, base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which the dynamic loader finds this libtorch and its companion directories.

    Raises:
        LibtorchUnusableError: it is not extracted, or built for another platform.
        InexpressibleError: one of its directories cannot be written in the variable.
    """
    from torchlink.libtorch.machine import this_machine
    from torchlink.toolchain.directories import is_system_dir

    here = this_machine()
    variable = VARIABLES.get(here.platform)
    if libtorch.packed or libtorch.platform != here.platform or variable is None:
        kind = "not extracted" if libtorch.packed else f"built for {libtorch.platform}"
        raise LibtorchUnusableError(
            f"{libtorch.root} is {kind}: no program can run with it on this machine.",
            hint=f"Extract it with `torchlink extract {libtorch.root} DIR` and use --libtorch DIR."
            if libtorch.packed and libtorch.platform == here.platform
            else "Name another libtorch with --libtorch.",
        )
    own = [libtorch.library_dir, *(companion.path for companion in libtorch.companion_dirs)]
    directories = [str(directory) for directory in own if not is_system_dir(directory)]
    split = next((directory for directory in directories if ":" in directory or ";" in directory), None)
    if split:
        raise InexpressibleError(
            f"{variable} cannot hold {split}: ':' and ';' separate its entries.",
            hint="Use a symlink to libtorch whose path has neither.",
        )
    before = base.get(variable)
    # The loader would search the current directory for an empty entry.
    value = ":".join((*directories, before) if before else directories)
    return {**base, variable: value} if value else dict(base)


COMMAND = Command(RunArguments, run, EPILOG, interspersed=False)
