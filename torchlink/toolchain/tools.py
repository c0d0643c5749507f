"""The other programs of a build (CMake, Ninja, Nim, ccache, pkg-config, linkers): where, and how old."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from torchlink.bounds import whole_number
from torchlink.process import run, which
from torchlink.toolchain.facts import Tool
from torchlink.toolchain.remember import identity_of, remembered

# Programs that answer to a tool's name, the usual one first.
PROGRAMS = {
    "ninja": ("ninja", "ninja-build"),
    "pkg-config": ("pkg-config", "pkgconf"),
    "cmake": ("cmake", "cmake3"),
    "lld": ("ld.lld", "lld"),
}
VERSION = re.compile(r"\d+(?:\.\d+)+")


def find_tool(name: str) -> Tool | None:
    """The program of that name on PATH with the version that it prints, or None where there is none.

    A program that prints no version has the empty one: `()`.
    """
    program = next((path for path in map(which, PROGRAMS.get(name, (name,))) if path), None)
    if program is None:
        return None
    answer: Any = remembered("tool", f"{program}\0{identity_of(program)}", lambda: _ask(program))
    return Tool(name=name, path=Path(program), version=tuple(answer["version"]))


def read_version(text: str) -> tuple[int, ...]:
    """The first dotted number of what a program printed: `Nim Compiler Version 1.6.10` -> (1, 6, 10)."""
    found = VERSION.search(text)
    return tuple(whole_number(part) for part in found.group().split(".")) if found else ()


def _ask(program: str) -> dict[str, object]:
    done = run((program, "--version"), env={**os.environ, "LC_ALL": "C"}, timeout=60)
    return {"version": read_version(done.stdout)}
