"""Every option of every command is parsed in the same way with typer and without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from torchlink.cli import lint, options, plain
from torchlink.cli.app import typer_command
from torchlink.cli.commands import COMMANDS, command_for, declared
from torchlink.cli.declaration import (
    Command,
    CommandGroup,
    Field,
    Option,
    Positional,
    command_line,
    fields_of,
    only,
)
from torchlink.plan import PlanOptions
from torchlink.verify.options import VerifyOptions


def all_commands() -> dict[str, Command]:
    """Return every command by its name on the command line, such as `cmake init`."""
    found = {}
    for name in COMMANDS:
        each = declared(name)
        if isinstance(each, CommandGroup):
            found.update({f"{name} {inner}": command for inner, command in each.commands.items()})
        else:
            found[name] = each
    return found


ALL = all_commands()
LINT_PLAIN = [
    ["app"],
    ["--json", "app", "other"],
    ["app", "--select", "a,b", "--select=c", "--fail-on", "note"],
    ["-v", "--tree", "--", "-odd-name"],
    ["--root=/image", "--env", "A=B", "--env", "C=D=E", "--html", "r.html", "-"],
    ["--target", "debian:12", "--allowed-rpath", "$ORIGIN", "--format", "sarif", "app"],
    ["--config", "c.toml", "--baseline", "b", "--write-baseline", "w", "--ignore", "x", "--verbose", "app"],
]


def with_typer(command: Command, words: list[str]) -> Any:
    """Return the arguments that typer passes to a command."""
    taken: list[Any] = []

    def run(arguments: Any) -> int:
        taken.append(arguments)
        return 0

    typer_command("x", command._replace(run=run)).main(args=list(words), standalone_mode=False)
    return taken[0]


def positional(command: Command) -> list[str]:
    """Return the required positional arguments of a command."""
    return [
        each.name
        for each in fields_of(command.arguments)
        if isinstance(each.declaration, Positional) and each.name not in command.arguments._field_defaults
    ]


def example(field: Field) -> str:
    """Return a valid value of an option."""
    assert isinstance(field.declaration, Option)
    if field.declaration.choices:
        return field.declaration.choices[-1]
    return {bool: "", str: "some text", Path: "some/path", int: "7", float: "0.25"}[field.type]


def options_of() -> list[Any]:
    """A command's name and one of its options' fields."""
    return [
        pytest.param(name, field, id=f"{name} {field.name}")
        for name, command in ALL.items()
        for field in fields_of(command.arguments)
        if isinstance(field.declaration, Option)
    ]


@pytest.mark.parametrize(("name", "field"), options_of())
def test_an_option_is_read_as_typer_reads_it(name: str, field: Field) -> None:
    command = ALL[name]._replace(read=None)
    for option in field.names:
        value = "c++20" if option == "--std" else example(field)
        words = [option, *([value] if value else []), *positional(command)]
        quick = plain.read(command, words)
        assert quick is not None
        assert quick == with_typer(command, words)
        inner = quick
        for part in field.path:
            inner = getattr(inner, part)
        assert inner != field.default


@pytest.mark.parametrize("name", ALL)
def test_without_options_the_defaults_are_those_of_the_fields(name: str) -> None:
    command = ALL[name]._replace(read=None)
    words = positional(command)
    assert plain.read(command, words) == with_typer(command, words)
    names = [field.name for field in fields_of(command.arguments)]
    assert len(names) == len(set(names)), "typer takes one parameter by a name"


@pytest.mark.parametrize("words", LINT_PLAIN, ids=" ".join)
def test_plain_command_lines_are_parsed_as_typer_parses_them(words: list[str]) -> None:
    quick = plain.read(lint.COMMAND, words)
    assert quick is not None
    assert quick == with_typer(lint.COMMAND, words)


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["-h"],
        ["--frmat", "x", "a"],
        ["a", "--root"],
        ["--fail-on", "x", "a"],
        ["-vv", "a"],
        ["--tree=yes", "a"],
        ["--root=", "a"],
        [""],
    ],
)
def test_what_is_not_plain_is_left_to_typer(words: list[str]) -> None:
    assert plain.read(lint.COMMAND, words) is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bundle", ["app"]),
        ("bundle", ["app", "dir", "more"]),
        ("extract", ["dir"]),
        ("run", []),
        ("find", ["x"]),
        ("matrix", ["a", "b"]),
        ("matrix", ["--jobs", "two"]),
        ("flags", ["--std", "seventeen"]),
    ],
)
def test_too_few_too_many_and_no_values_are_left_to_typer(name: str, words: list[str]) -> None:
    assert plain.read(ALL[name], words) is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("extract", ["a.whl", "b.whl", "--json", "dir"]),
        ("run", ["--libtorch", "x", "./app", "--json", "--", "-v"]),
        ("run", ["--", "./app", "--libtorch"]),
        ("verify", ["a.pt", "--input", "3", "b.pt", "--input=[1, 2]", "-v"]),
        ("cmake init", ["--name", "x", "--", "-dir"]),
    ],
)
def test_positional_arguments_are_read_as_typer_reads_them(name: str, words: list[str]) -> None:
    assert plain.read(ALL[name], words) == with_typer(ALL[name], words)


def test_a_group_without_a_command_is_left_to_typer() -> None:
    assert command_for(["cache"]) is None
    assert command_for(["cache", "shw"]) is None
    assert command_for(["cache", "show", "--json"]) == (ALL["cache show"], ["--json"])


def test_options_become_the_command_line_that_gives_them() -> None:
    assert command_line(options.PLAN, PlanOptions()) == []
    words = ["--cpu", "--headers", "after", "--aoti", "--std", "20"]
    read: Any = plain.read(ALL["flags"], words)
    assert command_line(options.PLAN, read.plan) == words
    words = ["--input", "3", "--input", "none", "--atol", "0.25", "--env", "A=B", "--cpu"]
    read = plain.read(ALL["verify"], words)
    assert isinstance(read.verify, VerifyOptions)
    assert command_line(options.VERIFY, read.verify) == words
    assert command_line(only(options.VERIFY, "env"), read.verify) == ["--env", "A=B"]


def test_an_invalid_value_is_an_error_that_names_the_option() -> None:
    with pytest.raises(Exception, match="is not a C\\+\\+ standard"):
        with_typer(ALL["flags"], ["--std", "seventeen"])
