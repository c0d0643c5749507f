"""The headers that a build has read, and whether they are still as they were then.

An entry of the cache is named by what is known before anything is compiled. Which of libtorch's thousands of
headers the sources reach only the compiler knows: it writes their names down (`-MD`, GCC's manual, "Preprocessor
Options"), and the entry keeps them with one hash over their sizes and modification times.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LIST = "headers"  # the file of an entry that names them, one a line
WORD = re.compile(r"(?:\\.|[^\s\\])+", re.DOTALL)
ESCAPED = re.compile(r"\\([ #:\\])|\$(\$)")


def prerequisites(text: str) -> list[str]:
    """The files that a rule for make names behind its target, as GCC and clang write one; phony rules follow it."""
    rule = text.replace("\\\r\n", " ").replace("\\\n", " ").lstrip().partition("\n")[0]
    words = WORD.findall(rule)
    target = next((number for number, word in enumerate(words) if word.endswith(":")), len(words))
    return [ESCAPED.sub(r"\1\2", word) for word in words[target + 1 :]]


def read_in(directory: Path, sources: Path) -> list[str]:
    """The headers that all dependency files below a build directory name; sorted, absolute paths.

    Left out is what is in that directory, which goes, and in `sources`, whose texts are in the entry's key. Empty
    where the compiler wrote nothing.
    """
    found: set[str] = set()
    for file in directory.rglob("*.d"):
        text = file.read_text(encoding="utf-8", errors="surrogateescape")
        found.update(map(os.path.normpath, filter(os.path.isabs, prerequisites(text))))
    own = tuple(f"{place}{os.sep}" for place in (directory, directory.resolve(), sources, sources.resolve()))
    return sorted(path for path in found if "\n" not in path and not path.startswith(own))


def stamp(paths: Iterable[str], since: int | None = None) -> str:
    """One hash over the sizes and modification times of files.

    Args:
        paths: the files; one that is not there counts, too.
        since: nanoseconds since the epoch. A file that was changed from then until now was perhaps read before
            it was: the hash is then none that a later look can give.
    """
    stat = os.stat  # a thousand of them on every warm start
    marks = []
    for path in paths:
        try:
            status = stat(path)
        except OSError:
            marks.append("")
        else:
            marks.append(f"{status.st_size}:{status.st_mtime_ns}")
            if since is not None and since <= status.st_mtime_ns <= _now():
                return "changed while it was read"
    return hashlib.sha256("\n".join(marks).encode()).hexdigest()


def _now() -> int:
    import time

    return time.time_ns()
