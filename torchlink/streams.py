"""Copying what a program writes, while it is written, to where it would have gone."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_KEPT = 8 << 20  # bytes, the last ones
LINGER = 1.0  # seconds; a server that the program has started (sccache) may keep the stream open for ever


class Copies:
    """The ends of pipes, or of terminals, that a program writes to in place of this process's own streams.

    A stream that is a terminal stays one for the program, so that compilers print colours. Streams that lead to the
    same place share an end, so that their order is kept.

    Args:
        numbers: file descriptors of this process: 1 and 2 for stdout and stderr.
    """

    def __init__(self, numbers: Iterable[int]) -> None:
        self._kept = bytearray()
        self._ends: dict[
            tuple[int, int], tuple[int, int, int]
        ] = {}  # of each place: to read, to write, and the stream
        self.of: dict[int, int] = {}  # stream → the end that the program gets
        try:
            for number in numbers:
                try:
                    status = os.fstat(number)
                except OSError:  # the caller has closed it
                    continue
                place = (status.st_dev, status.st_ino)
                if place not in self._ends:
                    self._ends[place] = (*_terminal_or_pipe(number), number)
                self.of[number] = self._ends[place][1]
        except OSError:
            self.close()
            raise
        self._copiers = [
            threading.Thread(target=_copy, args=(ours, number, self._kept), daemon=True)
            for ours, _, number in self._ends.values()
        ]

    def close(self) -> None:
        """Close all ends, if the program has not been started."""
        for ours, theirs, _ in self._ends.values():
            os.close(ours)
            os.close(theirs)

    def start(self) -> None:
        """Begin to copy, once the program has its ends."""
        for _, theirs, _ in self._ends.values():
            os.close(theirs)
        for copier in self._copiers:
            copier.start()

    def finish(self) -> bytes:
        """Return what was copied, at most the last `MOST_KEPT` bytes, once the program has ended."""
        for copier in self._copiers:
            if copier.ident is not None:  # a signal may have come before it was started
                copier.join(LINGER)
        return bytes(self._kept[-MOST_KEPT:])


def _terminal_or_pipe(number: int) -> tuple[int, int]:
    """Return the end to read from, and the one for the program."""
    if not os.isatty(number):
        return os.pipe()
    import fcntl
    import pty
    import termios

    try:
        ours, theirs = pty.openpty()
    except OSError:  # there are none left
        return os.pipe()
    mode = termios.tcgetattr(theirs)
    mode[1] &= ~termios.OPOST  # the user's terminal translates line ends itself
    termios.tcsetattr(theirs, termios.TCSANOW, mode)
    with contextlib.suppress(OSError):
        size = fcntl.ioctl(number, termios.TIOCGWINSZ, b"\0" * 8)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
    return ours, theirs


def _copy(source: int, destination: int, kept: bytearray) -> None:
    """Write what comes from one descriptor to another, and keep it."""
    while True:
        try:
            data = os.read(source, 1 << 16)
        except OSError:  # a terminal whose other side is closed
            data = b""
        if not data:
            break
        kept += data
        if len(kept) > 2 * MOST_KEPT:
            del kept[:-MOST_KEPT]
        try:
            while data:
                data = data[os.write(destination, data) :]
        except OSError:  # whoever read it has gone; the program finds its own stream closed, as it would have
            break
    os.close(source)
