"""The command lines on the documentation's pages.

A block of `sh`, `bash` or `console` is run by `test_blocks.py`, unless the line above it is a mark:

    <!-- run by tests/capi/test_capi.py -->       another test runs these commands (or several: tests/a, tests/b)
    <!-- not run: it downloads gigabytes -->      nothing does, for this reason

Both kinds of marked blocks are still read: see `test_commands.py`.
"""

from __future__ import annotations

import functools
import re
import shlex
from typing import NamedTuple

from tests.conftest import REPOSITORY
from torchlink.cli.docs import all_pages

SHELL = ("sh", "bash", "console")
MARK = re.compile(
    r"<!-- (run by (?P<test>tests/\S+(?:, tests/\S+)*)|read by (?P<reader>tests/\S+)|not run: (?P<reason>.+)) -->"
)
FENCE = re.compile(r"( *)```(.*)")
ASSIGNMENT = re.compile(r"[A-Za-z_]+=")


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    line: int
    info: str
    lines: tuple[str, ...]
    mark: re.Match[str] | None

    @property
    def commands(self) -> list[str]:
        """The lines that are typed, those with a backslash at their end joined with the next."""
        text = "\n".join(self.lines).replace("\\\n", " ")
        if self.info == "console":
            return [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]
        return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def blocks_of(page: str, text: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    found: list[Block] = []
    above = ""
    opened: tuple[int, str, re.Match[str] | None] | None = None
    inside: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.fullmatch(line)
        if fence and opened is None:
            opened, inside = (number, fence[2], MARK.fullmatch(above)), []
        elif fence and opened is not None:
            found.append(Block(page, opened[0], opened[1], tuple(inside), opened[2]))
            opened = None
        else:
            inside.append(line)
        above = line.strip()
    assert opened is None, f"{page} ends inside of a block"
    return found


@functools.cache
def texts() -> dict[str, str]:
    """Return the text of every page by its name, and README.md."""
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    return {"README.md": readme, **{page.name: page.text() for page in all_pages()}}


@functools.cache
def all_blocks() -> list[Block]:
    """Return the blocks of every page."""
    return [block for page, text in texts().items() for block in blocks_of(page, text)]


def torchlink_lines(command: str) -> list[list[str]]:
    """Return the arguments of each `torchlink` in a shell's command line, also inside of `$(…)`."""
    command = re.sub(r"<([a-z_]+)>", r"\1", command)  # a placeholder
    found = []
    for inner in re.findall(r"\$\((torchlink [^()]*)\)", command):
        found += torchlink_lines(inner)
    outer = re.sub(r"\$\([^()]*\)", "SUBSTITUTED", re.sub(r'"\$\([^()]*\)"', "SUBSTITUTED", command))
    tokens = shlex.shlex(outer, posix=True, punctuation_chars="|&;<>")
    tokens.whitespace_split = True
    words: list[str] = []
    for word in [*tokens, ";"]:
        if not set(word) <= set("|&;<>"):
            words.append(word)
            continue
        while words and (ASSIGNMENT.match(words[0]) or words[0] in {"RUN", "eval", "env", "-i"}):
            words.pop(0)
        if words[:1] == ["torchlink"]:
            found.append(words[1:])
        words = [] if not set(word) <= set("<>") else ["a redirection's file"]
    return found
