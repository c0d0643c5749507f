"""Python as a program embeds it: an interpreter's headers and its libpython."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NamedTuple

from torchlink.errors import RunFailedError, ToolMissingError
from torchlink.libtorch.disk import is_file
from torchlink.paths import data_dir
from torchlink.process import run

TIMEOUT = 30.0  # seconds; an interpreter on a cold network disk is slow
# Part of the project that `torchlink new embedded-python` writes: prints the interpreter, its shared libpython and how
# to get one.
FIND_LIBRARY = "embedded-python/src/find_libpython.py"
ASK = """
print(sysconfig.get_path("include"))
print(version)
archive = os.path.join(sysconfig.get_config_var("LIBPL") or "", sysconfig.get_config_var("LIBRARY") or "")
print(archive if archive.endswith(".a") and os.path.isfile(archive) else "")
print(" ".join(sysconfig.get_config_var(name) or "" for name in ("MODLIBS", "LIBS", "SYSLIBS")))
"""
LINES = 7


class Embedding(NamedTuple):
    """What a program that embeds one interpreter is compiled and linked with."""

    version: str  # "3.11"
    include_dir: Path
    library: Path  # libpython, shared or static
    static: bool
    system_libraries: tuple[str, ...]  # those that a static one needs: "m", "dl"


def embedding(python: Path | str) -> Embedding:
    """Return what embedding an interpreter takes; it is started without site-packages, for its `sysconfig`.

    Raises:
        ToolMissingError: it does not start, or has no headers or no libpython.
    """
    source = (data_dir("examples") / FIND_LIBRARY).read_text(encoding="utf-8")
    try:
        done = run([str(python), "-I", "-S", "-c", source + ASK], timeout=TIMEOUT)
    except (ToolMissingError, RunFailedError) as error:
        raise ToolMissingError(
            f"{python} does not start: {error.message}", hint="Name an interpreter."
        ) from error
    lines = done.stdout.splitlines()
    if done.returncode != 0 or len(lines) != LINES:
        raise ToolMissingError(f"{python}: not a Python 3 interpreter.", hint="Name an interpreter.")
    _, library, advice, include, version, archive, needed = lines
    if not is_file(Path(include) / "Python.h"):
        raise ToolMissingError(
            f"{python} has no headers: {Path(include) / 'Python.h'} is missing.",
            hint="Install them (Debian and Ubuntu: python3-dev), or name another interpreter.",
        )
    if not (library or archive):
        raise ToolMissingError(f"{python} has no libpython.", hint=f"{advice[:1].upper()}{advice[1:]}.")
    system = dict.fromkeys(flag[2:] for flag in shlex.split(needed) if flag.startswith("-l"))
    return Embedding(
        version=version,
        include_dir=Path(include),
        library=Path(library or archive),
        static=not library,
        system_libraries=() if library else tuple(system),
    )
