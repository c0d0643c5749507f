"""torchlink's command lines in the pages of docs/ that show whole sessions are ones that torchlink accepts."""

from __future__ import annotations

import itertools
import re
import shlex

import pytest

from tests.conftest import REPOSITORY
from torchlink.cli import plain
from torchlink.cli.app import typer_command
from torchlink.cli.commands import command_for

# Every page with sessions: blocks in which a line that starts with "$ " was typed.
PAGES = ["docs/originals.md"]


def typed(page: str) -> list[list[str]]:
    """The command lines of torchlink in a page, as words."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [
        line.removeprefix("$ ")
        for block in blocks
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("$ ")
    ]
    found = []
    for line in lines:
        if "torchlink " not in line:
            continue
        tokens = shlex.shlex(line, posix=True, punctuation_chars=True)
        tokens.whitespace_split = True
        words = list(itertools.takewhile(lambda word: word not in {">", "|", "&&", ";"}, tokens))
        while re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if words[0] == "torchlink":
            found.append(words[1:])
    return found


@pytest.mark.parametrize("page", PAGES)
def test_the_command_lines_of_a_page_are_accepted(page: str) -> None:
    lines = typed(page)
    assert lines
    for words in lines:
        found = command_for(words)
        assert found is not None, words
        command, rest = found
        if (command.read(rest) if command.read else plain.read(command, rest)) is None:
            # Raises a usage error for what typer does not accept either.
            typer_command("x", command._replace(run=lambda _: 0)).main(args=list(rest), standalone_mode=False)
