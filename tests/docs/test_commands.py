"""Every command line of torchlink on the documentation's pages is one that torchlink accepts."""

from __future__ import annotations

import contextlib
import re
import sys
from typing import Any

import pytest
import typer

from tests.conftest import REPOSITORY
from tests.docs.blocks import SHELL, all_blocks, texts, torchlink_lines
from torchlink.cli import plain
from torchlink.cli.app import typer_command
from torchlink.cli.commands import command_for

# click's, wherever this release of typer keeps click
MissingParameter: type[Any] = sys.modules[typer.BadParameter.__module__].MissingParameter
BLOCKS = [block for block in all_blocks() if block.info in SHELL]
INLINE = re.compile(r"(?<!`)`(torchlink (?:[^`]|(?<=\\)`)*)`(?!`)")
# A synopsis, or a command named without its arguments: not a command line to type.
SYNOPSIS = re.compile(
    r"…|\.\.\.|\[|--TARGET|\bCOMMAND\b|\||^torchlink [\w+]+$|^torchlink (?:cmake|nim|cache|report) \w+$"
)


def accepted(words: list[str]) -> bool:
    """Whether torchlink accepts a command line; a usage error is raised for one that it does not."""
    if words[:1] in (["--version"], ["--install-completion"], ["--show-completion"], ["--help"]):
        return True
    found = command_for(words)
    assert found is not None, words
    command, rest = found
    if (command.read(rest) if command.read else plain.read(command, rest)) is None:
        typer_command("x", command._replace(run=lambda _: 0)).main(args=list(rest), standalone_mode=False)
    return True


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}:{block.line}")
def test_the_command_lines_of_a_block_are_accepted(block: object) -> None:
    for command in block.commands:  # type: ignore[attr-defined]
        for words in torchlink_lines(command):
            assert accepted(words)


@pytest.mark.parametrize("page", [name for name, text in texts().items() if INLINE.search(text)])
def test_the_command_lines_in_sentences_and_tables_are_accepted(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", texts()[page], flags=re.MULTILINE | re.DOTALL)
    for line in INLINE.findall(text):
        typed = " ".join(line.replace("\\|", "|").split())
        if not SYNOPSIS.search(typed):
            for words in torchlink_lines(typed):
                with contextlib.suppress(MissingParameter):  # options alone, in a sentence about them
                    assert accepted(words), typed


def test_a_command_that_does_not_exist_is_found() -> None:
    assert torchlink_lines(
        "eval c++ a.cpp $(torchlink flags --cxx) && CXX=x torchlink c++ b.cpp > out | less"
    ) == [
        ["flags", "--cxx"],
        ["c++", "b.cpp"],
    ]
    with pytest.raises(Exception, match="No such option"):
        accepted(["flags", "--no-such-option"])


def test_the_test_that_a_block_names_runs_its_commands() -> None:
    wrong = []
    for block in BLOCKS:
        named = block.mark and (block.mark["test"] or block.mark["reader"])
        paths = [REPOSITORY / path for path in named.split(", ")] if named else []
        wrong += [(block.page, block.line, str(path)) for path in paths if not path.exists()]
        if not block.mark or not block.mark["test"]:
            continue
        files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*.py"))]
        tests = "\n".join(file.read_text(encoding="utf-8") for file in files)
        commands = [words[0] for command in block.commands for words in torchlink_lines(command)]
        wrong += [
            (block.page, block.line, f"{named} does not run {command}")
            for command in commands
            if not re.search(rf"""["' ]{re.escape(command)}["' ]""", tests)
        ]
    assert not wrong
