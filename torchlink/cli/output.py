"""The one place that prints: for people, so that no stranger's text commands a terminal or a log; or a bare answer."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from torchlink.shown import escape, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Clears what moves on the terminal (cli/progress.py), so that what is printed begins on a line of its own.
before_printing: Callable[[], None] | None = None
# The colours of report/plain.py and its reset; nothing else that begins with ESC goes to a terminal.
OWN_COLORS = r"\x1b\[(?:0|1|2|31|32|33|36|1;31)m"
# How GitHub's and Azure's logs begin a command: at the start of a line, or anywhere for the older form.
COMMANDS = re.compile(r"^([^\S\n]*):(?=:)|##(?=\[|vso)", re.MULTILINE)
COMMANDS_INSIDE = re.compile(r"##(?=\[|vso)")


def say(text: str, *, err: bool = False, color: bool = False, end: str = "\n") -> None:
    """Print text for people; what is no line end and does not print as itself becomes an escape.

    Args:
        text: lines; whoever made them has used `visible` on each part that came from outside, so that it cannot make
            a line of its own.
        err: on stderr.
        color: let our own colours through.
        end: what follows the text.
    """
    stream = sys.stderr if err else sys.stdout
    if stream is not None:
        _write(stream, safe(text, color=color) + end)


def colored() -> bool:
    """Whether what goes to stdout has colour: NO_COLOR, FORCE_COLOR and the terminal decide."""
    from torchlink.report.plain import wanted

    return wanted(sys.stdout, os.environ)


def note(sentence: str, *, label: str = "note") -> None:
    """Print a sentence that the user should know on stderr, labelled "note" or "warning"; it stays one line."""
    say(f"torchlink: {label}: {visible(sentence)}", err=True)


def flush() -> None:
    """Hand what was printed on stdout to its reader now."""
    if sys.stdout is not None:
        sys.stdout.flush()


def notes(sentences: Iterable[str]) -> None:
    """Each sentence as a `note`."""
    for sentence in sentences:
        note(sentence)


def answer(text: str, *, line: bool = False) -> None:
    """Print what a program reads, such as paths or JSON, as it is; on a terminal made safe as for people.

    Args:
        text: the answer.
        line: it is one value, whose line ends are its own, and which stays on one line on a terminal.
    """
    stream = sys.stdout
    if stream.isatty():
        say(visible(text) if line else text)
        return
    if text.startswith("{\n"):  # JSON: the same strings, in which no log finds a command
        text = COMMANDS_INSIDE.sub(r"#\\u0023", text)
    try:
        # Byte for byte: a path need not be text in the encoding of the stream.
        exact = os.fsencode(f"{text}\n") if stream.errors == "strict" else b""
    except UnicodeEncodeError:  # of a sentence, not of a path
        exact = b""
    if exact:
        stream.flush()
        stream.buffer.write(exact)
        stream.buffer.flush()
    else:
        _write(stream, f"{text}\n")


def safe(text: str, *, color: bool = False) -> str:
    """Lines that a terminal shows and does not obey, and in which a CI's log finds no command."""
    keep = re.compile(OWN_COLORS) if color else None
    parts: list[str] = []
    for line in text.split("\n"):
        start = 0
        for found in keep.finditer(line) if keep else ():
            parts += [_printable(line[start : found.start()]), found[0]]
            start = found.end()
        parts += [_printable(line[start:]), "\n"]
    return COMMANDS.sub(_defused, "".join(parts[:-1]))


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\t" else escape(char) for char in text)


def _defused(match: re.Match[str]) -> str:
    return r"#\x23" if match[0] == "##" else rf"{match[1]}\x3a"


def _write(stream: object, text: str) -> None:
    """Write, with escapes for what the stream's encoding lacks."""
    if before_printing is not None:
        before_printing()
    encoding = getattr(stream, "encoding", None) or "utf-8"
    if encoding.lower().replace("-", "") != "utf8":
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    stream.write(text)  # type: ignore[attr-defined]  # a text stream
