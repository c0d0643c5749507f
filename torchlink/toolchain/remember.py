"""Answers of programs, kept on disk under the program's identity, so that a warm call starts no process."""

from __future__ import annotations

import json
import os
import zlib
from typing import TYPE_CHECKING

from torchlink.bounds import LONGEST_JSON, read_whole
from torchlink.errors import FileError
from torchlink.paths import distrust, kept_in, made_in

if TYPE_CHECKING:
    from collections.abc import Callable

FORM = 3  # raise it whenever the shape of an answer changes


def identity_of(path: str) -> str:
    """What changes whenever the program at `path` does: its real path, size and modification time.

    A symlink (`c++`, which the alternatives system points elsewhere) counts through its target.
    """
    real = os.path.realpath(path)
    status = os.stat(real)  # noqa: PTH116 - on the path of every start: no Path objects
    return f"{real}:{status.st_size}:{status.st_mtime_ns}"


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
