"""Being told to stop: SIGTERM and SIGHUP end a command as Ctrl-C does, so that its work beside is removed."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, NoReturn

from torchlink.errors import Stopped

if TYPE_CHECKING:
    from types import FrameType

# Not all platforms have SIGHUP.
STOPPING = tuple(
    number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None
)


def unwind_when_stopped() -> None:
    """Raise `Stopped` when this process is told to stop; a signal that the caller has ignored (nohup) stays so."""
    for number in STOPPING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _unwind)


def _unwind(number: int, _: FrameType | None) -> NoReturn:
    # `timeout` and closing terminals send a second one, which must not end the tidying.
    for each in STOPPING:
        signal.signal(each, signal.SIG_IGN)
    raise Stopped(number)
