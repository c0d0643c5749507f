"""Being told to stop while a program is being started: the signal waits until that program is known.

Only state lives here, and nothing is imported for it: every start of the command line reads this module.
"""

from __future__ import annotations

_held = False
_told: BaseException | None = (
    None  # Python drops what a handler raises inside some callbacks (weakref, __del__)
)
_waiting: list[BaseException] = []


def deliver(stop: BaseException) -> None:
    """Raise what a signal asks for, or keep it for `release` while signals are held back."""
    global _told  # noqa: PLW0603 - one process has one set of signal handlers
    _told = _told or stop
    if not _held:
        raise stop
    _waiting.append(stop)


def told() -> BaseException | None:
    """What the first signal has asked for, whether or not it could be raised."""
    return _told


def check() -> None:
    """Raise what a signal has asked for, where Python has dropped it on the way.

    Raises:
        BaseException: that.
    """
    if _told is not None:
        raise _told


def forget() -> None:
    """Begin again: nothing has been asked for."""
    global _told  # noqa: PLW0603 - as above
    _told = None


def hold() -> None:
    """Keep signals back from now on; only the main thread, where Python handles signals, has a use for it."""
    global _held  # noqa: PLW0603 - one process has one set of signal handlers
    _held = True


def release() -> None:
    """Let signals through again.

    Raises:
        BaseException: what came first in the meantime.
    """
    global _held  # noqa: PLW0603 - as above
    _held = False
    if _waiting:
        first = _waiting[0]
        _waiting.clear()
        raise first
