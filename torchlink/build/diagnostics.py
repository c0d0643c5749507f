"""The lines of a compiler's, linker's or build tool's output that say what is wrong."""

from __future__ import annotations

import re

# Strongest first: a compiler's own word for an error, then what linkers, CMake and Nim say.
DECISIVE = (
    re.compile(r"\b(fatal error|internal compiler error): "),
    re.compile(r"\berror: |\bError: |CMake Error"),
    re.compile(r"undefined reference to|undefined symbol|cannot find -l|multiple definition of"),
    re.compile(r"cannot find|No such file or directory|[Kk]illed|No space left|out of memory|not found"),
)
# Collect2 and ninja repeat that something failed, which the reader knows.
EMPTY_WORDS = re.compile(r"ld returned \d+ exit status|build stopped|^make.*\*\*\*")
LONGEST = 300  # characters of a line that are shown


def decisive_lines(output: str, most: int = 5) -> tuple[str, ...]:
    """The first lines that name an error, at most `most`; the last lines where none does."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if not EMPTY_WORDS.search(line)]
    for pattern in DECISIVE:
        found = list(dict.fromkeys(line for line in telling if pattern.search(line)))
        if found:
            return tuple(line[:LONGEST] for line in found[:most])
    return tuple(line[:LONGEST] for line in lines[-most:])
