"""A lint report as SARIF 2.1.0, the format that code scanning services read.

<https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/sarif-v2.1.0-errata01-os-complete.html>; GitHub documents
the parts that it uses on its page "SARIF support for code scanning".
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote

from torchlink.lint.finding import Severity
from torchlink.lint.policy.baseline import fingerprint
from torchlink.report.plain import STREAM, lines, located, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torchlink.lint.finding import FileReport, Finding, LintReport, RuleDoc

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
BASE = "%SRCROOT%"  # the root of the checkout, which the reader of the file substitutes


def render(
    report: LintReport, *, rules: Sequence[RuleDoc] = (), cwd: str, root: str, version: str = ""
) -> str:
    """Return one run of one tool, as one JSON document.

    Args:
        report: what to show.
        rules: all rules of lint; a rule that only a finding names is added with its id alone.
        cwd: the absolute directory that relative paths of the report start from.
        root: the absolute directory of the checkout; files below it get relative URIs.
        version: torchlink's version; "": the running one.
    """
    from torchlink import __version__

    documents = _rules(report, rules)
    numbers = {str(rule["id"]): number for number, rule in enumerate(documents)}
    places = [_place(file.path, cwd, root) for file in report.files]
    results: list[dict[str, object]] = []
    for index, (file, place) in enumerate(zip(report.files, places, strict=True)):
        location = {**place, "index": index}
        results += [_result(file, finding, numbers, location) for finding in file.findings]
        results += [
            _result(file, allowed.finding, numbers, location, allowed.reason) for allowed in file.allowed
        ]
    run = {
        "tool": {
            "driver": {"name": "torchlink", "version": version or __version__, "rules": documents},
        },
        "originalUriBaseIds": {BASE: {"description": {"text": "The root of the checkout."}}},
        "artifacts": [{"location": place, "roles": ["analysisTarget"]} for place in places],
        "invocations": [
            {
                "executionSuccessful": not report.unreadable,
                "toolExecutionNotifications": [
                    *_unreadable(report.files, places),
                    *_notifications(report),
                ],
            }
        ],
        "results": results,
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _rules(report: LintReport, rules: Sequence[RuleDoc]) -> list[dict[str, object]]:
    documents = [_rule(rule) for rule in rules]
    known = {rule.id for rule in rules}
    for file in report.files:
        for finding in (*file.findings, *(allowed.finding for allowed in file.allowed)):
            if finding.rule not in known:
                known.add(finding.rule)
                documents.append({"id": visible(finding.rule)})
    return documents


def _rule(rule: RuleDoc) -> dict[str, object]:
    document: dict[str, object] = {
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.title},
        "defaultConfiguration": {"level": rule.severity.value},
        "properties": {"tags": ["libtorch", "linking"]},
    }
    if rule.help:
        document["help"] = {"text": rule.help, "markdown": rule.help}
    if rule.uri:
        document["helpUri"] = rule.uri
    return document


def _result(
    file: FileReport,
    finding: Finding,
    numbers: Mapping[str, int],
    location: Mapping[str, object],
    reason: str | None = None,
) -> dict[str, object]:
    identity = fingerprint(file.path, finding)
    return {
        "ruleId": visible(finding.rule),
        "ruleIndex": numbers[visible(finding.rule)],
        "level": finding.severity.value,
        "message": {"text": _message(finding)},
        "locations": [
            {
                # A binary has no lines, but GitHub shows no result without one.
                "physicalLocation": {"artifactLocation": location, "region": {"startLine": 1}},
                "logicalLocations": [{"fullyQualifiedName": visible(finding.subject)}],
            }
        ],
        # GitHub uses only the second one; without it, GitHub would hash a line of the binary, which is the same for
        # every finding.
        "partialFingerprints": {"torchlinkFinding/v1": identity, "primaryLocationLineHash": f"{identity}:1"},
        "suppressions": []
        if reason is None
        else [{"kind": "external", "status": "accepted", "justification": visible(reason)}],
    }


def _message(finding: Finding) -> str:
    """Return message, fix and evidence as plain text.

    Braces are not doubled, although the standard requires it: without `arguments` no reader known to us undoes
    that, and users would see a wrong `${TORCH_LIBRARIES}`.
    """
    parts = ["\n".join(lines(finding.message))]
    if finding.fix:
        parts.append("Fix: " + "\n".join(lines(finding.fix)))
    if finding.evidence:
        parts.append("\n".join(visible(evidence) for evidence in finding.shown))
    # "operator[](int)" would be read as a link
    return "\n\n".join(parts).replace("](", "] (")


def _place(path: str, cwd: str, root: str) -> dict[str, object]:
    """Return the artifact location of a file: relative to the checkout, or a file URI outside it."""
    if path == STREAM:
        return {"uri": "stdin", "description": {"text": "standard input"}}
    place = located(path, cwd, root)
    uri = quote(place.encode("utf-8", "surrogateescape"), safe="/")
    return {"uri": f"file://{uri}"} if place.startswith("/") else {"uri": uri, "uriBaseId": BASE}


def _notifications(report: LintReport) -> list[dict[str, object]]:
    """Return what was assumed, what was not checked, and what is stale, as notifications of the run."""
    remarks = [
        f"{visible(file.path)}: {visible(sentence)}"
        for file in report.files
        if not file.unreadable
        for sentence in (*(f"assumed: {each}" for each in file.assumed), *file.not_checked)
    ]
    return [_notification(Severity.NOTE, text) for text in (*remarks, *map(visible, report.stale))]


def _unreadable(
    files: Sequence[FileReport], places: Sequence[Mapping[str, object]]
) -> Iterator[dict[str, object]]:
    """Return the files that could not be checked, as error notifications."""
    for index, (file, place) in enumerate(zip(files, places, strict=True)):
        if file.unreadable:
            text = f"{visible(file.path)} could not be checked: {' '.join(map(visible, file.not_checked))}"
            location = {"physicalLocation": {"artifactLocation": {**place, "index": index}}}
            yield {**_notification(Severity.ERROR, text), "locations": [location]}


def _notification(level: Severity, text: str) -> dict[str, object]:
    return {"level": level.value, "message": {"text": text.replace("](", "] (")}}
