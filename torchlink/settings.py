"""The settings of a project: `torchlink.toml`, or `[tool.torchlink]` in `pyproject.toml`: found, read, checked."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from torchlink.bounds import read_whole
from torchlink.errors import FileError, UsageError
from torchlink.shown import shortened
from torchlink.status import is_file, not_about_the_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


NAMES = ("torchlink.toml", "pyproject.toml")  # where both are in one directory, the first wins
TABLES = ("lint", "model", "explain")


class SettingsTable(NamedTuple):
    """One table of a settings file, for a `Reader` to take values from."""

    reader: TableReader
    value: object  # the table, or list of tables; None if the file has none
    where: str  # its name there: "tool.torchlink.lint"


def find(start: Path) -> Path | None:
    """The nearest settings file from `start` upward; `pyproject.toml` counts if it has `[tool.torchlink]`."""
    for directory in (start, *start.parents):
        for name in NAMES:
            path = directory / name
            if is_file(path) and (name == NAMES[0] or _speaks_of_torchlink(path)):
                return path
    return None


def table(text: str, path: Path, name: str) -> SettingsTable:
    """The table of a settings file under a name; `path` tells its kind by its name and is named in errors.

    Raises:
        UsageError: the text is no TOML, or says something that no command of torchlink reads.
    """
    try:
        document = toml_document(text)
    except ValueError as error:
        raise UsageError(f"{path} is not valid TOML: {error}.", hint="Correct the file.") from error
    where = ""
    if path.name == "pyproject.toml":
        tool = document.get("tool", {})
        document = tool.get("torchlink", {}) if isinstance(tool, dict) else {}
        where = "tool.torchlink"
    elif "tool" in document:
        raise UsageError(
            f"{path}: [tool.torchlink] belongs in pyproject.toml.", hint=f"Write [{name}] in {path.name}."
        )
    reader = TableReader(path)
    reader.check_keys(document, TABLES, where)
    return SettingsTable(reader, document.get(name), f"{where}.{name}" if where else name)


def read(path: Path) -> str:
    """The text of a settings file.

    Raises:
        FileError: it cannot be read.
    """
    try:
        return read_whole(path, LONGEST).decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not UTF-8.", hint="Save it as UTF-8: TOML files are.") from error
    except OSError as error:
        not_about_the_file(path, error)
        raise FileError(f"Cannot read {path}: {error.strerror}.", hint="Check the path.") from error


LONGEST = 1 << 20  # bytes of a file
# A key of a hundred parts, for which the parser takes a time that grows with their square.
DEEP_KEY = re.compile(r"""(?<![\w"'-])(?:(?:"[^"\n]*"|'[^'\n]*'|[\w-]+)[ \t]*\.[ \t]*){100}""")


class TableReader:
    """Takes values out of TOML tables and says, in one form, which key of which file is wrong."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def wrong(self, key: str, what: str, hint: str) -> NoReturn:
        """Refuse a key.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{self.path}: {key} {what}.", hint=hint)

    def check_keys(self, table: object, known: Iterable[str], where: str) -> None:
        """Refuse a table with other keys."""
        names = tuple(known)
        for key in self.table(table, where or "the file"):
            if key not in names:
                hint = nearest(key, names) or f"Use one of: {', '.join(names)}."
                self.wrong(f"{where}.{key}" if where else key, "is not a setting of torchlink", hint)

    def table(self, value: object, where: str) -> Mapping[str, Any]:
        """A value that must be a table."""
        if not isinstance(value, dict):
            self.wrong(where, f"must be a table, not {kind_of(value)}", f"Write [{where}] and keys below it.")
        return value

    def text(self, table: Mapping[str, Any], where: str, key: str) -> str | None:
        """The string under a key, None if there is none; it must not be empty."""
        value = table.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value.strip():
            what = "must not be empty" if value == "" else f"must be a string, not {kind_of(value)}"
            self.wrong(f"{where}.{key}", what, f'Write {key} = "…".')
        return value

    def texts(self, table: Mapping[str, Any], where: str, key: str) -> tuple[str, ...]:
        """The strings under a key."""
        value = table.get(key, [])
        if not isinstance(value, list):
            self.wrong(
                f"{where}.{key}", f"must be a list of strings, not {kind_of(value)}", f'Write {key} = ["…"].'
            )
        for index, item in enumerate(value):
            if not isinstance(item, str) or not item.strip():
                what = "must not be empty" if item == "" else f"must be a string, not {kind_of(item)}"
                self.wrong(f"{where}.{key}[{index}]", what, f'Write {key} = ["…"].')
        return tuple(value)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name, or "" where no known one is near."""
    import difflib

    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"Did you mean {near[0]!r}?" if near else ""


def toml_document(text: str) -> dict[str, Any]:
    """A TOML document; the parser is imported where there is a file to read, for most runs have none.

    Raises:
        ValueError: it is none, or one that is too large or too deeply nested to be read.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    if len(text) > LONGEST or DEEP_KEY.search(text):
        raise ValueError("it is too large or too deeply nested")
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is too deeply nested") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(shortened(str(error), 200)) from error
    except ValueError:  # Python's own limit; its words are for programmers
        raise ValueError("a number in it is too long") from None
    return document


def _speaks_of_torchlink(path: Path) -> bool:
    """Whether a `pyproject.toml` has the table; one that never mentions torchlink need not be valid."""
    text = read(path)
    if "torchlink" not in text:
        return False
    try:
        tool = toml_document(text).get("tool", {})
    except ValueError:
        return "[tool.torchlink" in text  # ours, and `parse` says what is wrong with it
    return isinstance(tool, dict) and "torchlink" in tool


def kind_of(value: object) -> str:
    """What a value of TOML is, with its article."""
    names = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "a table",
    }
    return names.get(type(value), "a date or time")
