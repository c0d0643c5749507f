"""Starting last time's loader before anything else is known.

A loader needs a quarter of a second to map libtorch and then waits for a command. In that time torchlink reads
its command line, finds libtorch and works out which loader is right; nearly always it is the one that was right
last time. A wrong one is ended unused.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from torchlink.build.cache import recent, remember_recent
from torchlink.errors import RunFailedError
from torchlink.verify.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

# What of the command line and the environment chooses libtorch, compiler and words. Only a hint: what the loader
# depends on is in its key.
OPTIONS = ("--libtorch", "--python", "--via", "--cpu", "--headers", "--std", "--compiler")
VARIABLES = ("TORCHLINK_LIBTORCH", "LIBTORCH", "VIRTUAL_ENV", "CONDA_PREFIX", "CXX")


class HeadStart:
    """A loader that was started on speculation, if one was, and the question that it may answer."""

    def __init__(self, asked: str, session: Session | None) -> None:
        self.asked = asked
        self.session = session

    def remember(self, loader: Path) -> None:
        """Keep which loader was right."""
        if self.asked and (self.session is None or self.session.loader != loader):
            remember_recent(self.asked, loader)


NONE = HeadStart("", None)
_current = NONE


def current() -> HeadStart:
    """The head start of this command line."""
    return _current


@contextlib.contextmanager
def head_start(arguments: Sequence[str]) -> Iterator[None]:
    """Start the loader that served such a command line last time; it is ended in any case.

    Args:
        arguments: of `torchlink verify`.
    """
    global _current  # noqa: PLW0603 - typer stands between the entry and the command
    asked = question(arguments)
    # What --env passes is known when the command line has been read.
    idle = any(word in ("--help", "-h") or word.startswith("--env") for word in arguments)
    entry = None if idle else recent(asked)
    session = None
    if entry is not None:
        with contextlib.suppress(RunFailedError):  # its cause is told when the right one is started
            session = Session(entry.program)
    _current = HeadStart(asked, session)
    try:
        yield
    finally:
        _current = NONE
        if session is not None:
            session.close()


def question(arguments: Sequence[str]) -> str:
    """The words and variables that choose a loader, as one string."""
    chosen = [
        word if word == "--cpu" or "=" in word else f"{word} {following}"
        for word, following in zip(arguments, [*arguments[1:], ""], strict=False)
        if word.startswith(OPTIONS)
    ]
    return repr((chosen, os.environ.get("PWD"), *map(os.environ.get, VARIABLES)))
