"""Which commands there are, and which modules hold them."""

from __future__ import annotations

# Command name -> module below torchlink.cli that holds its `app`. The order is the order of --help.
COMMANDS = {
    "find": "find",
    "flags": "flags",
    "c++": "cxx",
    "run": "run",
    "cmake": "cmake",
    "nim": "nim",
    "verify": "verify",
    "matrix": "matrix",
    "doctor": "doctor",
    "extract": "extract",
    "lint": "lint",
    "bundle": "bundle",
    "cache": "cache",
    "help": "help",
}
# Commands whose plain words need no typer, which takes longer to import than they take: see `cli.plain`.
WITHOUT_TYPER = {"find": "find_run", "flags": "flags_run", "lint": "lint_run"}
