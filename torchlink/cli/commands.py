"""Which commands there are, and which modules hold them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from torchlink.cli.declaration import Command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchlink.cli.declaration import CommandGroup

# Command name -> module below torchlink.cli that holds its `COMMAND`. The order is the order of --help.
COMMANDS = {
    "find": "find",
    "flags": "flags",
    "c++": "cxx",
    "run": "run",
    "cmake": "cmake",
    "nim": "nim",
    "verify": "verify",
    "report": "report",
    "matrix": "matrix",
    "doctor": "doctor",
    "extract": "extract",
    "lint": "lint",
    "bundle": "bundle",
    "cache": "cache",
    "help": "help",
}


def declared(name: str) -> Command | CommandGroup:
    """What a command's module declares."""
    found: Command | CommandGroup = importlib.import_module(f"torchlink.cli.{COMMANDS[name]}").COMMAND
    return found


def command_for(words: Sequence[str]) -> tuple[Command, Sequence[str]] | None:
    """The command that a command line begins with, and the flags behind it; None where typer must find it."""
    if not words or words[0] not in COMMANDS:
        return None
    found = declared(words[0])
    if isinstance(found, Command):
        return found, words[1:]
    inner = found.commands.get(words[1]) if len(words) > 1 else None
    return None if inner is None else (inner, words[2:])
