"""Python as a program embeds it: an interpreter's headers and its libpython."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NamedTuple

from torchlink.errors import ToolMissingError
from torchlink.libtorch.disk import is_file
from torchlink.libtorch.interpreter import asked
from torchlink.paths import data_dir

# Part of the project that `torchlink new embedded-python` writes: finds the shared libpython (`library`), or else how
# to get one (`advice`).
FIND_LIBRARY = "embedded-python/src/find_libpython.py"
ASK = """
import json
archive = os.path.join(sysconfig.get_config_var("LIBPL") or "", sysconfig.get_config_var("LIBRARY") or "")
print(json.dumps({
    "library": library,
    "advice": advice,
    "include": sysconfig.get_path("include"),
    "version": version,
    "archive": archive if archive.endswith(".a") and os.path.isfile(archive) else "",
    "needed": " ".join(sysconfig.get_config_var(name) or "" for name in ("MODLIBS", "LIBS", "SYSLIBS")),
}))
"""


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
    about = asked(str(python), source + ASK)
    include = Path(about["include"])
    if not is_file(include / "Python.h"):
        raise ToolMissingError(
            f"{python} has no headers: {include / 'Python.h'} is missing.",
            hint="Install them (Debian and Ubuntu: python3-dev), or name another interpreter.",
        )
    library, advice = about["library"], about["advice"]
    if not (library or about["archive"]):
        raise ToolMissingError(f"{python} has no libpython.", hint=f"{advice[:1].upper()}{advice[1:]}.")
    system = dict.fromkeys(flag[2:] for flag in shlex.split(about["needed"]) if flag.startswith("-l"))
    return Embedding(
        version=about["version"],
        include_dir=include,
        library=Path(library or about["archive"]),
        static=not library,
        system_libraries=() if library else tuple(system),
    )
