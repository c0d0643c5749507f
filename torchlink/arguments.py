"""The arguments of the public API: each is checked where it comes in, and what is wrong names it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import TypeVar

from torchlink.errors import UsageError

T = TypeVar("T")
PATH = "a path (str or os.PathLike)"
TEXT = "a str"


def path(value: object, name: str) -> Path:
    """A path.

    Raises:
        TypeError: it is none.
        UsageError: it holds a null character, which no file's name does.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise wrong(name, PATH, value)
    plain = os.fspath(value)
    if not isinstance(plain, str):  # an os.PathLike of bytes
        raise wrong(name, PATH, plain)
    return Path(without_null(plain, name))


def paths(value: object, name: str) -> tuple[Path, ...]:
    """One path or several."""
    return tuple(path(each, name) for each in several(value, name, PATH))


def text(value: object, name: str) -> str:
    """A string."""
    if not isinstance(value, str):
        raise wrong(name, TEXT, value)
    return without_null(value, name)


def texts(value: object, name: str) -> tuple[str, ...]:
    """One string or several."""
    return tuple(text(each, name) for each in several(value, name, TEXT))


def number(value: object, name: str) -> float:
    """A number, also one of numpy's."""
    if not isinstance(value, Real):
        raise wrong(name, "a number", value)
    return float(value)


def instance(value: object, kind: type[T], name: str, what: str) -> T:
    """An object of a class.

    Args:
        value: what was given.
        kind: the class.
        name: of the argument.
        what: it should be, such as `a bool`.
    """
    if not isinstance(value, kind):
        raise wrong(name, what, value)
    return value


def settings(value: object, name: str) -> dict[str, str]:
    """Strings by strings."""
    if not isinstance(value, Mapping):
        raise wrong(name, "a mapping of str to str", value)
    return {text(key, name): text(each, name) for key, each in value.items()}


def several(value: object, name: str, what: str) -> tuple[object, ...]:
    """What one argument names, one thing or several."""
    if isinstance(value, (str, os.PathLike)):
        return (value,)
    if not isinstance(value, Iterable) or isinstance(value, (bytes, bytearray, Mapping)):
        raise wrong(name, f"{what} or a sequence of them", value)
    return tuple(value)


def without_null(given: str, name: str) -> str:
    """A string that the system takes for a name, an argument or a variable."""
    if "\0" in given:
        raise UsageError(f"{name} holds a null character: {given!r}.", hint="Remove it.")
    return given


def wrong(name: str, what: str, value: object) -> TypeError:
    """The error for an argument of the wrong type."""
    return TypeError(f"{name} must be {what}, not {type(value).__name__}")
