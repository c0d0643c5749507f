"""A project's settings for its models: the `[[model]]` tables (docs/verify.md).

    [[model]]
    path = "models/*.pt"        # a glob, relative to the file's directory; `**` stands for any directories
    inputs = ["float32[1,3]"]   # as --input takes them
    timeout = 60

If several tables match a model, later ones take precedence, key by key; options of the command line override them.
"""

from __future__ import annotations

import os
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torchlink import settings
from torchlink.verify.options import DEFAULTS
from torchlink.verify.tasks import fits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torchlink.settings import TableReader
    from torchlink.verify.tasks import ModelTask

KEYS = ("path", "inputs", "expect", "atol", "rtol", "device", "method", "library", "timeout", "skip")


class ModelTable(NamedTuple):
    """One table."""

    path: str  # its glob, absolute
    options: Mapping[str, object]  # by field of `VerifyOptions`
    skip: str  # why such models are not run
    where: str = ""  # the table, for messages: "model[0]"


class ModelTables(NamedTuple):
    """The tables of a file, in its order."""

    source: Path | None = None  # None: there is no file
    tables: tuple[ModelTable, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """The globs, relative to the current directory if they are below it."""
        here = os.getcwd() + os.sep  # noqa: PTH109 - text
        return tuple(dict.fromkeys(table.path.removeprefix(here) for table in self.tables))

    def adjusted(self, task: ModelTask) -> ModelTask:
        """A task with the settings of the matching tables; its own options take precedence."""
        matching = [table for table in self.tables if fits(task.path, table.path)]
        if not matching:
            return task
        options: dict[str, Any] = {}
        skip = task.skip
        for table in matching:
            options.update(table.options)
            skip = table.skip or skip
        left = {
            name: value
            for name, value in options.items()
            if getattr(task.options, name) == getattr(DEFAULTS, name)
        }
        return task._replace(
            options=task.options._replace(**left),
            skip=skip,
            settings=f"{self.source}: {', '.join(table.where for table in matching)}",
            given=task.options,
        )

    @property
    def origins(self) -> dict[str, str]:
        """For each of `paths` the table that names it."""
        tables = {table.path: table.where for table in reversed(self.tables)}
        here = os.getcwd() + os.sep  # noqa: PTH109 - text
        return {path.removeprefix(here): f"{self.source}: {where}" for path, where in tables.items()}


def load(start: Path, explicit: Path | None = None) -> ModelTables:
    """The tables that apply in a directory.

    Args:
        start: the directory to search from; its parents are searched too.
        explicit: the file of `--config`, which is then the only one read.

    Raises:
        UsageError: the file has an invalid key or value; the message names file and key.
        FileError: the file cannot be read.
    """
    path = explicit or settings.find(start)
    return ModelTables() if path is None else parse(settings.read(path), path)


def parse(text: str, path: Path) -> ModelTables:
    """The tables in the text of a settings file, `path`; paths in it are relative to its directory.

    Raises:
        UsageError: as `load`.
    """
    reader, value, where = settings.table(text, path, "model")
    if value is None:
        return ModelTables(path)
    if not isinstance(value, list):
        reader.wrong(where, f"must be a list of tables, not {settings.kind_of(value)}", f"Write [[{where}]].")
    base = os.path.dirname(os.path.abspath(path))  # noqa: PTH100, PTH120 - text
    return ModelTables(
        path, tuple(_table(reader, entry, f"{where}[{number}]", base) for number, entry in enumerate(value))
    )


def _table(reader: TableReader, value: object, where: str, base: str) -> ModelTable:
    table = reader.table(value, where)
    reader.check_keys(table, KEYS, where)
    pattern = reader.text(table, where, "path")
    if pattern is None:
        reader.wrong(where, "has no path", 'Write path = "models/*.pt".')
    options: dict[str, object] = {}
    if "inputs" in table:
        options["inputs"] = tuple(_input(text, base) for text in reader.texts(table, where, "inputs"))
    expect = reader.text(table, where, "expect")
    if expect is not None:
        options["expect"] = Path(base, expect)
    for key in ("atol", "rtol", "timeout"):
        if key in table:
            options[key] = _number(reader, table[key], f"{where}.{key}", zero=key != "timeout")
    for key in ("device", "method"):
        text = reader.text(table, where, key)
        if text is not None:
            options[key] = text
    if "library" in table:
        single = isinstance(table["library"], str)
        names = [reader.text(table, where, "library")] if single else reader.texts(table, where, "library")
        options["libraries"] = tuple(Path(base, name) for name in names if name)
    return ModelTable(
        os.path.normpath(os.path.join(base, pattern)),  # noqa: PTH118 - a pattern is text
        options,
        reader.text(table, where, "skip") or "",
        where,
    )


def _input(text: str, base: str) -> str:
    """An input; a file in it is relative to the settings' directory."""
    return f"@{os.path.join(base, text[1:])}" if text.startswith("@") else text  # noqa: PTH118 - text


def _number(reader: TableReader, value: object, key: str, *, zero: bool) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        reader.wrong(
            key, f"must be a number, not {settings.kind_of(value)}", f"Write {key.rpartition('.')[2]} = 1."
        )
    if not (0 <= value < inf and (zero or value)):
        reader.wrong(key, f"is not a number {'from' if zero else 'above'} 0", "Write another number.")
    return float(value)
