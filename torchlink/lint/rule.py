"""Rules: an id, a severity, a one-sentence title, and a pure function from a case to findings."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torchlink.lint.context import LintContext
    from torchlink.lint.finding import Finding, Severity


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
        from torchlink.lint.finding import Finding

        return Finding(self.id, severity or self.severity, subject, message, fix, evidence)


def rule(
    id: str,  # noqa: A002 - the word that users know it by
    severity: Severity,
    title: str,
) -> Callable[[Callable[[Rule, LintContext], Iterator[Finding]]], Rule]:
    """Make a rule of the function below it: `def library_not_found(rule, case)` yields findings."""
    return lambda check_binary: Rule(id, severity, title, check_binary)
