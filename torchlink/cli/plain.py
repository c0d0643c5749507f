"""Parse plain command lines without typer, whose import takes longer than most commands.

A command line is plain if it has only known options with valid values and the right number of positional arguments.
It is parsed here from the same declarations that typer uses; anything else is left to typer, which reports errors.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from torchlink.cli.declaration import REQUIRED, Field, Positional, fields_of, make

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torchlink.cli.declaration import Command

Values = dict[tuple[str, ...], Any]


def read(command: Command, words: Sequence[str]) -> Any | None:
    """Parse the arguments of a command.

    Returns None if the command line is not plain (an unknown option, a missing value, a help option, too many or too
    few positional arguments), or if a shell asks for completions.
    """
    if completing():
        return None
    fields = fields_of(command.arguments)
    options = by_name(fields)
    values: Values = {}
    positional: list[str] = []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        option = options.get(name)
        if word == "--":
            positional += rest
        elif word == "-" or not word.startswith("-"):
            positional.append(word)
            if not command.interspersed:
                positional += rest
        elif option is None or (option.type is bool and equals):
            return None
        else:
            given = True if option.type is bool else value if equals else next(rest, None)
            if given is None or not take(values, option, given):
                return None
    if not place(
        values, positional, [field for field in fields if isinstance(field.declaration, Positional)]
    ):
        return None
    return make(command.arguments, values)


def completing() -> bool:
    """Whether a shell asks for completions."""
    return any(name.startswith("_TORCHLINK_COMPLETE") for name in os.environ)


def by_name(fields: Sequence[Field]) -> Mapping[str, Field]:
    """Map each spelling of each option to its field."""
    return {name: field for field in fields for name in field.names}


def take(values: Values, field: Field, text: str | bool) -> bool:
    """Store a value; return False if the text is not a value of this field."""
    if isinstance(text, bool):
        values[field.path] = text
        return True
    if not text and field.refuses_empty:
        return False
    try:
        value = field.value(text)
    except ValueError:
        return False
    values[field.path] = (*values.get(field.path, ()), value) if field.many else value
    return True


def place(values: Values, texts: Sequence[str], arguments: Sequence[Field]) -> bool:
    """Store the positional arguments, at most one of which takes several; return False if too many or too few."""
    left = list(texts)
    for number, argument in enumerate(arguments):
        behind = len(arguments) - number - 1
        count = max(len(left) - behind, 0) if argument.many else min(len(left), 1)
        if not count and argument.default is REQUIRED:
            return False
        if not all(take(values, argument, text) for text in left[:count]):
            return False
        del left[:count]
    return not left
