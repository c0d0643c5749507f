"""Colour for a terminal: the eight colours that every theme defines, nothing else."""

from __future__ import annotations

from torchlink.lint.finding import Severity

SEVERITY = {Severity.ERROR: "1;31", Severity.WARNING: "33", Severity.NOTE: "36"}
BOLD, DIM, RED, GREEN = "1", "2", "31", "32"


def paint(text: str, code: str, *, color: bool) -> str:
    """The text in an SGR code, or as it is where colour is off."""
    return f"\x1b[{code}m{text}\x1b[0m" if color and text else text
