"""Demangling the C++ names in the evidence of findings, with binutils' `c++filt`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.errors import ResourcesError, TorchlinkError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torchlink.lint.finding import FileReport, Finding, LintReport

DEMANGLER = "c++filt"
MANGLED = re.compile(r"\b_Z\w[\w.$]*")
LONGEST = 4000  # characters of a name, mangled or not; longer ones are not readable
# A crafted name of 300 characters can demangle to terabytes.
SECONDS = 2
MEMORY = 64 << 20  # bytes


def demangled(report: LintReport) -> LintReport:
    """Return the report with `demangled` set in findings whose evidence contains C++ names.

    Without a demangler, or if it does not finish in time, return the report unchanged.
    """
    names: set[str] = set()
    _map(report, lambda finding: _gather(finding, names))
    plain = _plain(sorted(names))
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


def _plain(names: list[str]) -> dict[str, str]:
    """Return mangled name → demangled name, for those that the demangler can parse."""
    from torchlink import process  # not needed for a report without C++ names

    tool = process.which(DEMANGLER) if names else None
    if tool is None:
        return {}
    try:
        text = process.filtered(
            [tool], "".join(f"{name}\n" for name in names), timeout=SECONDS, memory=MEMORY
        )
    except ResourcesError:
        raise
    except TorchlinkError:
        return {}
    lines = text.split("\n")[:-1]
    if len(lines) != len(names):
        return {}
    return {
        name: line for name, line in zip(names, lines, strict=True) if line != name and len(line) <= LONGEST
    }


def _with(finding: Finding, plain: dict[str, str]) -> Finding:
    lines = tuple(MANGLED.sub(lambda match: plain.get(match[0], match[0]), line) for line in finding.evidence)
    return finding if lines == finding.evidence else finding._replace(demangled=lines)
