"""The list of commands and the modules that hold them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from torchlink.cli.declaration import Command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchlink.cli.declaration import CommandGroup

# Command name -> module of torchlink.cli that holds its `COMMAND`, in the order of --help.
COMMANDS = {
    "find": "find",
    "flags": "flags",
    "c++": "cxx",
    "run": "run",
    "cmake": "cmake",
    "nim": "nim",
    "new": "new",
    "capi": "capi",
    "verify": "verify",
    "report": "report",
    "matrix": "matrix",
    "doctor": "doctor",
    "extract": "extract",
    "lint": "lint",
    "explain": "explain",
    "bundle": "bundle",
    "docs": "docs",
    "cache": "cache",
    "help": "help",
}


def declared(name: str) -> Command | CommandGroup:
    """Import a command's module and return its declaration."""
    found: Command | CommandGroup = importlib.import_module(f"torchlink.cli.{COMMANDS[name]}").COMMAND
    return found


def command_for(arguments: Sequence[str]) -> tuple[Command, Sequence[str]] | None:
    """Return the command that a command line names and the arguments after it; None if typer has to find it."""
    if not arguments or arguments[0] not in COMMANDS:
        return None
    found = declared(arguments[0])
    if isinstance(found, Command):
        return found, arguments[1:]
    inner = found.commands.get(arguments[1]) if len(arguments) > 1 else None
    return None if inner is None else (inner, arguments[2:])
