"""An explanation as text for a terminal or a log."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from torchlink.explain.lines import HEAD, MOST, TAIL
from torchlink.paths import page_reference
from torchlink.report.plain import BOLD, DIM, GREEN, STREAM, paint, plural, visible
from torchlink.shown import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.explain.explanation import Explanation, Found, FoundFix
    from torchlink.explain.lines import Line

INDENT = "  "
LONGEST_LINE = 300  # characters of a line of evidence
COLORS = {"certain": "1;31", "likely": "33"}


def render(explanation: Explanation, *, color: bool = False, verbose: bool = False, width: int = 100) -> str:
    """Return the causes in the order in which to fix them, or what was recognised instead.

    Args:
        explanation: what to show.
        color: write ANSI colours.
        verbose: show the fixes of all build systems.
        width: columns to wrap sentences at.
    """
    parts: list[str] = []
    count = len(explanation.causes)
    for number, found in enumerate(explanation.causes, 1):
        parts += _cause(found, f"{number}. " if count > 1 else "", color=color, verbose=verbose, width=width)
        parts.append("")
    if not count:
        parts += _none(explanation, color=color, width=width)
    return "\n".join(parts).rstrip("\n") + "\n"


def gaps(explanation: Explanation) -> Iterator[str]:
    """Yield a sentence about each part of a log that was not searched."""
    for gap in explanation.gaps:
        name = "stdin" if gap.file == STREAM else gap.file
        if gap.last is None:
            yield f"{name}: nothing after line {gap.first} was read: it has more than {(HEAD + MOST) >> 30} GiB."
        else:
            size = f"more than {(HEAD + TAIL) >> 20} MiB"
            yield f"{name}: lines {gap.first} to {gap.last} were not searched: the log has {size}."


def _cause(found: Found, number: str, *, color: bool, verbose: bool, width: int) -> Iterator[str]:
    cause = found.cause
    certainty = paint(found.certainty, COLORS[found.certainty], color=color)
    yield f"{number}{paint(visible(cause.title), BOLD, color=color)}  [{visible(cause.id)}, {certainty}]"
    for line in found.evidence:
        yield _evidence(line, color=color)
    if found.more:
        yield paint(f"{INDENT}| and {plural(found.more, 'more line')} like these", DIM, color=color)
    for paragraph in cause.text.strip().split("\n\n"):
        yield from _wrapped(" ".join(paragraph.split()), INDENT, width)
    for note in found.notes:
        yield from _wrapped(f"here: {note}", INDENT, width)
    shown = found.fixes if verbose else found.fixes[: found.fitting]
    for fix in shown:
        yield from _fix(fix, color=color, width=width)
    hidden = [visible(fix.target) for fix in found.fixes[len(shown) :]]
    if hidden:
        yield f"{INDENT}fixes for {', '.join(dict.fromkeys(hidden))}: -v"
    if found.page is not None:
        yield f"{INDENT}page: {page_reference(found.page)}"


def _evidence(line: Line, *, color: bool) -> str:
    text = shortened(visible(line.text.strip()), LONGEST_LINE)
    return paint(f"{INDENT}| {visible(place(line))}: {text}", DIM, color=color)


def place(line: Line) -> str:
    """Return the log and the number of a line."""
    return f"{'stdin' if line.file == STREAM else line.file}:{line.number}"


def _fix(fix: FoundFix, *, color: bool, width: int) -> Iterator[str]:
    target = "" if fix.target == "any" else f" ({visible(fix.target)})"
    label = f"fix{target}: "
    text = fix.text.rstrip() + ("" if fix.text.rstrip().endswith((".", ":", "!", "?")) else ".")
    wrapped = _wrapped(text if not fix.command else f"{text.rstrip('.')}:", INDENT + "     ", width)
    wrapped[0] = INDENT + paint(label, GREEN, color=color) + wrapped[0].lstrip()
    yield from wrapped
    for line in fix.command.strip("\n").splitlines():
        yield f"{INDENT}     {visible(line)}"


def _none(explanation: Explanation, *, color: bool, width: int) -> Iterator[str]:
    """Return what was recognised in a log without a cause, and what to run next."""
    read = plural(explanation.lines, "line")
    if not explanation.libtorch:
        yield f"torchlink: nothing here about libtorch ({read} read)."
        if explanation.recognised:
            kinds = ", ".join(found.what for found in explanation.recognised)
            yield from _wrapped(f"recognised: {kinds}; none of it names libtorch.", INDENT, width)
        return
    yield f"torchlink: no known cause; libtorch is named in the log ({read} read)."
    for found in explanation.recognised:
        yield from _wrapped(f"recognised: {found.what}", INDENT, width)
        yield _evidence(found.evidence, color=color)
    commands = list(dict.fromkeys(each for found in explanation.recognised for each in found.next))
    commands = commands or ["torchlink doctor", "torchlink verify MODEL"]
    yield f"{INDENT}next: {', '.join(f'`{each}`' for each in commands)}"


def _wrapped(text: str, indent: str, width: int) -> list[str]:
    return textwrap.wrap(
        visible(text),
        max(width, 40),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [indent]
