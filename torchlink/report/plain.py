"""What all text reports share: escaping, plurals, totals, paths, and colours.

File names and symbols come from untrusted binaries. Of the colours only the eight that every theme defines are used.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from torchlink.lint.finding import Severity
from torchlink.shown import escape, visible

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

    from torchlink.lint.finding import LintReport


__all__ = ["STREAM", "brief", "encodable", "lines", "located", "plural", "totals", "visible"]

STREAM = "-"  # the path of a report about standard input
SEVERITY = {Severity.ERROR: "1;31", Severity.WARNING: "33", Severity.NOTE: "36"}
BOLD, DIM, RED, GREEN = "1", "2", "31", "32"
_SURROGATE = re.compile("[\ud800-\udfff]")


def lines(text: str) -> list[str]:
    """Return the lines of a message, each made `visible`."""
    return [visible(line) for line in text.splitlines() or [""]]


def encodable(text: str) -> str:
    """Escape bytes that are not UTF-8, so that strict JSON parsers accept the text."""
    return _SURROGATE.sub(lambda match: escape(match[0]), text)


def plural(count: int, noun: str) -> str:
    """Return `1 error`, `2 errors`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def totals(report: LintReport) -> str:
    """Sum up a run: `1 error, 2 warnings in 3 files; 1 allowed; 1 could not be checked.`."""
    counts = [(report.count(severity), severity.value) for severity in reversed(Severity)]
    found = ", ".join(plural(count, name) for count, name in counts if count) or "no findings"
    allowed = sum(len(file.allowed) for file in report.files)
    tail = f"; {allowed} allowed" if allowed else ""
    unreadable = len(report.unreadable)
    tail += f"; {unreadable} could not be checked" if unreadable else ""
    return f"{found} in {plural(len(report.files) - unreadable, 'file')}{tail}."


def brief(found_via: str) -> str:
    """Shorten how an object was found, by the directory of the file that names it: `RUNPATH $ORIGIN of app`."""
    what, of, owner = found_via.rpartition(" of ")
    return f"{what}{of}{owner.rpartition('/')[2]}" if of else found_via


def located(path: str, cwd: str, root: str) -> str:
    """Return the path of a file relative to the checkout, or its absolute path if it is outside.

    Args:
        path: as it was given on the command line.
        cwd: the absolute directory that a relative path starts from.
        root: the absolute directory of the checkout.
    """
    # normpath keeps two slashes at the start, which mean one on Linux.
    absolute = "/" + posixpath.normpath(posixpath.join(cwd, path)).lstrip("/")
    below = posixpath.normpath(root).rstrip("/") + "/"
    return absolute.removeprefix(below)


def use_color(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether to write colours to a stream: if it is a terminal that supports them.

    NO_COLOR (<https://no-color.org>) turns them off, FORCE_COLOR (<https://force-color.org>) turns them on for pipes
    and files, too; if both are set, NO_COLOR wins, as in Python and pytest.
    """
    if environment.get("NO_COLOR"):
        return False
    return bool(environment.get("FORCE_COLOR")) or (environment.get("TERM") != "dumb" and stream.isatty())


def paint(text: str, code: str, *, color: bool) -> str:
    """Wrap text in an SGR code, or return it unchanged if colour is off."""
    return f"\x1b[{code}m{text}\x1b[0m" if color and text else text
