"""Signals that arrive while a program is being started are held back until that program can be stopped, too.

This module contains only state and imports nothing, because every start of the command line imports it.
"""

from __future__ import annotations

_held = False
_received: BaseException | None = (
    None  # Python drops what a handler raises inside some callbacks (weakref, __del__)
)
_waiting: list[BaseException] = []


def deliver(stop: BaseException) -> None:
    """Raise a signal's exception, or keep it for `release` while signals are held back."""
    global _received  # noqa: PLW0603 - one process has one set of signal handlers
    _received = _received or stop
    if not _held:
        raise stop
    _waiting.append(stop)


def received() -> BaseException | None:
    """Return the exception of the first signal, whether or not it could be raised."""
    return _received


def check() -> None:
    """Raise the exception of a signal again, in case Python has dropped it.

    Raises:
        BaseException: that exception.
    """
    if _received is not None:
        raise _received


def forget() -> None:
    """Forget the signals received so far."""
    global _received  # noqa: PLW0603 - as above
    _received = None


def hold() -> None:
    """Hold signals back from now on; for the main thread only, where Python handles signals."""
    global _held  # noqa: PLW0603 - one process has one set of signal handlers
    _held = True


def release() -> None:
    """Stop holding signals back.

    Raises:
        BaseException: the exception of the first signal since `hold`.
    """
    global _held  # noqa: PLW0603 - as above
    _held = False
    if _waiting:
        first = _waiting[0]
        _waiting.clear()
        raise first
