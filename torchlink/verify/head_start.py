"""The loader of the last run, started before anything else is known.

A loader needs a quarter of a second to map libtorch and then waits for a command. In that time torchlink
finds libtorch and determines which loader is right; nearly always it is that of the last run. A wrong one is
ended unused.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from torchlink.compilation.cache import recent, remember_recent
from torchlink.errors import RunFailedError, UsageError
from torchlink.verify.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torchlink.verify.options import VerifyOptions

# The variables that choose libtorch and compiler. Only a hint: the loader's key has all that it depends on.
VARIABLES = ("TORCHLINK_LIBTORCH", "LIBTORCH", "VIRTUAL_ENV", "CONDA_PREFIX", "CXX")


class HeadStart:
    """A loader that was started speculatively, if any, and the question that it may answer."""

    def __init__(self, asked: str, session: Session | None) -> None:
        self.asked = asked
        self.session = session

    def remember(self, loader: Path) -> None:
        """Remember which loader was right."""
        if self.session is None or self.session.loader != loader:
            remember_recent(self.asked, loader)


@contextlib.contextmanager
def head_start(libtorch: Path | None, python: str | None, options: VerifyOptions) -> Iterator[HeadStart]:
    """Start the loader that was right for these options last time; it is ended in any case.

    Args:
        libtorch: the value of --libtorch.
        python: the value of --python.
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
    """The options and variables that determine the loader, as one string."""
    chosen = (str(libtorch or ""), python, options.via, *options.plan, options.compiler)
    return repr((chosen, os.environ.get("PWD"), *map(os.environ.get, VARIABLES)))
