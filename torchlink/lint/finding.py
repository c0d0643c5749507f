"""What lint says: findings, the closure it checked, and the report of a whole run.

Rules: an id, a severity, a one-sentence title, and a pure function from a case to findings.
"""

from __future__ import annotations

import enum
from functools import total_ordering
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torchlink.lint.context import LintContext


@total_ordering
class Severity(enum.Enum):
    """How bad a finding is; the order is note < warning < error."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"

    def __lt__(self, other: Severity) -> bool:
        """Whether this is the lesser of two."""
        order = list(Severity)
        return order.index(self) < order.index(other)


class Finding(NamedTuple):
    """One thing that a rule says about one cause."""

    rule: str  # stable id, e.g. "library-not-found"
    severity: Severity
    subject: str  # what it is about: a library's name, a path, a search path entry, a symbol
    message: str  # what, where, and why it will hurt
    fix: str  # the flags that fix it
    evidence: tuple[str, ...] = ()  # what was read: symbols, searched directories, versions
    demangled: tuple[str, ...] = ()  # the same lines with C++ names as C++ writes them; () where none was
    # What makes it another finding than the one in a baseline when it grows: every undefined symbol, every version
    parts: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[str, ...]:
        """The evidence as people read it."""
        return self.demangled or self.evidence


class RuleDoc(NamedTuple):
    """What reports say of a rule itself, beside its findings."""

    id: str  # as in `Finding.rule`
    severity: Severity  # what its findings have unless they say otherwise
    title: str  # one sentence: what the rule finds
    help: str = ""  # Markdown: what, why, and how to fix it
    uri: str = ""  # absolute address of the rule's page; "" where there is none


class ClosureEntry(NamedTuple):
    """One object of the closure, as reports show it."""

    name: str  # as it was asked for: a NEEDED name or the file itself
    path: str | None  # None: not found
    found_via: str  # "the file itself", "RUNPATH of ./app", "ld.so.cache", "not found", …
    needed_by: str | None  # path of the first object that asked for it
    # "directory: reason it was not there", in the loader's order; -v shows them
    searched: tuple[str, ...] = ()
    # what its own NEEDED entries came to, in their order: `key` of each; () where that is not known
    needs: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What names this entry within its closure: its path, or the wanted name where it was not found."""
        return self.path or self.name


class Allowed(NamedTuple):
    """A finding that an allow entry or a baseline covers."""

    finding: Finding
    reason: str


UNREADABLE = "unreadable"


class FileReport(NamedTuple):
    """What lint says about one file (or one text)."""

    path: str
    # "executable" | "shared library" | "python extension" | "ldd text" | "readelf text" | "lddtree text" |
    # "unreadable": it could not be checked, and `not_checked` says why
    kind: str
    findings: tuple[Finding, ...]  # most severe first
    closure: tuple[ClosureEntry, ...]  # in load order
    allowed: tuple[Allowed, ...] = ()
    # sentences: what a text, a missing file or another architecture leaves open
    not_checked: tuple[str, ...] = ()
    of_every_text: tuple[str, ...] = ()  # those of `not_checked` that any text of its kind leaves open
    assumed: tuple[
        str, ...
    ] = ()  # sentences: what was taken for granted, such as which libtorch Python has loaded

    @property
    def unreadable(self) -> bool:
        """Whether it could not be checked at all: that it has no findings means nothing."""
        return self.kind == UNREADABLE


class LintReport(NamedTuple):
    """A whole run."""

    files: tuple[FileReport, ...]
    stale: tuple[str, ...] = ()  # sentences: allow entries and baseline findings that no longer match

    def count(self, severity: Severity) -> int:
        """How many findings of exactly this severity there are."""
        return sum(finding.severity is severity for file in self.files for finding in file.findings)

    @property
    def unreadable(self) -> tuple[FileReport, ...]:
        """The files that could not be checked."""
        return tuple(file for file in self.files if file.unreadable)

    def fails(self, threshold: Severity) -> bool:
        """Whether any finding is at or above `threshold`."""
        return any(finding.severity >= threshold for file in self.files for finding in file.findings)


class Rule(NamedTuple):
    """One rule. `id` is stable: users write it into their settings."""

    id: str
    severity: Severity  # what its findings have unless they say otherwise
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
        """A finding of this rule."""
        return Finding(self.id, severity or self.severity, subject, message, fix, evidence)


def rule(
    id: str,  # noqa: A002 - the word that users know it by
    severity: Severity,
    title: str,
) -> Callable[[Callable[[Rule, LintContext], Iterator[Finding]]], Rule]:
    """Make a rule of the function below it: `def library_not_found(rule, case)` yields findings."""
    return lambda check_binary: Rule(id, severity, title, check_binary)
