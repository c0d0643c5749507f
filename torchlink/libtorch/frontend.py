"""The Python environment outside an isolated build: that of the interpreter which runs pip, build or uv.

These build a package in an environment of its own, without the torch that the package is for. Where they differ:

- pip starts its own interpreter, and hides site-packages with PYTHONPATH and PYTHONNOUSERSITE;
- `python -m build` starts the interpreter of a virtual environment in the temporary directory;
- uv does so too, is no Python program, and sets VIRTUAL_ENV to that environment.

So the process that started the build is found among the ancestors of this one (Linux).
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torchlink.libtorch.disk import is_dir, is_file, read_bytes
from torchlink.libtorch.environment import read_pyvenv, running_sites
from torchlink.libtorch.resolve import unique

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torchlink.libtorch.environment import Environment

LARGEST = 4 << 20  # bytes of a process's arguments or environment that are read
MOST = 100  # ancestors that are looked at
UV = ("uv", "uvx")
ISOLATED = "UV_INTERNAL__BUILD_DIR"  # a variable of the processes in uv's isolated environments
HOOKS = "_in_process.py"  # the script of pip's and build's processes in isolated environments


class Process(NamedTuple):
    """A running process, as it was started."""

    arguments: tuple[str, ...]
    variables: Mapping[str, str]
    directory: str  # its working directory

    @property
    def program(self) -> str:
        """The name of the program, without its directory."""
        return os.path.basename(self.arguments[0]) if self.arguments else ""  # noqa: PTH119 - text


def outer_environment() -> Environment:
    """Return the environment of the interpreter that runs the front end; its torch is the one to build for.

    The directories of the isolated environment come last: a build may require a torch of its own.
    """
    from torchlink.libtorch.interpreter import environment_of

    process = frontend()
    python = (outer_python(process) if process else None) or creator() or sys.executable
    # What pip has hidden is put back, for this look-up and for an interpreter that it starts.
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "PYTHONNOUSERSITE")}
    assign(process.variables if process else {}, before)
    try:
        environment = environment_of(python, thorough=True)
    finally:
        assign(before, before)
    own = environment.python if is_dir(python) else Path(python)
    return environment._replace(python=own, sites=tuple(unique([*environment.sites, *running_sites()])))


def assign(values: Mapping[str, str | None], names: Mapping[str, object]) -> None:
    """Set variables of this process; one that has no value is removed."""
    for name in names:
        value = values.get(name)
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def frontend() -> Process | None:
    """Return pip, build or uv: the first ancestor that is one, outside the isolated build that this process is in."""
    inside = False
    for process in ancestors():
        if ISOLATED in process.variables or any(each.endswith(HOOKS) for each in process.arguments[:4]):
            inside = True
        elif inside and (process.program in UV or process.program.startswith(("python", "pypy"))):
            return process
    return None


def outer_python(process: Process) -> str | None:
    """Return the interpreter, or the environment's prefix, that a front end builds for."""
    if process.program in UV:
        return asked_of_uv(process)
    python = process.arguments[0]
    named = str(Path(process.directory, python)) if "/" in python else python
    return shutil.which(named, path=process.variables.get("PATH"))


def asked_of_uv(process: Process) -> str | None:
    """Return what uv's arguments or variables name, else the `.venv` of its project."""
    named = argument_of(process.arguments, ("--python", "-p")) or process.variables.get("UV_PYTHON")
    for each in (named, process.variables.get("VIRTUAL_ENV"), process.variables.get("CONDA_PREFIX")):
        place = Path(process.directory, each).expanduser() if each else None
        if place is not None and place.exists():
            return str(place)
        found = shutil.which(each, path=process.variables.get("PATH")) if each else None
        if found:
            return found
    here = Path(process.directory)
    for directory in (here, *here.parents):
        if is_file(directory / ".venv" / "pyvenv.cfg"):
            return str(directory / ".venv")
    return None


def argument_of(arguments: Sequence[str], options: Sequence[str]) -> str | None:
    """Return the value of an option on a command line."""
    for number, each in enumerate(arguments):
        name, equals, value = each.partition("=")
        if name in options and equals:
            return value
        if each in options and number + 1 < len(arguments):
            return arguments[number + 1]
    return None


def creator() -> str | None:
    """Return the interpreter that created this virtual environment in the temporary directory, as venv records it."""
    command = (read_pyvenv(Path(sys.prefix)) or {}).get("command", "")
    python, found, _ = command.partition(" -m venv ")
    return python if found and Path(sys.prefix).name.startswith("build-env-") and is_file(python) else None


def ancestors() -> Iterator[Process]:
    """Yield the parent of this process, its parent, and so on; nothing on systems without /proc."""
    number = os.getppid()
    for _ in range(MOST):
        base = Path("/proc", str(number))
        try:
            directory = os.readlink(base / "cwd")  # noqa: PTH115 - text
            parent = (base / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1]
            number = int(parent)
        except (OSError, ValueError, IndexError):
            return
        variables = (each.partition("=") for each in strings(base / "environ"))
        yield Process(strings(base / "cmdline"), {name: value for name, _, value in variables}, directory)
        if number <= 0:
            return


def strings(file: Path) -> tuple[str, ...]:
    """Return the strings of a file of /proc that end with a null byte."""
    return tuple(os.fsdecode(each) for each in read_bytes(file, LARGEST).split(b"\0") if each)
