"""What `torchlink lint` says of its rules themselves: the list of them, and the page of one."""

from __future__ import annotations

import json

from torchlink.cli.output import answer, say


def list_rules(*, as_json: bool) -> None:
    """Print every rule: its id, its severity, what it finds."""
    from torchlink.lint.rules import RULES

    if as_json:
        rules = [{"id": rule.id, "severity": rule.severity.value, "title": rule.title} for rule in RULES]
        answer(json.dumps({"schema": 1, "rules": rules}, indent=2))
        return
    width = max(len(rule.id) for rule in RULES)
    for rule in RULES:
        say(f"{rule.id:<{width}}  {rule.severity.value:<7}  {rule.title}")


def explain(name: str, *, as_json: bool) -> None:
    """Print the page of a rule as Markdown, or of each that a glob names.

    Raises:
        UsageError: there is no such rule.
    """
    from torchlink.lint import rule_docs
    from torchlink.lint.rules import choose

    wanted = {rule.id for rule in choose([name])}
    pages = [page for page in rule_docs() if page.id in wanted]
    if as_json:
        rules = [
            {"id": page.id, "severity": page.severity.value, "title": page.title, "page": page.help}
            for page in pages
        ]
        answer(json.dumps({"schema": 1, "rules": rules}, indent=2))
    else:
        say("\n\n".join(page.help.rstrip("\n") for page in pages))
