"""Rules over the closure of a built binary."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torchlink.lint.finding import RuleDoc


def rule_docs() -> tuple[RuleDoc, ...]:
    """Return the documentation of every rule, with its page as Markdown."""
    from torchlink.lint.finding import RuleDoc
    from torchlink.lint.rules import RULES
    from torchlink.paths import data_dir, page_address

    pages = data_dir("docs/rules")
    return tuple(
        RuleDoc(
            rule.id,
            rule.severity,
            rule.title,
            (pages / f"{rule.id}.md").read_text(encoding="utf-8"),
            address if "://" in (address := page_address(f"rules/{rule.id}")) else "",
        )
        for rule in RULES
    )
