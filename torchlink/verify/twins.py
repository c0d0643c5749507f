"""Twins of the first loader for the other workers: each is forked from it once it is warm, which costs no start.

A twin is a child of this process, as the first loader is, and depends on that one for nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import IO, TYPE_CHECKING

from torchlink.process import TimeoutExpired

if TYPE_CHECKING:
    from torchlink.verify.scheduling import LoaderCommand
    from torchlink.verify.session import Session


class _Pipes:
    """The ends of three pipes that a process started by another program shall have as stdin, stdout and stderr."""

    def __init__(self) -> None:
        pairs = [os.pipe() for _ in range(3)]
        self.theirs = (pairs[0][0], pairs[1][1], pairs[2][1])  # file descriptors
        self.ours = (pairs[0][1], pairs[1][0], pairs[2][0])

    def adopted(self, pid: int) -> Adopted:
        """The process, which must be a child of this one."""
        files = [
            os.fdopen(each, mode, buffering=1, encoding="utf-8", errors="replace")
            for each, mode in zip(self.ours, ("w", "r", "r"), strict=True)
        ]
        self.ours = ()  # type: ignore[assignment]
        return Adopted(pid, *files)

    def close(self) -> None:
        """Close what is not in use by `adopted`."""
        for each in (*self.theirs, *self.ours):
            os.close(each)


class Adopted:
    """A child of this process that another program started: what is used of `subprocess.Popen`."""

    def __init__(self, pid: int, stdin: IO[str], stdout: IO[str], stderr: IO[str]) -> None:
        self.pid = pid
        self.stdin: IO[str] | None = stdin
        self.stdout: IO[str] | None = stdout
        self.stderr: IO[str] | None = stderr
        self.returncode: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Its exit status (negative for a signal), or None if it still runs."""
        with self._lock:
            if self.returncode is None:
                try:
                    pid, status = os.waitpid(self.pid, os.WNOHANG)
                except (
                    ChildProcessError
                ):  # whoever started torchlink ignores SIGCHLD: as `subprocess`, a success
                    pid, status = self.pid, 0
                if pid == self.pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            TimeoutExpired: it still runs after so many seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutExpired(str(self.pid), timeout or 0.0)
            time.sleep(0.001)
        return code

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def twin_of(session: Session) -> Session | None:
    """A session with a twin of a loader from which nothing has been forked yet; None if it cannot have one.

    Raises:
        LoaderDiedError: as `Session.ask`.
    """
    try:
        pipes = _Pipes()
    except OSError:  # too many open files: whoever needs a loader says so
        return None
    try:
        event = session.ask(f"twin {os.getpid()} {' '.join(map(str, pipes.theirs))}")
        if event["event"] != "twin":
            return None
        return session.twin(pipes.adopted(int(event["process"])))
    finally:
        pipes.close()


class Twins:
    """The twins of one loader, for workers that wait for them.

    Args:
        early: the loader, which the first worker warms up.
        count: how many other workers there are.
    """

    def __init__(self, early: Session | None, count: int) -> None:
        self._early = early
        self._count = count
        self._made: list[Session] = []
        self._lock = threading.Lock()
        self._ready = threading.Event()
        if early is None:
            self._ready.set()

    def fill(self, session: Session) -> None:
        """Make them, in the thread of the first worker; only of the loader that this is about.

        Raises:
            LoaderDiedError: as `Session.ask`.
        """
        while session is self._early and self._count and not self._ready.is_set():
            self._count -= 1
            twin = twin_of(session)
            if twin is None:
                return
            with self._lock:
                self._made.append(twin)

    def end(self) -> None:
        """There will be no more of them."""
        self._ready.set()

    def take(self, command: LoaderCommand) -> Session | None:
        """Wait until all are made, and take one; None if there is none of this program."""
        early = self._early
        if early is None or early.loader != command.program or command.emulator or command.warm is None:
            return None
        self._ready.wait()
        with self._lock:
            return self._made.pop() if self._made else None

    def stop(self) -> None:
        """Wake up every thread that waits, and end the twins that nobody took."""
        self.end()
        with self._lock:
            left, self._made = self._made, []
        for twin in left:
            twin.close()
