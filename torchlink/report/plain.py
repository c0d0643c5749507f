"""Text that is safe to show: file names and symbols come from strangers' binaries.

Colour for a terminal: the eight colours that every theme defines, nothing else.
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
_SURROGATE = re.compile("[\ud800-\udfff]")


def lines(text: str) -> list[str]:
    """The lines of a message, each `visible`."""
    return [visible(line) for line in text.splitlines() or [""]]


def encodable(text: str) -> str:
    """The text with bytes that are not UTF-8 as escapes, so that every strict parser of JSON takes it."""
    return _SURROGATE.sub(lambda match: escape(match[0]), text)


def plural(count: int, noun: str) -> str:
    """`1 error`, `2 errors`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def totals(report: LintReport) -> str:
    """The run in one sentence, such as `1 error, 2 warnings in 3 files; 1 allowed; 1 could not be checked.`."""
    counts = [(report.count(severity), severity.value) for severity in reversed(Severity)]
    found = ", ".join(plural(count, name) for count, name in counts if count) or "no findings"
    allowed = sum(len(file.allowed) for file in report.files)
    tail = f"; {allowed} allowed" if allowed else ""
    lost = len(report.unreadable)
    tail += f"; {lost} could not be checked" if lost else ""
    return f"{found} in {plural(len(report.files) - lost, 'file')}{tail}."


def brief(found_via: str) -> str:
    """How an object was found, its owner without directories: `RUNPATH $ORIGIN of app`."""
    what, of, owner = found_via.rpartition(" of ")
    return f"{what}{of}{owner.rpartition('/')[2]}" if of else found_via


def located(path: str, cwd: str, root: str) -> str:
    """A file's path as a repository names it.

    Args:
        path: as it was given on the command line.
        cwd: the absolute directory that a relative path starts from.
        root: the absolute directory of the checkout.

    Returns:
        The path relative to `root` where it is below it, else the absolute path.
    """
    # normpath keeps two slashes at the start, which Linux takes for one.
    absolute = "/" + posixpath.normpath(posixpath.join(cwd, path)).lstrip("/")
    below = posixpath.normpath(root).rstrip("/") + "/"
    return absolute.removeprefix(below)


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
