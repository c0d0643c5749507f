"""Findings, rules and reports: the types that lint's rules return and its renderers read."""

from __future__ import annotations

import enum
from functools import total_ordering
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torchlink.lint.context import LintContext


UNREADABLE = "unreadable"  # the kind of a report on a file that could not be checked


@total_ordering
class Severity(enum.Enum):
    """The severity of a finding; note < warning < error."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"

    def __lt__(self, other: Severity) -> bool:
        """Whether this severity is below another."""
        order = list(Severity)
        return order.index(self) < order.index(other)


class Finding(NamedTuple):
    """What a rule reports about one cause."""

    rule: str  # stable id, e.g. "library-not-found"
    severity: Severity
    subject: str  # a library's name, a path, a search path entry, a symbol
    message: str  # what is wrong, where, and its effect
    fix: str  # what to do, with the flags
    evidence: tuple[str, ...] = ()  # what was read: symbols, searched directories, versions
    demangled: tuple[str, ...] = ()  # `evidence` with demangled C++ names; () if it has none
    # Every undefined symbol, every version: a finding with one more of them is not covered by a baseline
    parts: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[str, ...]:
        """The evidence for people: demangled where possible."""
        return self.demangled or self.evidence


class RuleDoc(NamedTuple):
    """The documentation of a rule, for reports."""

    id: str  # as in `Finding.rule`
    severity: Severity  # the default of its findings
    title: str  # one sentence: what the rule finds
    help: str = ""  # Markdown: what, why, and how to fix it
    uri: str = ""  # absolute address of the rule's page; "" if there is none


class ClosureEntry(NamedTuple):
    """One object of the closure, for reports."""

    name: str  # a NEEDED name, or the file itself
    path: str | None  # None: not found
    found_via: str  # "the file itself", "RUNPATH of ./app", "ld.so.cache", "not found", …
    needed_by: str | None  # path of the first object that needs it
    # "path: why the loader did not load it", in search order; -v shows them
    searched: tuple[str, ...] = ()
    # `key` of the entry for each of its own NEEDED entries, in order; () if not known
    needs: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The identity of this entry within its closure: its path, or its name if it was not found."""
        return self.path or self.name


class Allowed(NamedTuple):
    """A finding that an allow entry or a baseline covers."""

    finding: Finding
    reason: str


class FileReport(NamedTuple):
    """The report on one file, or on one binary of a text."""

    path: str
    # "executable" | "shared library" | "python extension" | "ldd text" | "readelf text" | "lddtree text" |
    # "unreadable": it could not be checked, and `not_checked` gives the reason
    kind: str
    findings: tuple[Finding, ...]  # most severe first
    closure: tuple[ClosureEntry, ...]  # in load order
    allowed: tuple[Allowed, ...] = ()
    # sentences: what could not be checked from a tool's output, without a file or for another architecture
    not_checked: tuple[str, ...] = ()
    of_every_text: tuple[str, ...] = ()  # the part of `not_checked` that holds for every text of its kind
    # sentences: what was assumed, such as which libtorch Python has loaded
    assumed: tuple[str, ...] = ()

    @property
    def unreadable(self) -> bool:
        """Whether the file could not be checked at all, so that the lack of findings means nothing."""
        return self.kind == UNREADABLE


class LintReport(NamedTuple):
    """The report of a whole run."""

    files: tuple[FileReport, ...]
    stale: tuple[str, ...] = ()  # sentences: allow entries and baseline findings that no longer match

    def count(self, severity: Severity) -> int:
        """Return the number of findings of exactly this severity."""
        return sum(finding.severity is severity for file in self.files for finding in file.findings)

    @property
    def unreadable(self) -> tuple[FileReport, ...]:
        """The reports on files that could not be checked."""
        return tuple(file for file in self.files if file.unreadable)

    def fails(self, threshold: Severity) -> bool:
        """Whether any finding is at or above `threshold`."""
        return any(finding.severity >= threshold for file in self.files for finding in file.findings)


class Rule(NamedTuple):
    """A rule. `id` is stable, because users write it into their settings."""

    id: str
    severity: Severity  # the default of its findings
    title: str  # one sentence: what the rule finds
    check_binary: Callable[[Rule, LintContext], Iterator[Finding]]

    def finding(
        self,
        subject: str,
        message: str,
        fix: str,
        evidence: tuple[str, ...] = (),
        severity: Severity | None = None,
    ) -> Finding:
        """Return a finding of this rule."""
        return Finding(self.id, severity or self.severity, subject, message, fix, evidence)


def rule(
    id: str,  # noqa: A002 - the name that users know
    severity: Severity,
    title: str,
) -> Callable[[Callable[[Rule, LintContext], Iterator[Finding]]], Rule]:
    """Decorate a function that yields findings, `def library_not_found(rule, context)`, to make it a rule."""
    return lambda check_binary: Rule(id, severity, title, check_binary)
