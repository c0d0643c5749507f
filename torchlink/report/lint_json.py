"""A lint report as JSON, schema 1."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from torchlink.lint.finding import Severity
from torchlink.paths import page_address
from torchlink.report.plain import encodable

if TYPE_CHECKING:
    from torchlink.lint.finding import ClosureEntry, FileReport, Finding, LintReport

SCHEMA = 1


def render(report: LintReport) -> str:
    """Return one object: `schema`, `files`, `stale`, `summary`.

    A byte of a file name that is not UTF-8 is written as an escape in the string, because strict parsers reject the
    lone surrogates that Python would write.
    """
    document = {
        "schema": SCHEMA,
        "files": [_file(file) for file in report.files],
        "stale": list(report.stale),
        "summary": {
            **{severity.value: report.count(severity) for severity in reversed(Severity)},
            "unreadable": len(report.unreadable),
        },
    }
    return json.dumps(clean(document), indent=2)


def _file(file: FileReport) -> dict[str, object]:
    return {
        "path": file.path,
        "kind": file.kind,
        "findings": [finding_to_json(finding) for finding in file.findings],
        "closure": [_entry(entry) for entry in file.closure],
        "allowed": [
            {**finding_to_json(allowed.finding), "reason": allowed.reason} for allowed in file.allowed
        ],
        "not_checked": list(file.not_checked),
        "assumed": list(file.assumed),
    }


def finding_to_json(finding: Finding) -> dict[str, object]:
    """Return a finding as an object."""
    return {
        "rule": finding.rule,
        "severity": finding.severity.value,
        "subject": finding.subject,
        "message": finding.message,
        "fix": finding.fix,
        "evidence": list(finding.evidence),
        "demangled": list(finding.demangled),
        "page": page_address(f"rules/{finding.rule}"),
    }


def _entry(entry: ClosureEntry) -> dict[str, object]:
    return {
        "name": entry.name,
        "path": entry.path,
        "how": entry.found_via,
        "needed_by": entry.needed_by,
        "needs": list(entry.needs),
        "searched": list(entry.searched),
    }


def clean(value: Any) -> Any:
    """Return the value with every string in it made `encodable`."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, dict):
        return {key: clean(item) for key, item in value.items()}
    return value
