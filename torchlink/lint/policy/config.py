"""The settings of lint: the table `lint` of the project's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from torchlink import settings
from torchlink.errors import UsageError
from torchlink.lint.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path


LINT_KEYS = ("select", "ignore", "fail-on", "target", "allowed-rpath", "allow")
ALLOW_KEYS = ("rule", "subject", "reason")


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
    path = explicit or settings.find(start)
    if path is None:
        return LintConfig()
    return parse(settings.read(path), path, rules=rules)


def parse(text: str, path: Path, *, rules: Collection[str] = ()) -> LintConfig:
    """Parse the text of a settings file; the name of `path` determines its kind, and errors mention it.

    Raises:
        UsageError: invalid TOML, an unknown key, a value of the wrong type, an unknown rule, a missing reason.
    """
    setting = settings.table(text, path, "lint")
    reader, where = _LintReader(path, rules), setting.where
    table = reader.table({} if setting.value is None else setting.value, where)
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


class _LintReader(settings.TableReader):
    """Reads values from lint's tables; errors name the file and the key."""

    def __init__(self, path: Path, rules: Collection[str]) -> None:
        super().__init__(path)
        self.rules = rules

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

    def rules_of(self, table: Mapping[str, Any], where: str, key: str) -> tuple[str, ...]:
        patterns = self.texts(table, where, key)
        for pattern in patterns:
            self.check_rule(f"{where}.{key}", pattern)
        return patterns

    def check_rule(self, key: str, pattern: str) -> None:
        from torchlink.lint.policy.allow import matching

        if self.rules and not any(matching(rule, (pattern,)) for rule in self.rules):
            hint = (
                settings.nearest(pattern, self.rules) or "List the rules with 'torchlink lint --list-rules'."
            )
            self.wrong(key, f"names a rule that does not exist: {pattern!r}", hint)

    def severity(self, table: Mapping[str, Any], where: str, key: str) -> Severity | None:
        value = self.text(table, where, key)
        names = tuple(severity.value for severity in Severity)
        if value is not None and value not in names:
            hint = settings.nearest(value, names) or f"Write one of {', '.join(names)}."
            self.wrong(f"{where}.{key}", f"is not a severity: {value!r}", hint)
        return None if value is None else Severity(value)

    def allow(self, table: Mapping[str, Any], where: str) -> tuple[AllowEntry, ...]:
        where = f"{where}.allow"
        entries = table.get("allow", [])
        if not isinstance(entries, list):
            self.wrong(
                where, f"must be a list of tables, not {settings.kind_of(entries)}", "Write [[lint.allow]]."
            )
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
