"""Starting last time's loader before anything else is known.

A loader needs a quarter of a second to map libtorch and then waits for a command. In that time torchlink
finds libtorch and works out which loader is right; nearly always it is the one that was right last time.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from torchlink.build.cache import recent
from torchlink.errors import RunFailedError
from torchlink.verify.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def early_session(asked: str) -> Iterator[Session | None]:
    """A session with the loader that served the same options last time, or None.

    The caller compares `session.loader` with the right one before it uses it. It is ended in any case.

    Args:
        asked: the options that choose libtorch, compiler and words.
    """
    entry = recent(asked)
    if entry is None:
        yield None
        return
    try:
        session = Session(entry.program)
    except RunFailedError:  # the cause is told when the right one is started
        yield None
        return
    with session:
        yield session
