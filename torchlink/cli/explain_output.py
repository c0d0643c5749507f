"""Print an explanation in the chosen format."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.cli.output import answer, notes, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchlink.cli.explain import ExplainArguments
    from torchlink.errors import FileError
    from torchlink.explain.explanation import Explanation


def form_of(arguments: ExplainArguments) -> str:
    """Return the chosen format.

    Raises:
        UsageError: two are chosen.
    """
    if not arguments.json:
        return arguments.format
    if arguments.format not in {"text", "json"}:
        from torchlink.errors import UsageError

        raise UsageError(
            f"--json and --format {arguments.format} cannot be combined.", hint="Use only one of them."
        )
    return "json"


def show_failures(failed: Sequence[FileError], form: str, count: int) -> None:
    """Print why some logs could not be read, as an annotation for GitHub, too.

    Raises:
        FileError: none of `count` logs could be read.
    """
    if form == "github":
        from torchlink.report import explain_github

        for error in failed:
            answer(explain_github.failure(error))
    if len(failed) == count:
        notes(error.message for error in failed[1:])
        raise failed[0]


def show(
    explanation: Explanation,
    form: str,
    *,
    verbose: bool = False,
    err: bool = False,
    failed: Sequence[FileError] = (),
) -> None:
    """Print an explanation.

    Args:
        explanation: what to print.
        form: one of `explain.FORMATS`.
        verbose: print the fixes for all build systems.
        err: print on stderr: stdout has the output of a command.
        failed: the errors of logs that could not be read.
    """
    if form == "json":
        from torchlink.report import explain_json

        answer(explain_json.render(explanation, failed).rstrip("\n"))
        return
    if explanation.gaps:
        from torchlink.report.explain_text import gaps

        notes(gaps(explanation))
    if form == "github":
        from torchlink.cli.lint_output import append_summary, root_of_checkout
        from torchlink.report import explain_github

        append_summary(explain_github.render_summary(explanation))
        text = explain_github.render(explanation, cwd=str(Path.cwd()), root=root_of_checkout())
        sys.stdout.flush()
        answer(text.rstrip("\n"))
        return
    from torchlink.report import explain_text
    from torchlink.report.plain import use_color

    stream = sys.stderr if err else sys.stdout
    color = use_color(stream, os.environ)
    stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    text = explain_text.render(explanation, color=color, verbose=verbose)
    say(("\n" if err else "") + text.rstrip("\n"), err=err, color=color)
