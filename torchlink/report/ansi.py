"""Colour for a terminal: the eight colours that every theme defines, nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.lint.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

SEVERITY = {Severity.ERROR: "1;31", Severity.WARNING: "33", Severity.NOTE: "36"}
BOLD, DIM, RED, GREEN = "1", "2", "31", "32"


def wanted(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether a stream gets colour: a terminal that knows it does.

    NO_COLOR (<https://no-color.org>) takes it away everywhere, FORCE_COLOR (<https://force-color.org>) gives it to
    pipes and files, too; of both NO_COLOR counts, as in Python and pytest.
    """
    if environment.get("NO_COLOR"):
        return False
    return bool(environment.get("FORCE_COLOR")) or (environment.get("TERM") != "dumb" and stream.isatty())


def paint(text: str, code: str, *, color: bool) -> str:
    """The text in an SGR code, or as it is where colour is off."""
    return f"\x1b[{code}m{text}\x1b[0m" if color and text else text
