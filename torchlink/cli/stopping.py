"""Being told to stop: SIGTERM and SIGHUP end a command as Ctrl-C does, so that its work beside is removed."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from torchlink.errors import Stopped
from torchlink.signals import deliver

if TYPE_CHECKING:
    from types import FrameType

# Not all platforms have SIGHUP.
STOPPING = tuple(
    number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None
)


def unwind_when_stopped() -> None:
    """Raise `Stopped` when this process is told to stop; a signal that the caller has ignored (nohup) stays so.

    While a program is being started, SIGINT waits like the others until that program is known.
    """
    for number in STOPPING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _unwind)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _unwind(number: int, _: FrameType | None) -> None:
    # `timeout` and closing terminals send a second one, which must not end the tidying.
    for each in STOPPING:
        signal.signal(each, signal.SIG_IGN)
    deliver(Stopped(number))


def _interrupt(_: int, __: FrameType | None) -> None:
    deliver(KeyboardInterrupt())
