"""Starting last time's loader before anything else is known.

A loader needs a quarter of a second to map libtorch and then waits for a command. In that time torchlink
finds libtorch and works out which loader is right; nearly always it is the one that was right
last time. A wrong one is ended unused.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from torchlink.build.cache import recent, remember_recent
from torchlink.errors import RunFailedError, UsageError
from torchlink.verify.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torchlink.verify.options import VerifyOptions

# What of the environment chooses libtorch and compiler. Only a hint: what the loader depends on is in its key.
VARIABLES = ("TORCHLINK_LIBTORCH", "LIBTORCH", "VIRTUAL_ENV", "CONDA_PREFIX", "CXX")


class HeadStart:
    """A loader that was started on speculation, if one was, and the question that it may answer."""

    def __init__(self, asked: str, session: Session | None) -> None:
        self.asked = asked
        self.session = session

    def remember(self, loader: Path) -> None:
        """Keep which loader was right."""
        if self.session is None or self.session.loader != loader:
            remember_recent(self.asked, loader)


@contextlib.contextmanager
def head_start(libtorch: Path | None, python: str | None, options: VerifyOptions) -> Iterator[HeadStart]:
    """Start the loader that was right for such options last time; it is ended in any case.

    Args:
        libtorch: what the command line names.
        python: the interpreter that it names.
        options: of the verification.
    """
    asked = question(libtorch, python, options)
    loader = recent(asked)
    session = None
    if loader is not None:
        with contextlib.suppress(RunFailedError, UsageError):  # reported when the right one is started
            session = Session(loader.program, options.env)
    try:
        yield HeadStart(asked, session)
    finally:
        if session is not None:
            session.close()


def question(libtorch: Path | None, python: str | None, options: VerifyOptions) -> str:
    """The options and variables that choose a loader, as one string."""
    chosen = (str(libtorch or ""), python, options.via, *options.plan, options.compiler)
    return repr((chosen, os.environ.get("PWD"), *map(os.environ.get, VARIABLES)))
