"""The settings of lint: `torchlink.toml`, or `[tool.torchlink]` in `pyproject.toml`."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from torchlink.bounds import read_whole
from torchlink.errors import FileError, UsageError
from torchlink.lint.finding import Severity
from torchlink.shown import shortened
from torchlink.status import is_file, not_about_the_file

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

NAMES = ("torchlink.toml", "pyproject.toml")  # if both are in one directory, the first wins
LINT_KEYS = ("select", "ignore", "fail-on", "target", "allowed-rpath", "allow")
ALLOW_KEYS = ("rule", "subject", "reason")
LONGEST = 1 << 20  # bytes of a file
# A key of a hundred parts, which takes the parser quadratic time.
DEEP_KEY = re.compile(r"""(?<![\w"'-])(?:(?:"[^"\n]*"|'[^'\n]*'|[\w-]+)[ \t]*\.[ \t]*){100}""")


class AllowEntry(NamedTuple):
    """Findings that a project has reviewed and accepts."""

    rule: str  # id or glob
    subject: str  # glob over a finding's subject
    reason: str  # why it is accepted; never empty
    origin: str = ""  # the file with the entry


class LintConfig(NamedTuple):
    """A project's settings for lint; options of the command line take precedence."""

    source: Path | None = None  # None: no file was found
    select: tuple[str, ...] = ()  # ids or globs; () means every rule
    ignore: tuple[str, ...] = ()  # ids or globs
    fail_on: Severity | None = None
    target: str | None = None  # as for --target: "glibc=2.31", "debian:12", "manylinux_2_28", …
    allowed_rpath: tuple[str, ...] = ()  # prefixes that a search path entry may have
    allow: tuple[AllowEntry, ...] = ()


def load(start: Path, explicit: Path | None = None, *, rules: Collection[str] = ()) -> LintConfig:
    """Return the settings for a directory.

    Args:
        start: the directory to search from; its parents are searched too.
        explicit: the file of `--config`, which is then the only one read.
        rules: all rule ids; names that match none of them are rejected. Empty: any name is accepted.

    Raises:
        UsageError: the file has an invalid key or value; the message names file and key.
        FileError: the file cannot be read.
    """
    path = explicit or find(start)
    if path is None:
        return LintConfig()
    return parse(_read(path), path, rules=rules)


def find(start: Path) -> Path | None:
    """Return the nearest settings file from `start` upward; a `pyproject.toml` must have `[tool.torchlink]`."""
    for directory in (start, *start.parents):
        for name in NAMES:
            path = directory / name
            if is_file(path) and (name == NAMES[0] or _has_our_table(path)):
                return path
    return None


def parse(text: str, path: Path, *, rules: Collection[str] = ()) -> LintConfig:
    """Parse the text of a settings file; the name of `path` determines its kind, and errors mention it.

    Raises:
        UsageError: invalid TOML, an unknown key, a value of the wrong type, an unknown rule, a missing reason.
    """
    try:
        document = _toml(text)
    except ValueError as error:
        raise UsageError(f"{path} is not valid TOML: {error}.", hint="Correct the file.") from error
    where = ""
    if path.name == "pyproject.toml":
        tool = document.get("tool", {})
        document = tool.get("torchlink", {}) if isinstance(tool, dict) else {}
        where = "tool.torchlink"
    elif "tool" in document:
        raise UsageError(
            f"{path}: [tool.torchlink] belongs in pyproject.toml.", hint=f"Write [lint] in {path.name}."
        )
    reader = _Reader(path, rules)
    reader.check_keys(document, ("lint",), where)
    where = f"{where}.lint" if where else "lint"
    table = reader.table(document.get("lint", {}), where)
    reader.check_keys(table, LINT_KEYS, where)
    return LintConfig(
        source=path,
        select=reader.rules_of(table, where, "select"),
        ignore=reader.rules_of(table, where, "ignore"),
        fail_on=reader.severity(table, where, "fail-on"),
        target=reader.target(table, where, "target"),
        allowed_rpath=reader.texts(table, where, "allowed-rpath"),
        allow=reader.allow(table, where),
    )


class _Reader:
    """Reads values from TOML tables; errors name the file and the key."""

    def __init__(self, path: Path, rules: Collection[str]) -> None:
        self.path = path
        self.rules = rules

    def wrong(self, key: str, what: str, hint: str) -> NoReturn:
        raise UsageError(f"{self.path}: {key} {what}.", hint=hint)

    def check_keys(self, table: object, known: Iterable[str], where: str) -> None:
        names = tuple(known)
        for key in self.table(table, where or "the file"):
            if key not in names:
                hint = nearest(key, names) or f"Use one of: {', '.join(names)}."
                self.wrong(f"{where}.{key}" if where else key, "is not a setting of torchlink", hint)

    def table(self, value: object, where: str) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            self.wrong(where, f"must be a table, not {_kind(value)}", f"Write [{where}] and keys below it.")
        return value

    def text(self, table: Mapping[str, Any], where: str, key: str) -> str | None:
        value = table.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value.strip():
            what = "must not be empty" if value == "" else f"must be a string, not {_kind(value)}"
            self.wrong(f"{where}.{key}", what, f'Write {key} = "…".')
        return value

    def target(self, table: Mapping[str, Any], where: str, key: str) -> str | None:
        value = self.text(table, where, key)
        if value is not None:
            from torchlink.lint.targets import parse_target

            try:
                parse_target(value)
            except UsageError as error:
                raise UsageError(
                    f"{self.path}: {where}.{key} is invalid: {error.message}", hint=error.hint
                ) from error
        return value

    def texts(self, table: Mapping[str, Any], where: str, key: str) -> tuple[str, ...]:
        value = table.get(key, [])
        if not isinstance(value, list):
            self.wrong(
                f"{where}.{key}", f"must be a list of strings, not {_kind(value)}", f'Write {key} = ["…"].'
            )
        for index, item in enumerate(value):
            if not isinstance(item, str) or not item.strip():
                what = "must not be empty" if item == "" else f"must be a string, not {_kind(item)}"
                self.wrong(f"{where}.{key}[{index}]", what, f'Write {key} = ["…"].')
        return tuple(value)

    def rules_of(self, table: Mapping[str, Any], where: str, key: str) -> tuple[str, ...]:
        patterns = self.texts(table, where, key)
        for pattern in patterns:
            self.check_rule(f"{where}.{key}", pattern)
        return patterns

    def check_rule(self, key: str, pattern: str) -> None:
        from torchlink.lint.policy.allow import matching

        if self.rules and not any(matching(rule, (pattern,)) for rule in self.rules):
            hint = nearest(pattern, self.rules) or "List the rules with 'torchlink lint --list-rules'."
            self.wrong(key, f"names a rule that does not exist: {pattern!r}", hint)

    def severity(self, table: Mapping[str, Any], where: str, key: str) -> Severity | None:
        value = self.text(table, where, key)
        names = tuple(severity.value for severity in Severity)
        if value is not None and value not in names:
            hint = nearest(value, names) or f"Write one of {', '.join(names)}."
            self.wrong(f"{where}.{key}", f"is not a severity: {value!r}", hint)
        return None if value is None else Severity(value)

    def allow(self, table: Mapping[str, Any], where: str) -> tuple[AllowEntry, ...]:
        where = f"{where}.allow"
        entries = table.get("allow", [])
        if not isinstance(entries, list):
            self.wrong(where, f"must be a list of tables, not {_kind(entries)}", "Write [[lint.allow]].")
        return tuple(self.allow_entry(entry, f"{where}[{index}]") for index, entry in enumerate(entries))

    def allow_entry(self, value: object, where: str) -> AllowEntry:
        entry = self.table(value, where)
        self.check_keys(entry, ALLOW_KEYS, where)
        rule = self.text(entry, where, "rule")
        reason = self.text(entry, where, "reason")
        example = '{ rule = "…", subject = "…", reason = "…" }'
        if rule is None:
            self.wrong(where, "has no rule", f"Write {example}.")
        if reason is None:
            self.wrong(where, "has no reason", f"State why it is accepted: {example}.")
        self.check_rule(f"{where}.rule", rule)
        return AllowEntry(rule, self.text(entry, where, "subject") or "*", reason, str(self.path))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint for a misspelt name, or "" if no known one is similar."""
    import difflib

    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"Did you mean {near[0]!r}?" if near else ""


def _toml(text: str) -> dict[str, Any]:
    """Parse a TOML document; the parser is imported here because most runs have no settings file.

    Raises:
        ValueError: it is invalid, too large or too deeply nested.
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
    except ValueError:  # Python's own limit, whose message is for programmers
        raise ValueError("a number in it is too long") from None
    return document


def _has_our_table(path: Path) -> bool:
    """Whether a `pyproject.toml` has the table; one that does not mention torchlink need not be valid."""
    text = _read(path)
    if "torchlink" not in text:
        return False
    try:
        tool = _toml(text).get("tool", {})
    except ValueError:
        return "[tool.torchlink" in text  # ours, and `parse` reports what is wrong with it
    return isinstance(tool, dict) and "torchlink" in tool


def _read(path: Path) -> str:
    try:
        return read_whole(path, LONGEST).decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not UTF-8.", hint="Save it as UTF-8: TOML files are.") from error
    except OSError as error:
        not_about_the_file(path, error)
        raise FileError(f"Cannot read {path}: {error.strerror}.", hint="Check the path.") from error


def _kind(value: object) -> str:
    names = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "a table",
    }
    return names.get(type(value), "a date or time")
