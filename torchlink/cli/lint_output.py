"""Print a lint report in the chosen format, the list of rules, or the page of a rule."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink import __version__
from torchlink.cli.output import answer, colored, note, say
from torchlink.shown import visible

if TYPE_CHECKING:
    from torchlink.lint.finding import LintReport, Severity


def show(report: LintReport, form: str, threshold: Severity, *, tree: bool, verbose: bool) -> None:
    """Print the report in the chosen format."""
    color = colored()
    if tree:
        from torchlink.report import lint_tree

        text = lint_tree.render(
            report, glyphs=lint_tree.glyphs_for(sys.stdout.encoding), color=color, verbose=verbose
        )
    elif form == "json":
        from torchlink.report import lint_json

        text = lint_json.render(report)
    elif form == "sarif":
        from torchlink.lint import rule_docs
        from torchlink.report import sarif

        text = sarif.render(
            report, rules=rule_docs(), cwd=str(Path.cwd()), root=root_of_checkout(), version=__version__
        )
    elif form == "github":
        from torchlink.report import github

        text = github.render(report, cwd=str(Path.cwd()), root=root_of_checkout())
        append_summary(github.render_summary(report))
    elif form == "junit":
        from torchlink.lint.rules import RULES
        from torchlink.report import junit

        text = junit.render(report, rules=[rule.id for rule in RULES], fail_on=threshold, version=__version__)
    else:
        from torchlink.report import lint_text

        text = lint_text.render(report, color=color, verbose=verbose)
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if tree or form == "text":
        say(text.rstrip("\n"), color=color)
    else:
        answer(text.rstrip("\n"))


def root_of_checkout() -> str:
    """Return the directory that paths of annotations are relative to."""
    return os.environ.get("GITHUB_WORKSPACE") or str(Path.cwd())


def append_summary(markdown: str) -> None:
    """Append to GitHub's step summary, if this runs in GitHub Actions."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path:
        try:
            # Non-blocking: opening a FIFO that nobody reads would wait.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
            with open(os.open(path, flags, 0o666), "ab", buffering=0) as stream:  # noqa: PTH123 - see above
                stream.write(markdown.encode(errors="backslashreplace"))
        except OSError as error:
            note(f"the step summary {path} cannot be written: {error.strerror}.")


def write_page(report: LintReport, path: Path) -> None:
    """Write the HTML report."""
    from torchlink.atomic import unwritable, write_file
    from torchlink.lint import rule_docs
    from torchlink.report import lint_html

    page = lint_html.render(report, rules=rule_docs(), version=__version__)
    try:
        write_file(path, page.encode(errors="backslashreplace"))
    except OSError as error:
        raise unwritable(path, error, "Name a file that you can write.") from error
    say(f"torchlink: wrote {visible(str(path))}", err=True)


def list_rules(*, as_json: bool) -> None:
    """Print every rule with its id, its severity and what it finds."""
    from torchlink.lint.rules import RULES

    if as_json:
        rules = [{"id": rule.id, "severity": rule.severity.value, "title": rule.title} for rule in RULES]
        answer(json.dumps({"schema": 1, "rules": rules}, indent=2))
        return
    width = max(len(rule.id) for rule in RULES)
    for rule in RULES:
        say(f"{rule.id:<{width}}  {rule.severity.value:<7}  {rule.title}")


def explain(name: str, *, as_json: bool) -> None:
    """Print the page of a rule, or of each rule that a glob matches, as Markdown.

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
