"""A lint report as JUnit XML.

Each file is a test suite, and each rule a test case in it. Its name is the same in every run, so that a CI service
can show since when it fails; that would not work with a case for each finding.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from torchlink.lint.finding import Severity
from torchlink.report.plain import lines, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torchlink.lint.finding import Allowed, FileReport, Finding, LintReport

Counts = tuple[int, int, int, int]  # cases, failures, errors, skipped


def render(
    report: LintReport, *, rules: Sequence[str] = (), fail_on: Severity = Severity.ERROR, version: str = ""
) -> str:
    """Return the report with a passed, failed or skipped case for every rule in every file.

    A case fails if it has a finding at or above `fail_on`; lesser findings are in its output. A case whose findings
    are all allowed is skipped, with the reason. A file that could not be checked has one case, an error.

    Args:
        report: what to show.
        rules: ids of the rules that ran; if empty, only rules with findings appear.
        fail_on: the lowest severity that fails a case.
        version: torchlink's version; "": the running one.
    """
    from torchlink import __version__

    run = (("torchlink.version", version or __version__), ("torchlink.fail-on", fail_on.value))
    suites = [
        _unreadable(file, run) if file.unreadable else _suite(file, rules, fail_on, run)
        for file in report.files
    ]
    if report.stale:
        suites.append(_stale(report.stale))
    tests, failures, errors, skipped = (sum(suite[1][index] for suite in suites) for index in range(4))
    counts = f'tests="{tests}" failures="{failures}" errors="{errors}" skipped="{skipped}"'
    return document("torchlink lint", counts, "".join(text for text, _ in suites))


def document(name: str, counts: str, body: str) -> str:
    """Return a file of test suites, with a name and attributes for how many cases there are."""
    # Printed into a CI log it must not contain a command: its first character becomes a character reference.
    body = re.sub(r"^(\s*):(?=:)", r"\1&#58;", body, flags=re.MULTILINE)
    body = re.sub(r"#(?=#(?:\[|vso))", "&#35;", body)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<testsuites name={attribute(name)} {counts}>\n{body}</testsuites>\n"
    )


def _suite(
    file: FileReport, rules: Sequence[str], fail_on: Severity, run: tuple[tuple[str, str], ...]
) -> tuple[str, Counts]:
    """Return the suite of a file."""
    found: dict[str, list[Finding]] = {rule: [] for rule in rules}
    excused: dict[str, list[Allowed]] = {}
    for finding in file.findings:
        found.setdefault(finding.rule, []).append(finding)
    for allowed in file.allowed:
        found.setdefault(allowed.finding.rule, [])
        excused.setdefault(allowed.finding.rule, []).append(allowed)
    if not found:
        found["lint"] = []
    cases = []
    failures = skipped = 0
    for rule, findings in found.items():
        bad = [finding for finding in findings if finding.severity >= fail_on]
        rest = [finding for finding in findings if finding.severity < fail_on]
        failures += bool(bad)
        skipped += not findings and rule in excused
        cases.append(_case(file, rule, bad, rest, excused.get(rule, [])))
    counts = f'tests="{len(cases)}" failures="{failures}" errors="0" skipped="{skipped}"'
    properties = _properties(
        *run,
        ("torchlink.kind", file.kind),
        ("torchlink.closure", str(len(file.closure))),
        *(("torchlink.assumed", sentence) for sentence in file.assumed),
        *(("torchlink.not-checked", sentence) for sentence in file.not_checked),
    )
    text = f"  <testsuite name={attribute(file.path)} {counts}>\n{properties}{''.join(cases)}  </testsuite>\n"
    return text, (len(cases), failures, 0, skipped)


def _unreadable(file: FileReport, run: tuple[tuple[str, str], ...]) -> tuple[str, Counts]:
    """Return the suite of a file that could not be checked: one case with the reason."""
    why = " ".join(file.not_checked)
    case = (
        f'    <testcase classname={attribute(file.path)} name="lint">\n'
        f'      <error type="{file.kind}" message={attribute(why)}/>\n    </testcase>\n'
    )
    counts = 'tests="1" failures="0" errors="1" skipped="0"'
    text = f"  <testsuite name={attribute(file.path)} {counts}>\n{_properties(*run)}{case}  </testsuite>\n"
    return text, (1, 0, 1, 0)


def _stale(sentences: Sequence[str]) -> tuple[str, Counts]:
    """Return a suite with one skipped case for allow entries and baseline findings that match nothing."""
    case = (
        '    <testcase classname="torchlink" name="stale entries">\n'
        f"      <skipped message={attribute('; '.join(sentences))}/>\n    </testcase>\n"
    )
    counts = 'tests="1" failures="0" errors="0" skipped="1"'
    return f'  <testsuite name="torchlink" {counts}>\n{case}  </testsuite>\n', (1, 0, 0, 1)


def _case(
    file: FileReport, rule: str, bad: list[Finding], rest: list[Finding], excused: list[Allowed]
) -> str:
    inner = ""
    if bad:
        text = element(_blocks(bad))
        message = "; ".join(visible(finding.message) for finding in bad[:3])
        inner += (
            f'      <failure type="{bad[0].severity.value}" message={attribute(message)}>{text}</failure>\n'
        )
    elif not rest and excused:
        reasons = "; ".join(dict.fromkeys(allowed.reason for allowed in excused))
        inner += f"      <skipped message={attribute(f'allowed: {reasons}')}/>\n"
    if rest:
        inner += f"      <system-out>{element(_blocks(rest))}</system-out>\n"
    head = f"    <testcase classname={attribute(file.path)} name={attribute(rule)}"
    return f"{head}>\n{inner}    </testcase>\n" if inner else f"{head}/>\n"


def _blocks(findings: list[Finding]) -> Iterator[str]:
    """Return findings as lines of text."""
    for finding in findings:
        yield f"{finding.severity.value}: {visible(finding.rule)}: {visible(finding.subject)}"
        yield from lines(finding.message)
        if finding.fix:
            yield from lines(f"fix: {finding.fix}")
        yield from (f"| {visible(evidence)}" for evidence in finding.shown)


def _properties(*pairs: tuple[str, str]) -> str:
    inner = "".join(
        f"      <property name={attribute(name)} value={attribute(value)}/>\n" for name, value in pairs
    )
    return f"    <properties>\n{inner}    </properties>\n"


def attribute(text: str) -> str:
    """Return text as the value of an attribute, quoted."""
    return quoteattr(visible(text))


def element(texts: Iterable[str]) -> str:
    """Return lines as character data; `visible` has removed characters that XML 1.0 forbids, `escape` handles `]]>`."""
    return escape("\n".join(texts))
