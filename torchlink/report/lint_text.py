"""A lint report as text for a terminal or a log."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from torchlink.lint.finding import Severity
from torchlink.paths import page_reference
from torchlink.report.plain import BOLD, DIM, GREEN, SEVERITY, lines, paint, plural, totals, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.lint.finding import FileReport, Finding, LintReport

INDENT = " " * 11  # the width of "  warning  "
FEW = 4  # lines of evidence shown without -v


def render(report: LintReport, *, color: bool = False, verbose: bool = False, width: int = 100) -> str:
    """Return the findings file by file, and the totals in one line at the end.

    Args:
        report: what to show.
        color: write ANSI colours; only for a terminal, and never if NO_COLOR is set.
        verbose: show all evidence, the allowed findings and where missing libraries were searched.
        width: columns to wrap sentences at; paths and commands are never broken.
    """
    width = max(width, 40)
    parts: list[str] = []
    pages: set[str] = set()  # rules whose page is named
    for file in report.files:
        parts.extend(_file(file, pages, color=color, verbose=verbose, width=width))
        parts.append("")
    parts.extend(line for stale in report.stale for line in _wrapped(f"stale: {visible(stale)}", "", width))
    worst = max((f.severity for file in report.files for f in file.findings), default=None)
    if report.unreadable:
        worst = Severity.ERROR
    parts.append(paint(totals(report), SEVERITY[worst] if worst else GREEN, color=color))
    return "\n".join(parts) + "\n"


def _file(file: FileReport, pages: set[str], *, color: bool, verbose: bool, width: int) -> Iterator[str]:
    closure = f", closure of {plural(len(file.closure), 'object')}" if file.closure else ""
    clean = "" if file.findings or file.unreadable else ": clean"
    yield paint(visible(file.path), BOLD, color=color) + f" ({visible(file.kind)}{closure}){clean}"
    rules = max((len(visible(finding.rule)) for finding in file.findings), default=0)
    for finding in file.findings:
        yield ""
        yield from _finding(finding, rules, color=color, verbose=verbose, width=width)
        if finding.rule not in pages:
            pages.add(finding.rule)
            yield paint(f"{INDENT}page: {page_reference(f'rules/{visible(finding.rule)}')}", DIM, color=color)
    if file.findings and (file.not_checked or file.assumed or file.allowed):
        yield ""
    for sentence in file.assumed:
        yield from _wrapped(f"assumed: {visible(sentence)}", "  ", width)
    yield from _not_checked(file, verbose=verbose, width=width)
    if verbose:
        for allowed in file.allowed:
            what = f"{visible(allowed.finding.rule)} {visible(allowed.finding.subject)}"
            yield from _wrapped(f"allowed: {what} ({visible(allowed.reason)})", "  ", width)
        for entry in file.closure:
            if entry.path is None and entry.searched:
                requester = visible(entry.needed_by or file.path)
                yield f"  searched for {visible(entry.name)}, needed by {requester}:"
                yield from (
                    f"    {number}. {visible(place)}" for number, place in enumerate(entry.searched, 1)
                )
    elif file.allowed:
        yield f"  allowed: {plural(len(file.allowed), 'finding')} (-v shows them)"


def _not_checked(file: FileReport, *, verbose: bool, width: int) -> Iterator[str]:
    """Return what was not checked; what cannot be checked from any text of its kind is only counted without -v."""
    label = "could not be checked" if file.unreadable else "not checked"
    hidden = () if verbose else file.of_every_text
    for sentence in file.not_checked:
        if sentence not in hidden:
            yield from _wrapped(f"{label}: {visible(sentence)}", "  ", width)
    if hidden:
        yield f"  {label}: {plural(len(hidden), 'point')} that no such text can show (-v lists them)"


def _finding(finding: Finding, rules: int, *, color: bool, verbose: bool, width: int) -> Iterator[str]:
    severity = paint(f"{finding.severity.value:<7}", SEVERITY[finding.severity], color=color)
    rule = paint(f"{visible(finding.rule):<{rules}}", BOLD, color=color)
    yield f"  {severity}  {rule}  {visible(finding.subject)}"
    for line in lines(finding.message):
        yield from _wrapped(line, INDENT, width)
    if finding.fix:
        yield from _labelled("fix: ", finding.fix, GREEN, color=color, width=width)
    shown = finding.shown if verbose or len(finding.shown) <= FEW + 1 else finding.shown[:FEW]
    for evidence in shown:
        yield paint(f"{INDENT}| {visible(evidence)}", DIM, color=color)
    if len(shown) < len(finding.evidence):
        yield paint(f"{INDENT}| and {len(finding.evidence) - len(shown)} more (-v)", DIM, color=color)


def _labelled(label: str, text: str, code: str, *, color: bool, width: int) -> Iterator[str]:
    """Return wrapped lines, indented to the end of a label."""
    hanging = INDENT + " " * len(label)
    wrapped = [part for line in lines(text) for part in _wrapped(line, hanging, width)]
    yield INDENT + paint(label, code, color=color) + wrapped[0][len(hanging) :]
    yield from wrapped[1:]


def _wrapped(text: str, indent: str, width: int) -> list[str]:
    own = text[: len(text) - len(text.lstrip(" "))]  # commands in a fix are indented
    return textwrap.wrap(
        text.strip(),
        width,
        initial_indent=indent + own,
        subsequent_indent=indent + own,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]
