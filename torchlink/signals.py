"""A signal ends the command by an exception, which waits while it would do harm.

That is while a program is being started, until that program can be stopped, too; within `UNINTERRUPTED`; and within
what ends a `with` block, which deletes temporary files. This module contains only state and imports nothing until there
is a signal, because every start of the command line imports it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

# Modules that are not interrupted. Python handles a signal between any two instructions, also between taking a lock and
# the `try` that releases it: the clean-up would wait for the locks of the first three for ever. An interrupted import
# leaves half a module; nobody knows of a directory that `tempfile` has not returned yet; what is raised in callbacks of
# weak references, and in `__del__`, is printed and dropped.
UNINTERRUPTED = (
    "subprocess",
    "threading",
    "torchlink.verify.twins",
    "_frozen_importlib",
    "importlib._bootstrap",
    "tempfile",
    "weakref",
    "_weakrefset",
)
METHODS = ("__del__", "__exit__")  # those of any module
PAUSE = 0.01  # seconds until it is tried again
LONGEST = 3.0  # seconds; longer waits in there, as of an executor's library in `threading`, are interrupted

_held = False
_received: BaseException | None = (
    None  # Python drops what a handler raises inside some callbacks (weakref, __del__)
)
_waiting: list[BaseException] = []
_postponed: tuple[BaseException, float] | None = None  # and when it is raised at the latest


def deliver(stop: BaseException, frame: FrameType | None) -> None:
    """Raise a signal's exception, or keep it for `release` while signals are held back.

    Args:
        stop: the exception.
        frame: what is to be interrupted; if that is in `UNINTERRUPTED` or `METHODS`, it is when that has returned.
    """
    global _received  # noqa: PLW0603 - one process has one set of signal handlers
    _received = _received or stop
    if _held:
        _waiting.append(stop)
    elif _uninterrupted(frame) and _postpone(stop):
        return
    else:
        raise stop


def _uninterrupted(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__") in UNINTERRUPTED or frame.f_code.co_name in METHODS:
            return True
        frame = frame.f_back
    return False


def _postpone(stop: BaseException) -> bool:
    """Try again after a pause; False where the system has no such timers (Windows)."""
    global _postponed  # noqa: PLW0603 - as above
    import signal
    import time

    if not hasattr(signal, "setitimer"):
        return False
    if _postponed is None:
        _postponed = stop, time.monotonic() + LONGEST
    signal.signal(signal.SIGALRM, _again)
    signal.setitimer(signal.ITIMER_REAL, PAUSE)
    return True


def _again(_: int, frame: FrameType | None) -> None:
    import time

    if _postponed is None:  # `check` has raised it
        return
    stop, latest = _postponed
    if _uninterrupted(frame) and time.monotonic() < latest:
        _postpone(stop)
    else:
        _forget_postponed()
        deliver(stop, None)


def _forget_postponed() -> None:
    global _postponed  # noqa: PLW0603 - as above
    if _postponed is not None:
        import signal

        signal.setitimer(signal.ITIMER_REAL, 0)  # at exit, Python gives SIGALRM back its default action
        _postponed = None


def received() -> BaseException | None:
    """Return the exception of the first signal, whether or not it could be raised."""
    return _received


def check() -> None:
    """Raise the exception of a signal again, in case Python has dropped it.

    Raises:
        BaseException: that exception.
    """
    if _received is not None:
        _forget_postponed()
        raise _received


def forget() -> None:
    """Forget the signals received so far."""
    global _received  # noqa: PLW0603 - as above
    _received = None
    _forget_postponed()


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
