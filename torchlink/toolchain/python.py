"""Python as a build needs it: the headers of an interpreter, and what its extension modules are called."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torchlink.errors import RunFailedError, ToolMissingError
from torchlink.libtorch.disk import is_file
from torchlink.process import run

TIMEOUT = 30.0  # seconds; an interpreter on a cold network disk is slow
# An interpreter knows its own paths: distributions, frameworks and free-threaded builds each have their own.
ASK = """
import sysconfig
for name in ("include", "platinclude"):
    print(sysconfig.get_path(name))
print(sysconfig.get_config_var("EXT_SUFFIX"))
"""


class PythonHeaders(NamedTuple):
    """What an extension module for one interpreter is compiled with."""

    include_dirs: tuple[Path, ...]
    suffix: str  # of a module's file: `.cpython-311-x86_64-linux-gnu.so`


def python_headers(python: Path | str) -> PythonHeaders:
    """Return an interpreter's headers; it is started, without site-packages, and imports only its `sysconfig`.

    Raises:
        ToolMissingError: it has no headers, or does not start.
    """
    try:
        done = run([str(python), "-I", "-S", "-c", ASK], timeout=TIMEOUT)
    except (ToolMissingError, RunFailedError) as error:
        raise ToolMissingError(
            f"{python} does not start: {error.message}", hint="Name an interpreter with --python."
        ) from error
    lines = done.stdout.splitlines()
    if done.returncode != 0 or len(lines) != 3:
        raise ToolMissingError(f"{python} is no Python 3.", hint="Name an interpreter with --python.")
    directories = tuple(dict.fromkeys(Path(line) for line in lines[:2]))
    if not any(is_file(directory / "Python.h") for directory in directories):
        raise ToolMissingError(
            f"{python} has no headers: {directories[0] / 'Python.h'} is missing.",
            hint="Install them (Debian and Ubuntu: python3-dev), or name another interpreter with --python.",
        )
    return PythonHeaders(directories, lines[2])
