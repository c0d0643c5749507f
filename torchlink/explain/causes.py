"""The causes: one TOML file each in `causes/`, and the checks of such a file.

A user adds one by reading another; `torchlink docs explain` describes the keys.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from torchlink.bounds import read_whole
from torchlink.errors import FileError
from torchlink.paths import data_dir

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

STAGES = ("setup", "configure", "compile", "link", "load", "import", "run")  # the order in which to fix
CERTAINTIES = ("certain", "likely")
SUFFIX = ".toml"
LARGEST = 1 << 20  # bytes of one file
KEYS = {
    "cause": ("title", "stage", "text", "hides", "match", "fix", "example", "near_miss"),
    "match": ("certainty", "lines", "without", "within", "check"),
    "fix": ("for", "text", "command"),
    "example": ("tool", "log"),
    "near_miss": ("log", "is", "tool"),
}
ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


class Match(NamedTuple):
    """Evidence that is enough to name the cause."""

    certainty: str
    lines: tuple[str, ...]  # regular expressions, each of which must be found in some line
    without: tuple[str, ...] = ()  # none of these may be found
    within: int | None = None  # all of them within so many lines of the first; None: anywhere
    check: str | None = None  # what else must hold, by its name: see `explanation.Facts`


class Fix(NamedTuple):
    """What to do, in one build system or language."""

    target: str  # `for` in the file: "c++", "cmake", "nim", "pip", …, "any"
    text: str
    command: str  # may be empty; {placeholders} stand for this machine's facts


class Example(NamedTuple):
    """A log of a real tool; `cause` is what it must give, "" for nothing."""

    tool: str
    log: str
    cause: str


class Cause(NamedTuple):
    """One cause."""

    id: str
    title: str
    stage: str
    text: str  # Markdown
    hides: tuple[str, ...]
    matches: tuple[Match, ...]
    fixes: tuple[Fix, ...]
    examples: tuple[Example, ...]
    near_misses: tuple[Example, ...]


def directory() -> Path:
    """Return the directory of torchlink's own causes."""
    return data_dir("causes")


def directories(start: Path) -> list[Path]:
    """Return torchlink's own directory of causes, and the one that a project's settings name.

    Args:
        start: the directory to search for settings from, upward.

    Raises:
        UsageError: the settings have an invalid key or value.
        FileError: they cannot be read.
    """
    from torchlink import settings

    path = settings.find(start)
    if path is None:
        return [directory()]
    found = settings.table(settings.read(path), path, "explain")
    if found.value is None:
        return [directory()]
    table = found.reader.table(found.value, found.where)
    found.reader.check_keys(table, ("causes",), found.where)
    own = found.reader.text(table, found.where, "causes")
    return [directory()] if own is None else [directory(), path.parent / own]


def ids(place: Path | None = None) -> list[str]:
    """Return the ids of all causes in a directory, sorted.

    Raises:
        FileError: the directory cannot be read.
    """
    place = directory() if place is None else place
    try:
        return sorted(path.stem for path in place.iterdir() if path.suffix == SUFFIX)
    except OSError as error:
        raise FileError(
            f"Cannot read {place}: {error.strerror}.", hint="Name a directory of causes."
        ) from error


def load(name: str, place: Path | None = None, *, indexed: bool = False) -> Cause:
    """Load and check one cause.

    Args:
        name: its id.
        place: the directory; None: torchlink's own causes.
        indexed: its expressions are in the index, which has checked them.

    Raises:
        FileError: the file cannot be read, or is not a cause; the message names file and key.
    """
    path = (directory() if place is None else place) / f"{name}{SUFFIX}"
    try:
        return parse(read_whole(path, LARGEST).decode(), path, expressions=not indexed)
    except OSError as error:
        raise FileError(
            f"Cannot read {path}: {error.strerror}.", hint="List the causes with `ls`."
        ) from error
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not UTF-8.", hint="Save it as UTF-8.") from error


def parse(text: str, path: Path, *, expressions: bool = True) -> Cause:
    """Parse the text of a cause; the stem of `path` is its id. Its regular expressions are checked if `expressions`.

    Raises:
        FileError: it is not a cause.
    """
    from torchlink.settings import toml_document

    try:
        document = toml_document(text)
    except ValueError as error:
        raise FileError(f"{path} is not valid TOML: {error}.", hint="Correct the file.") from error
    reader = _Reader(path)
    if not ID.fullmatch(path.stem):
        raise reader.wrong(
            "the name", "must consist of lower-case words joined by hyphens, as in my-cause.toml"
        )
    reader.keys(document, "cause", "")
    cause = Cause(
        id=path.stem,
        title=reader.text(document, "title"),
        stage=reader.one_of(document, "stage", STAGES),
        text=reader.text(document, "text"),
        hides=reader.texts(document, "hides"),
        matches=tuple(reader.match(table, where) for table, where in reader.tables(document, "match")),
        fixes=tuple(reader.fix(table, where) for table, where in reader.tables(document, "fix")),
        examples=tuple(
            Example(reader.text(table, "tool", where), reader.text(table, "log", where), path.stem)
            for table, where in reader.tables(document, "example")
        ),
        near_misses=tuple(
            Example(
                reader.text(table, "tool", where, default=""),
                reader.text(table, "log", where),
                reader.text(table, "is", where, default=""),
            )
            for table, where in reader.tables(document, "near_miss", required=False)
        ),
    )
    if expressions:
        for number, match in enumerate(cause.matches):
            reader.expressions(match, f"match[{number}]")
    if "\n" in cause.title or cause.title.endswith("."):
        raise reader.wrong("title", "must be one line without a full stop")
    return cause


class _Reader:
    """Takes checked values out of the tables of one file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def wrong(self, key: str, what: str) -> FileError:
        return FileError(
            f"{self.path}: {key} {what}.", hint="Print the keys of a cause with `torchlink docs explain`."
        )

    def keys(self, table: Mapping[str, Any], kind: str, where: str) -> None:
        for key in table:
            if key not in KEYS[kind]:
                raise self.wrong(f"{where}{key}", f"is unknown; known are {', '.join(KEYS[kind])}")

    def tables(
        self, document: Mapping[str, Any], kind: str, *, required: bool = True
    ) -> Iterable[tuple[Mapping[str, Any], str]]:
        found = document.get(kind, [])
        if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
            raise self.wrong(kind, f"must be tables: write [[{kind}]]")
        if required and not found:
            raise self.wrong(f"[[{kind}]]", "is missing")
        for number, table in enumerate(found):
            where = f"{kind}[{number}]."
            self.keys(table, kind, where)
            yield table, where

    def text(self, table: Mapping[str, Any], key: str, where: str = "", *, default: str | None = None) -> str:
        found = table.get(key, default)
        if not isinstance(found, str) or (not found.strip() and default is None):
            raise self.wrong(f"{where}{key}", "must be a text" if key in table else "is missing")
        return found

    def texts(self, table: Mapping[str, Any], key: str, where: str = "") -> tuple[str, ...]:
        found = table.get(key, [])
        if not isinstance(found, list) or not all(isinstance(each, str) and each for each in found):
            raise self.wrong(f"{where}{key}", "must be a list of texts")
        return tuple(found)

    def one_of(self, table: Mapping[str, Any], key: str, values: tuple[str, ...], where: str = "") -> str:
        found = self.text(table, key, where)
        if found not in values:
            raise self.wrong(f"{where}{key}", f"is {found!r}, not one of {', '.join(values)}")
        return found

    def match(self, table: Mapping[str, Any], where: str) -> Match:
        within = table.get("within")
        if within is not None and (not isinstance(within, int) or isinstance(within, bool) or within < 0):
            raise self.wrong(f"{where}within", "must be a number of lines")
        found = Match(
            self.one_of(table, "certainty", CERTAINTIES, where),
            self.texts(table, "lines", where),
            self.texts(table, "without", where),
            within,
            self.text(table, "check", where, default="") or None,
        )
        if not found.lines:
            raise self.wrong(f"{where}lines", "must name at least one regular expression")
        return found

    def expressions(self, match: Match, where: str) -> None:
        """Check the regular expressions of a match."""
        from torchlink.explain.literals import required_words
        from torchlink.explain.repetition import is_exponential

        for pattern in (*match.lines, *match.without):
            try:
                words = required_words(pattern)
            except re.error as error:
                raise self.wrong(where, f"has a bad regular expression {pattern!r}: {error}") from error
            if words is None:
                raise self.wrong(
                    where,
                    f"has a regular expression without a fixed word of three characters or more: {pattern!r}",
                )
            if is_exponential(pattern):
                raise self.wrong(
                    where,
                    "has a regular expression that can take exponential time, a repetition in a repetition"
                    f" with nothing between its rounds: {pattern!r}",
                )

    def fix(self, table: Mapping[str, Any], where: str) -> Fix:
        return Fix(
            self.text(table, "for", where),
            self.text(table, "text", where),
            self.text(table, "command", where, default=""),
        )
