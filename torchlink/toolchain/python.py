"""Python as a build needs it: the headers of an interpreter, and what its extension modules are called."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torchlink.errors import ToolMissingError
from torchlink.libtorch.disk import is_file
from torchlink.libtorch.interpreter import asked

# An interpreter knows its own paths: distributions, frameworks and free-threaded builds each have their own.
ASK = """
import json, sysconfig
print(json.dumps({
    "include": [sysconfig.get_path(name) for name in ("include", "platinclude")],
    "suffix": sysconfig.get_config_var("EXT_SUFFIX"),
}))
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
    about = asked(str(python), ASK)
    directories = tuple(dict.fromkeys(map(Path, about["include"])))
    if not any(is_file(directory / "Python.h") for directory in directories):
        raise ToolMissingError(
            f"{python} has no headers: {directories[0] / 'Python.h'} is missing.",
            hint="Install them (Debian and Ubuntu: python3-dev), or name another interpreter with --python.",
        )
    return PythonHeaders(directories, about["suffix"])
