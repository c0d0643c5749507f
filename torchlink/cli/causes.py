"""The cause of a failure, printed by the commands that run other tools; nothing here is imported before one fails."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from torchlink.cli.output import say
from torchlink.errors import BuildFailedError, ForwardFailedError, RunFailedError, TorchlinkError
from torchlink.shown import quoted, shortened, visible

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torchlink.explain.explanation import Found

LONGEST_EVIDENCE = 200  # characters
MOST_CAUSES = 3
MOST_FIXES = 2


def explain_output(output: bytes, libtorch: Path, target: str, command: Sequence[str]) -> None:
    """Print the causes behind what a tool printed when it failed, if there are any.

    Args:
        output: what it printed.
        libtorch: root of the one that it was to use.
        target: whose fixes are shown, such as "cmake".
        command: what was typed and has failed; it is no fix.
    """
    for found in causes_in(output, libtorch, command=command)[:MOST_CAUSES]:
        print_cause(found, target)


def explain_error(error: TorchlinkError, command: Sequence[str]) -> Found | None:
    """Find the cause of an error that a tool or a program has printed, and name it in the error's JSON.

    Args:
        error: the error.
        command: what was typed and has failed.
    """
    if not isinstance(error, (BuildFailedError, ForwardFailedError, RunFailedError)):
        return None
    text = "\n".join((error.message, *error.details))
    found = causes_in(_log_of(error) or text.encode(errors="replace"), command=command)
    if not found:
        return None
    error.cause = found[0].cause.id
    return found[0]


def explain_log(error: TorchlinkError, path: Path, piped: bytes, *, as_json: bool) -> int:
    """Print the error of a text that lint cannot judge, and the causes that it shows as a log; return the exit code.

    Args:
        error: lint's.
        path: the file with the text, or `-`.
        piped: what `-` stands for.
        as_json: print the error as JSON, with the first cause.

    Raises:
        TorchlinkError: `error`, if the text shows no cause.
    """
    from torchlink.bounds import first_bytes
    from torchlink.cli.main import render_error
    from torchlink.streams import MOST_KEPT

    text = piped if str(path) == "-" else first_bytes(path, MOST_KEPT)
    found = causes_in(text, here=False)
    if not found:
        raise error
    error.cause = found[0].cause.id
    error.hint = f"It is a log: `torchlink explain {quoted(str(path))}` names the cause of its errors."
    render_error(error, as_json=as_json)
    if not as_json:
        for each in found[:MOST_CAUSES]:
            print_cause(each)
    return error.exit_code


def causes_in(
    output: bytes, libtorch: Path | None = None, *, here: bool = True, command: Sequence[str] = ()
) -> Sequence[Found]:
    """Return the causes that a tool's output shows; none if they cannot be looked for.

    Args:
        output: what it printed.
        libtorch: root of the one that it is about.
        here: whether it ran on this machine.
        command: what was typed and has failed.
    """
    from torchlink.explain.explanation import explain
    from torchlink.explain.facts import MachineFacts

    try:
        facts = MachineFacts(here=here, root=libtorch, command=command)
        return explain([("output", io.BytesIO(output))], facts).causes
    except TorchlinkError:  # the failure itself has been reported
        return ()


def print_cause(found: Found, target: str = "") -> None:
    """Print a cause in a few lines on stderr, with the fixes for one build system where it has any."""
    cause = found.cause
    say(f"torchlink: cause: {visible(cause.title)} [{visible(cause.id)}, {found.certainty}]", err=True)
    for line in found.evidence[:1]:
        say(f"  | {shortened(visible(line.text.strip()), LONGEST_EVIDENCE)}", err=True)
    for note in found.notes[:1]:
        say(f"  {visible(note)}", err=True)
    fitting = [fix for fix in found.fixes if fix.target == target] or found.fixes[: max(found.fitting, 1)]
    for fix in sorted(fitting, key=lambda fix: not fix.command)[:MOST_FIXES]:
        command = f": {visible(fix.command)}" if fix.command else "."
        say(f"  -> {visible(fix.text.rstrip('.'))}{command}", err=True)
    say(f"  torchlink docs causes/{visible(cause.id)}", err=True)


def _log_of(error: TorchlinkError) -> bytes:
    """Return the log that a failed build has left, or nothing."""
    from torchlink.bounds import first_bytes
    from torchlink.streams import MOST_KEPT

    log = getattr(error, "log", None)
    if log is None:
        return b""
    try:
        return first_bytes(log, MOST_KEPT)
    except (OSError, TorchlinkError):
        return b""
