"""Globs over rule ids and subjects.

What a project wants to hear of: rules selected and ignored, findings allowed, findings known before.
"""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from torchlink.lint.finding import Allowed
from torchlink.lint.policy.baseline import bare, fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torchlink.lint.finding import FileReport, Finding, LintReport
    from torchlink.lint.policy.baseline import BaselineEntry
    from torchlink.lint.policy.config import AllowEntry


def matching(rule: str, patterns: Iterable[str]) -> bool:
    """Whether a rule id is one of the patterns (ids or globs such as `rpath-*`)."""
    return any(fnmatchcase(rule, pattern) for pattern in patterns)


def covers(pattern: str, subject: str) -> bool:
    """Whether a glob covers a subject; one without a slash is tried on the subject's last component too."""
    if fnmatchcase(subject, pattern):
        return True
    return "/" not in pattern and fnmatchcase(subject.rstrip("/").rpartition("/")[2], pattern)


KNOWN = "in the baseline"  # the reason of a finding that a baseline covers


class UnmetBaseline:
    """The findings of a baseline that have not been met yet."""

    def __init__(self, baseline: Sequence[BaselineEntry]) -> None:
        self.left = Counter({entry.fingerprint: entry.count for entry in baseline})
        self._parts = {entry.fingerprint: frozenset(entry.parts) for entry in baseline}

    def meet(self, file: str, finding: Finding) -> bool:
        """Whether the baseline covers a finding of this file: one that has grown is a new one."""
        identity = fingerprint(file, finding)
        if self.left[identity] <= 0:
            return False
        self.left[identity] -= 1
        return self._parts[identity].issuperset(finding.parts)


def selected(rule: str, select: Sequence[str], ignore: Sequence[str]) -> bool:
    """Whether a rule is to be heard: in `select` (ids or globs; empty means all) and not in `ignore`."""
    return (not select or matching(rule, select)) and not matching(rule, ignore)


def apply(
    report: LintReport,
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    allow: Sequence[AllowEntry] = (),
    baseline: Sequence[BaselineEntry] = (),
) -> LintReport:
    """The report as the project wants it.

    Findings of rules that are not selected go; those that an allow entry or the baseline covers move to
    `allowed` with the reason. An entry that covers nothing adds a sentence to `stale`, unless its rule was
    not selected or a file that it may be about could not be looked at, for then nobody can tell.
    """
    used: set[int] = set()
    known = UnmetBaseline(baseline)
    files = tuple(
        _file(file, [f for f in file.findings if selected(f.rule, select, ignore)], allow, known, used)
        for file in report.files
    )
    return report._replace(
        files=files,
        stale=report.stale
        + tuple(
            _stale_allow(entry)
            for index, entry in enumerate(allow)
            if index not in used and _heard(entry.rule, select, ignore) and not report.unreadable
        )
        + tuple(_stale_baseline(report, baseline, known, select, ignore)),
    )


def _file(
    file: FileReport,
    findings: Sequence[Finding],
    allow: Sequence[AllowEntry],
    known: UnmetBaseline,
    used: set[int],
) -> FileReport:
    """One file's report with the covered findings moved; counts `known` down and adds to `used`."""
    kept: list[Finding] = []
    allowed: list[Allowed] = []
    for finding in findings:
        covering = [
            index
            for index, entry in enumerate(allow)
            if matching(finding.rule, (entry.rule,)) and covers(entry.subject, finding.subject)
        ]
        used.update(covering)
        in_baseline = known.meet(
            file.path, finding
        )  # if allowed too: it is still there, its entry is not stale
        if covering:
            allowed.append(Allowed(finding, allow[covering[0]].reason))
        elif in_baseline:
            allowed.append(Allowed(finding, KNOWN))
        else:
            kept.append(finding)
    return file._replace(findings=tuple(kept), allowed=file.allowed + tuple(allowed))


def _heard(rule: str, select: Sequence[str], ignore: Sequence[str]) -> bool:
    """Whether every rule that an allow entry's `rule` (id or glob) may mean was selected."""
    if not select and not ignore:
        return True
    return not set(rule) & set("*?[") and selected(rule, select, ignore)


def _stale_allow(entry: AllowEntry) -> str:
    where = f"{entry.origin}: " if entry.origin else ""
    return f"{where}nothing matches the allow entry for {entry.rule} on {entry.subject!r} ({entry.reason})."


def _stale_baseline(
    report: LintReport,
    baseline: Sequence[BaselineEntry],
    known: UnmetBaseline,
    select: Sequence[str],
    ignore: Sequence[str],
) -> Iterator[str]:
    """A sentence for each baseline entry that fewer findings met than it counts."""
    looked_at = {bare(file.path) for file in report.files if not file.unreadable}
    for entry in baseline:
        missed = known.left[entry.fingerprint]
        if missed > 0 and entry.file in looked_at and selected(entry.rule, select, ignore):
            some = "" if missed == entry.count else f" in {missed} of {entry.count} places"
            yield f"baseline: {entry.rule} on {entry.subject!r} in {entry.file} is gone{some}."
