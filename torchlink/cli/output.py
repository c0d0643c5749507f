"""The one place that prints.

`say` and `note` print for people, with terminal control sequences and CI log commands escaped; `answer` for programs.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from torchlink.shown import escape, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Clears the progress line of cli/progress.py, so that printed text begins on a line of its own.
before_printing: Callable[[], None] | None = None
# The colours of report/plain.py and their reset; no other escape sequence reaches a terminal.
OWN_COLORS = r"\x1b\[(?:0|1|2|31|32|33|36|1;31)m"
# How a command begins in GitHub's and Azure's logs: `::` at the start of a line, `##[` and `##vso` anywhere.
COMMANDS = re.compile(r"^([^\S\n]*):(?=:)|##(?=\[|vso)", re.MULTILINE)
COMMANDS_INSIDE = re.compile(r"##(?=\[|vso)")


def say(text: str, *, err: bool = False, color: bool = False, end: str = "\n") -> None:
    """Print text for people, with unprintable characters other than newlines and tabs escaped.

    Args:
        text: lines; the caller has applied `visible` to each part from outside, so that it cannot add a line.
        err: print on stderr.
        color: allow torchlink's own colours.
        end: what follows the text.
    """
    stream = sys.stderr if err else sys.stdout
    if stream is not None:
        _write(stream, safe(text, color=color) + end)


def colored() -> bool:
    """Whether to colour stdout: NO_COLOR, FORCE_COLOR and whether it is a terminal decide."""
    from torchlink.report.plain import use_color

    return use_color(sys.stdout, os.environ)


def note(sentence: str, *, label: str = "note") -> None:
    """Print a sentence on stderr, on one line, labelled "note" or "warning"."""
    say(f"torchlink: {label}: {visible(sentence)}", err=True)


def flush() -> None:
    """Flush stdout."""
    if sys.stdout is not None:
        sys.stdout.flush()


def notes(sentences: Iterable[str]) -> None:
    """Print each sentence as a `note`."""
    for sentence in sentences:
        note(sentence)


def answer(text: str, *, line: bool = False) -> None:
    """Print output for programs, such as paths or JSON, unchanged; on a terminal it is escaped as in `say`.

    Args:
        text: the output.
        line: it is a single value: newlines in it are escaped on a terminal, too.
    """
    stream = sys.stdout
    if stream.isatty():
        say(visible(text) if line else text)
        return
    if text.startswith(
        "{\n"
    ):  # JSON: an escape that means the same, which a CI log does not take for a command
        text = COMMANDS_INSIDE.sub(r"#\\u0023", text)
    try:
        # Byte for byte: a path need not be valid text in the encoding of the stream.
        exact = os.fsencode(f"{text}\n") if stream.errors == "strict" else b""
    except UnicodeEncodeError:  # not a path, but a sentence
        exact = b""
    if exact:
        stream.flush()
        stream.buffer.write(exact)
        stream.buffer.flush()
    else:
        _write(stream, f"{text}\n")


def safe(text: str, *, color: bool = False) -> str:
    """Escape terminal control sequences and CI log commands in lines of text."""
    keep = re.compile(OWN_COLORS) if color else None
    parts: list[str] = []
    for line in text.split("\n"):
        start = 0
        for found in keep.finditer(line) if keep else ():
            parts += [_printable(line[start : found.start()]), found[0]]
            start = found.end()
        parts += [_printable(line[start:]), "\n"]
    return COMMANDS.sub(_escaped_command, "".join(parts[:-1]))


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\t" else escape(char) for char in text)


def _escaped_command(match: re.Match[str]) -> str:
    return r"#\x23" if match[0] == "##" else rf"{match[1]}\x3a"


def _write(stream: object, text: str) -> None:
    """Write text, with escapes for characters that the stream's encoding lacks."""
    if before_printing is not None:
        before_printing()
    encoding = getattr(stream, "encoding", None) or "utf-8"
    if encoding.lower().replace("-", "") != "utf8":
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    stream.write(text)  # type: ignore[attr-defined]  # a text stream
