"""Communication with a running loader: one command, one JSON event. The protocol is in templates/loader/README.md."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import select
import threading
import time
from typing import IO, TYPE_CHECKING, Any

from torchlink.environment import minimal_environment
from torchlink.errors import RunFailedError, ToolMissingError
from torchlink.process import SharedWatcher, kill_tree, limit_memory, spawn, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from torchlink.process import Child


TEARDOWN = 30.0  # seconds
GRACE = 2.0  # seconds for a process to end when told to, and for its last output
SLICE = 250  # milliseconds
MOST_MODELS = 16  # for one forked process: more save nothing more
LONGEST_EVENT = 32 << 20  # characters
PRINTED = 64 * 1024  # characters of the loader's stderr that are kept: the last ones


class LoaderDiedError(Exception):
    """The loader ended instead of answering.

    Args:
        returncode: as `subprocess` has it: negative for a signal.
        printed: what it wrote to stderr.
        garbled: it was killed, because something else than an answer came.
    """

    def __init__(self, returncode: int, printed: str, *, garbled: bool = False) -> None:
        super().__init__(f"the loader ended with {returncode}")
        self.returncode = returncode
        self.printed = printed
        self.garbled = garbled


class Event(dict[str, Any]):
    """An answer; a part that is missing means that something else than the loader wrote it, as a model can."""

    def __missing__(self, key: str) -> Any:
        raise LoaderDiedError(0, f"{key} is missing", garbled=True)


# The events that answer the commands during which code of a model or a library runs.
ANSWERS = {
    "library": "added",
    "load": "loaded",
    "method": "selected",
    "describe": "described",
    "inputs": "inputs",
    "forward": "result",
    "again": "again",
    "bench": "benched",
    "save": "saved",
    "compare": "compared",
}


class Session:
    """A loader process, started immediately: it maps libtorch's libraries while the caller prepares.

    Args:
        loader: the program.
        passed: additional variables for it, as for `minimal_environment`.
        emulator: command that runs it, if it is for another machine.
        arguments: of the program.
        environment: additional variables for it, with any names.
        process: it runs already, with this watcher; it is started anew only by `restart`.

    Raises:
        RunFailedError: the program cannot be started at all.
        UsageError: one of `passed` is not a variable that may be passed.
    """

    def __init__(
        self,
        loader: Path,
        passed: Sequence[str] = (),
        emulator: Sequence[str] = (),
        arguments: Sequence[str] = ("--serve",),
        environment: Mapping[str, str] | None = None,
        process: tuple[Child, SharedWatcher | None] | None = None,
    ) -> None:
        self.loader = loader
        self._options = (passed, emulator, arguments, environment)
        self._command = (*emulator, str(loader), *arguments)
        self._environment = {**minimal_environment(passed), **(environment or {})}
        self.timed_out = False
        self._printed = ""
        self._has_printed = False  # in the current model's process, also what `cut` has removed
        self._mark = ""
        self._marked = threading.Event()
        self._timer: threading.Timer | None = None
        self._deadline = math.inf
        self._memory: int | None = None
        self._forks = False  # whether each model has a process forked from this one
        self._forked = False  # whether such a process answers now
        self._fresh = False  # whether that process can take a model
        self._models = 0  # how many it has been given
        self._most = math.inf  # MiB of memory up to which one counts as small
        self._overdue = False  # it was killed because it did not exit
        self._process: Child
        self._watcher: SharedWatcher | None
        if process is None:
            self._start()
        else:
            self._process, self._watcher = process
            self._attend()

    def twin(self, process: Child) -> Session:
        """A session with another process of the same loader."""
        shared = self._watcher.join() if self._watcher else None
        return Session(self.loader, *self._options, process=(process, shared))

    def _start(self) -> None:
        try:
            self._process, watcher = spawn(self._command, env=self._environment)
            self._watcher = SharedWatcher(watcher)
        except ToolMissingError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOEXEC:
                raise RunFailedError(
                    "The loader was built, but it is for another machine than this one and cannot run here.",
                    hint="Verify on a machine of its kind.",
                ) from error
            raise RunFailedError(
                f"The loader {self.loader} cannot be started.",
                hint="If its file system forbids programs (noexec), name another with TORCHLINK_CACHE_DIR.",
                details=(error.message,),
            ) from error
        self._attend()

    def _attend(self) -> None:
        # A pipe holds 64 KB: a model that prints more would block while nobody reads.
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()
        self._forked = False
        self._limit_memory(self._process.pid)

    def serve_many(self, warm: Path, threads: int = 0) -> bool:
        """Prepare the process to serve several models, each in a process forked from it; returns whether it can.

        Args:
            warm: a model to run once first.
            threads: that a model may use; 0: no limit.

        Raises:
            LoaderDiedError: as `ask`.
        """
        self.warm(warm, threads)
        return self.fork_each()

    def warm(self, warm: Path, threads: int = 0, meanwhile: Callable[[], None] = lambda: None) -> None:
        """The first part of `serve_many`, after which the process may get twins."""
        from torchlink.verify.specs import encoded

        command = f"warm {threads} {encoded(str(warm))}"
        self._tell(command)
        meanwhile()
        self._answer(command, self._read())  # an old libtorch that cannot load it starts without it

    def fork_each(self) -> bool:
        """The second part."""
        self._forks = True
        self._forks = self._fresh = self._fork()
        return self._forks

    def next_model(self, *, shared: bool = False) -> None:
        """Begin the next model after `serve_many`: nothing is loaded or printed, without a time limit.

        Args:
            shared: it may have a process that `finish` has kept, instead of a new one.

        Raises:
            LoaderDiedError: as `ask`.
        """
        self.unlimited()
        if self._forked and not (self._fresh and (shared or not self._models)):
            self.finish(thoroughly=False)
        if not self._forked and not self._fork():
            raise self._died()
        self._fresh = False
        self._models += 1
        self._printed = ""
        self._has_printed = False

    @property
    def reused(self) -> bool:
        """Whether the process of the current model has run another before."""
        return self._models > 1

    def is_too_much(self, peak: float | None) -> bool:
        """Whether so many MiB are more than a model may take of a process that runs several."""
        return peak is not None and peak > self._most

    def _fork(self) -> bool:
        event = self._told("fork")
        self._forked = event.get("event") == "forked"
        if self._forked:
            self._models = 0
            self._most = float(event.get("most_mb", math.inf))
            self._limit_memory(int(event["process"]))
        return self._forked

    def limit_memory(self, size: int) -> None:
        """Limit the private memory of the process, in bytes, and of those started from it.

        Mapped libraries do not count.
        """
        self._memory = size
        if not self._forks:
            self._limit_memory(self._process.pid)

    def _limit_memory(self, process: int) -> None:
        if self._memory is not None and (self._forked or not self._forks):
            limit_memory(process, self._memory)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def printed(self) -> str:
        """The output of the model and libtorch so far."""
        return self._printed

    def cut(self) -> str:
        """Return the output so far, and remove it from `printed`.

        Raises:
            LoaderDiedError: as `ask`.
        """
        self.ask(f"mark {self._new_mark()}")
        self._marked.wait(TEARDOWN)
        text, self._printed = self._printed, ""
        return text

    def limit(self, seconds: float) -> None:
        """Kill the process if it has not ended after so many seconds; `timed_out` is then true."""
        self._deadline = time.monotonic() + seconds
        self._timer = threading.Timer(seconds, self._time_out)
        self._timer.daemon = True
        self._timer.start()

    @property
    def left(self) -> float:
        """Seconds until the process is killed; infinite without a limit."""
        return self._deadline - time.monotonic()

    def unlimited(self) -> None:
        """Remove the time limit."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._deadline = math.inf

    @property
    def alive(self) -> bool:
        """Whether there is a process to serve another model."""
        return not self.timed_out and self._process.poll() is None

    def restart(self) -> None:
        """Continue with a new process of the same loader, which has loaded and printed nothing; a limit stays in force.

        Raises:
            RunFailedError: it can no longer be started.
        """
        if self._forks and not self._forked and self.alive:
            self._printed = ""
            with contextlib.suppress(LoaderDiedError):
                if self._fork():
                    self._models = 1
                    return
        self._stop()
        self._printed = ""
        self._forks = False
        self._start()

    def ask(self, command: str) -> dict[str, Any]:
        """Send one command and return the event that answers it.

        Raises:
            LoaderDiedError: the process ended, or its answer is not an event.
        """
        return self._answer(command, self._told(command))

    def _answer(self, command: str, event: dict[str, Any]) -> dict[str, Any]:
        if event.get("event") == "ended" and self._forked:
            raise self._ended(event)
        expected = ANSWERS.get(command.partition(" ")[0], event.get("event"))
        if event.get("event") not in (expected, "error"):
            raise self._garbled()
        return Event(event)

    def _garbled(self) -> LoaderDiedError:
        kill_tree(self._process)
        self._process.wait()
        self._reader.join(GRACE)
        return LoaderDiedError(0, self._printed, garbled=True)

    def _told(self, command: str, seconds: float = math.inf) -> dict[str, Any]:
        """The event that answers a command, or the report that a forked process has ended."""
        self._tell(command)
        return self._read(seconds)

    def _tell(self, command: str) -> None:
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - `spawn` makes the pipes
        try:
            stdin.write(command + "\n")
            stdin.flush()
        except (OSError, ValueError):
            raise self._died() from None

    def _read(self, seconds: float = math.inf) -> dict[str, Any]:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - as above
        try:
            if not await_output(stdout, seconds):
                self._overdue = True
                kill_tree(self._process)
            line = stdout.readline(LONGEST_EVENT)
            event = json.loads(line) if line else None
        except OSError:
            raise self._died() from None
        except (ValueError, RecursionError):
            raise (self._garbled() if line.endswith("\n") else self._died()) from None
        if not isinstance(event, dict):
            raise self._died() if event is None else self._garbled()
        return event

    def _ended(self, event: dict[str, Any]) -> LoaderDiedError:
        """Note that a forked process has ended; from now on its parent answers."""
        self._forked = False
        self._settle()
        return LoaderDiedError(int(event["status"]), self._printed)

    def _settle(self) -> None:
        """Discard a late answer to an abandoned command, and all output so far."""
        event = self._told(f"mark {self._new_mark()}")
        while event.get("event") != "marked":
            event = self._read()
        self._marked.wait(TEARDOWN)

    def finish(self, *, thoroughly: bool = True, keep: bool = False) -> None:
        """Let the process exit by itself, as a user's program would.

        Args:
            thoroughly: tear down libtorch and everything that a model loaded even if another process does so.
            keep: instead, keep a forked process for the next model if this one has changed nothing in it.

        Raises:
            LoaderDiedError: it did not exit cleanly: its libraries cannot be torn down.
        """
        if self._forked:
            if keep and self._models < MOST_MODELS and self._reset():
                self._fresh = True
            else:
                self._end_forked("end" if thoroughly else "leave")
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        if wait(self._process, TEARDOWN) not in (0, None):  # None: one of the model's threads does not end
            raise self._died()

    def _reset(self) -> bool:
        """Have the process let go of its model; whether it is then as new: nothing was printed, either."""
        mark = self._new_mark()
        event = self._told(f"reset {mark}")
        if event.get("event") == "ended":  # as with `leave`, what happens after the last call does not count
            self._ended(event)
            return False
        self._marked.wait(TEARDOWN)
        return event.get("reusable") is True and not self._has_printed

    def _new_mark(self) -> str:
        self._marked.clear()
        self._mark = os.urandom(16).hex()
        return self._mark

    def _end_forked(self, command: str) -> None:
        if not self._forked:  # it has ended by itself
            return
        try:
            event = self._told(command, TEARDOWN)
        except LoaderDiedError:
            if self._overdue:  # one of the model's threads does not end
                return
            raise
        died = self._ended(event)
        if died.returncode != 0:
            raise died

    @property
    def forks(self) -> bool:
        """Whether each model has a process forked from this one."""
        return self._forks

    @property
    def emulator(self) -> str:
        """The program that runs the loader, where it is for another machine; else empty."""
        return "" if self._command[0] == str(self.loader) else str(self._command[0])

    def kill(self) -> None:
        """Kill the process immediately, from any thread; a thread that uses it sees it die."""
        kill_tree(self._process)

    def close(self) -> None:
        """Stop the process if it still runs, and close its pipes."""
        if self._timer is not None:
            self._timer.cancel()
        self._stop()

    def _stop(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # the process died before it read a command
                    pipe.close()
        runs = self._process.poll() is None
        if runs:
            self._process.terminate()
            if wait(self._process, GRACE) is None:
                kill_tree(self._process)
        self._process.wait()
        if self._watcher is not None:
            self._watcher.leave(killed=runs)
        self._watcher = None
        self._reader.join(GRACE)
        # What the model left behind may hold the pipe open; closing it would wait for its reader.
        if self._process.stderr is not None and not self._reader.is_alive():
            self._process.stderr.close()

    def _time_out(self) -> None:
        self.timed_out = True
        kill_tree(self._process)

    def _died(self) -> LoaderDiedError:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        code = wait(self._process, TEARDOWN)
        if code is None:  # it closed its pipes, or does not answer in the protocol, and goes on
            kill_tree(self._process)
            code = self._process.wait()
        self._reader.join(GRACE)
        return LoaderDiedError(code, self._printed)

    def _collect(self) -> None:
        stderr = self._process.stderr
        if stderr is None:
            return
        for line in stderr:
            text, found, _ = line.partition(self._mark + "\n") if self._mark else (line, "", "")
            self._printed = (self._printed + text)[-PRINTED:]
            self._has_printed = self._has_printed or bool(text)
            if found:
                self._mark = ""
                self._marked.set()


def await_output(stream: IO[str], seconds: float = math.inf) -> bool:
    """Wait in slices until there is something to read, or the end; False after the timeout.

    Python runs signal handlers only in the main thread, and a signal that the system delivers to another thread does
    not interrupt a blocking read of the main thread.
    """
    ready = select.poll()
    ready.register(stream, select.POLLIN)
    while not ready.poll(SLICE):
        seconds -= SLICE / 1000
        if seconds < 0:
            return False
    return True
