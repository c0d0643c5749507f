"""Checks of the public API's arguments; every error names the argument."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import TypeVar

from torchlink.errors import UsageError

T = TypeVar("T")
PATH = "a path (str or os.PathLike)"
TEXT = "a str"


def path(value: object, name: str) -> Path:
    """Check a path.

    Raises:
        TypeError: it is not a path.
        UsageError: it contains a null character.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise wrong(name, PATH, value)
    plain = os.fspath(value)
    if not isinstance(plain, str):  # an os.PathLike of bytes
        raise wrong(name, PATH, plain)
    return Path(without_null(plain, name))


def paths(value: object, name: str) -> tuple[Path, ...]:
    """Check one path or several."""
    return tuple(path(each, name) for each in several(value, name, PATH))


def text(value: object, name: str) -> str:
    """Check a string."""
    if not isinstance(value, str):
        raise wrong(name, TEXT, value)
    return without_null(value, name)


def texts(value: object, name: str) -> tuple[str, ...]:
    """Check one string or several."""
    return tuple(text(each, name) for each in several(value, name, TEXT))


def number(value: object, name: str) -> float:
    """Check a number, including numpy's."""
    if not isinstance(value, Real):
        raise wrong(name, "a number", value)
    return float(value)


def count(value: object, name: str) -> int:
    """Check a whole number above 0, including numpy's.

    Raises:
        TypeError: it is no whole number.
        UsageError: it is 0 or below.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise wrong(name, "an int", value)
    number = int(value)
    if number < 1:
        raise UsageError(f"{name} must be above 0, not {number}.", hint="Leave it out for the default.")
    return number


def instance(value: object, kind: type[T], name: str, what: str) -> T:
    """Check that a value is an instance of a class.

    Args:
        value: the argument.
        kind: the class.
        name: the argument's name.
        what: a description of valid values, such as `a bool`.
    """
    if not isinstance(value, kind):
        raise wrong(name, what, value)
    return value


def settings(value: object, name: str) -> dict[str, str]:
    """Check a mapping of strings to strings."""
    if not isinstance(value, Mapping):
        raise wrong(name, "a mapping of str to str", value)
    return {text(key, name): text(each, name) for key, each in value.items()}


def several(value: object, name: str, what: str) -> tuple[object, ...]:
    """Return an argument that may be one value or several as a tuple."""
    if isinstance(value, (str, os.PathLike)):
        return (value,)
    if not isinstance(value, Iterable) or isinstance(value, (bytes, bytearray, Mapping)):
        raise wrong(name, f"{what} or a sequence of them", value)
    return tuple(value)


def without_null(given: str, name: str) -> str:
    """Check a string that becomes a file name, a program's argument or an environment variable."""
    if "\0" in given:
        raise UsageError(f"{name} contains a null character: {given!r}.", hint="Remove it.")
    return given


def wrong(name: str, what: str, value: object) -> TypeError:
    """Return the error for an argument of the wrong type."""
    return TypeError(f"{name} must be {what}, not {type(value).__name__}")
