"""Applying a project's policy to a report: rules selected and ignored, findings allowed or in the baseline."""

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

KNOWN = "in the baseline"  # the reason of a finding that a baseline covers


def apply(
    report: LintReport,
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    allow: Sequence[AllowEntry] = (),
    baseline: Sequence[BaselineEntry] = (),
) -> LintReport:
    """Apply a policy to a report.

    Findings of rules that are not selected are dropped; those that an allow entry or the baseline covers move to
    `allowed` with the reason. An entry that covers nothing adds a sentence to `stale`, unless its rule was not selected
    or a file that it may apply to could not be checked.
    """
    used: set[int] = set()
    known = RemainingBaseline(baseline)
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
            if index not in used and _all_selected(entry.rule, select, ignore) and not report.unreadable
        )
        + tuple(_stale_baseline(report, baseline, known, select, ignore)),
    )


def _file(
    file: FileReport,
    findings: Sequence[Finding],
    allow: Sequence[AllowEntry],
    known: RemainingBaseline,
    used: set[int],
) -> FileReport:
    """Move the covered findings of one file to `allowed`; counts `known` down and adds to `used`."""
    kept: list[Finding] = []
    allowed: list[Allowed] = []
    for finding in findings:
        covering = [
            index
            for index, entry in enumerate(allow)
            if matching(finding.rule, (entry.rule,)) and covers(entry.subject, finding.subject)
        ]
        used.update(covering)
        # Matched even if it is allowed as well, so that its baseline entry is not reported as stale.
        in_baseline = known.match(file.path, finding)
        if covering:
            allowed.append(Allowed(finding, allow[covering[0]].reason))
        elif in_baseline:
            allowed.append(Allowed(finding, KNOWN))
        else:
            kept.append(finding)
    return file._replace(findings=tuple(kept), allowed=file.allowed + tuple(allowed))


def matching(rule: str, patterns: Iterable[str]) -> bool:
    """Whether a rule id is one of the patterns (ids or globs such as `rpath-*`)."""
    return any(fnmatchcase(rule, pattern) for pattern in patterns)


def covers(pattern: str, subject: str) -> bool:
    """Whether a glob matches a subject, or, if the glob has no slash, the subject's last component."""
    if fnmatchcase(subject, pattern):
        return True
    return "/" not in pattern and fnmatchcase(subject.rstrip("/").rpartition("/")[2], pattern)


class RemainingBaseline:
    """The findings of a baseline that no finding of the report has matched yet."""

    def __init__(self, baseline: Sequence[BaselineEntry]) -> None:
        self.left = Counter({entry.fingerprint: entry.count for entry in baseline})
        self._parts = {entry.fingerprint: frozenset(entry.parts) for entry in baseline}

    def match(self, file: str, finding: Finding) -> bool:
        """Count off a finding; return whether the baseline covers it. A finding with new parts is not covered."""
        identity = fingerprint(file, finding)
        if self.left[identity] <= 0:
            return False
        self.left[identity] -= 1
        return self._parts[identity].issuperset(finding.parts)


def selected(rule: str, select: Sequence[str], ignore: Sequence[str]) -> bool:
    """Whether a rule is in `select` (ids or globs; empty means all) and not in `ignore`."""
    return (not select or matching(rule, select)) and not matching(rule, ignore)


def _all_selected(rule: str, select: Sequence[str], ignore: Sequence[str]) -> bool:
    """Whether every rule that an allow entry's `rule` (id or glob) may match was selected."""
    if not select and not ignore:
        return True
    return not set(rule) & set("*?[") and selected(rule, select, ignore)


def _stale_allow(entry: AllowEntry) -> str:
    where = f"{entry.origin}: " if entry.origin else ""
    return (
        f"{where}no finding matches the allow entry for {entry.rule} on {entry.subject!r} ({entry.reason})."
    )


def _stale_baseline(
    report: LintReport,
    baseline: Sequence[BaselineEntry],
    known: RemainingBaseline,
    select: Sequence[str],
    ignore: Sequence[str],
) -> Iterator[str]:
    """Return a sentence for each baseline entry with a higher count than the findings that match it."""
    checked = {bare(file.path) for file in report.files if not file.unreadable}
    for entry in baseline:
        missing = known.left[entry.fingerprint]
        if missing > 0 and entry.file in checked and selected(entry.rule, select, ignore):
            some = "" if missing == entry.count else f" in {missing} of {entry.count} places"
            yield f"baseline: {entry.rule} on {entry.subject!r} in {entry.file} is no longer found{some}."
