"""Reading plain command lines without typer, whose import takes longer than the frequent commands themselves.

A command that is started often keeps what it does in a module `<command>_run`, with a table of its options, and
its typer command beside it for help, completion and every word that is not plain.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class Option(NamedTuple):
    """An option by the field of the command's wishes that it sets."""

    field: str
    kind: Callable[[str], object] = (
        str  # bool: a switch; list: texts, may be repeated; else what makes the value of its text
    )
    choices: tuple[str, ...] = ()  # () allows any text


def read(
    arguments: Sequence[str], options: Mapping[str, Option]
) -> tuple[dict[str, object], list[Path]] | None:
    """The options and the operands of a command line.

    None where a word is not plain: unknown, without its value, a help option, a completion. typer then says
    what there is to say.
    """
    if any(name.startswith("_TORCHLINK_COMPLETE") for name in os.environ):
        return None
    taken: dict[str, object] = {}
    operands: list[Path] = []
    words = iter(arguments)
    for word in words:
        name, equals, given = word.partition("=") if word.startswith("--") else (word, "", "")
        option = options.get(name)
        if word == "--":
            rest = list(words)
            if "" in rest:
                return None
            operands.extend(map(Path, rest))
        elif not word:  # Path("") would be the current directory
            return None
        elif word == "-" or not word.startswith("-"):
            operands.append(Path(word))
        elif option is None or (option.kind is bool and equals):
            return None
        elif option.kind is bool:
            taken[option.field] = True
        else:
            value = given if equals else next(words, None)
            if value is None or not take(taken, option, value):
                return None
    return taken, operands


def take(taken: dict[str, object], option: Option, value: str) -> bool:
    """Note an option's value; False where it is not one that the option takes."""
    if option.choices and value not in option.choices:
        return False
    if not value and option.kind in {list, Path}:  # typer knows which lists are of paths
        return False
    if option.kind is list:
        values = taken.setdefault(option.field, [])
        assert isinstance(values, list)  # noqa: S101 - for the type checker
        values.append(value)
        return True
    try:
        taken[option.field] = option.kind(value)
    except ValueError:
        return False
    return True
