"""Demangling the C++ names in the evidence of findings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.toolchain.demangler import LONGEST, demangled_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from torchlink.lint.finding import FileReport, Finding, LintReport

MANGLED = re.compile(r"\b_Z\w[\w.$]*")


def demangled(report: LintReport) -> LintReport:
    """Return the report with `demangled` set in findings whose evidence contains C++ names.

    Without a demangler, or if it does not finish in time, return the report unchanged.
    """
    names: set[str] = set()
    _map(report, lambda finding: _gather(finding, names))
    plain = demangled_names(sorted(names))
    return _map(report, lambda finding: _with(finding, plain)) if plain else report


def _map(report: LintReport, change: Callable[[Finding], Finding]) -> LintReport:
    def changed(file: FileReport) -> FileReport:
        return file._replace(
            findings=tuple(map(change, file.findings)),
            allowed=tuple(each._replace(finding=change(each.finding)) for each in file.allowed),
        )

    return report._replace(files=tuple(map(changed, report.files)))


def _gather(finding: Finding, names: set[str]) -> Finding:
    names.update(name for line in finding.evidence for name in MANGLED.findall(line) if len(name) <= LONGEST)
    return finding


def _with(finding: Finding, plain: dict[str, str]) -> Finding:
    lines = tuple(MANGLED.sub(lambda match: plain.get(match[0], match[0]), line) for line in finding.evidence)
    return finding if lines == finding.evidence else finding._replace(demangled=lines)
