"""Many models in several loaders at once: each runs one model after the other, in a process forked from it.

If a loader cannot be forked (not Linux, run by QEMU, with threads of its own), each model gets a new one.
"""

from __future__ import annotations

import os
import queue
import threading
from typing import TYPE_CHECKING, NamedTuple, Protocol

from torchlink import signals
from torchlink.errors import TorchlinkError, UsageError
from torchlink.verify.session import LoaderDiedError, Session
from torchlink.verify.twins import Twins

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch
    from torchlink.verify.result import ModelResult, Request


MOST_JOBS = 16  # by default
EACH = 1 << 30  # bytes of memory that a model is estimated to need, to choose the default number of jobs
MOST = 1024
SLICE = 0.25  # seconds: Python runs signal handlers only in the main thread, which must not block


class LoaderCommand(NamedTuple):
    """The command that starts a loader."""

    program: Path
    environment: tuple[str, ...] = ()  # as for `Session`
    emulator: tuple[str, ...] = ()
    warm: Path | None = None  # the model that it runs before it serves many; None: it cannot serve many


def jobs_for(asked: int | None, models: int, device: str = "cpu") -> int:
    """The number of models to run at once.

    Args:
        asked: the user's number; None: as many as processors and memory allow, one on a GPU, whose memory is shared.
        models: the number of models.
        device: where they run.

    Raises:
        UsageError: the number is out of range.
    """
    if asked is not None:
        if not 1 <= asked <= MOST:
            raise UsageError(f"-j {asked}: not a number from 1 to {MOST}.", hint=f"Use 1 to {MOST}.")
        return min(asked, max(models, 1))
    if device != "cpu":
        return 1
    return max(1, min(processors(), MOST_JOBS, models, _free_memory() // EACH))


def workers_for(requests: Sequence[Request], jobs: int | None, count: int, libtorch: Libtorch) -> int:
    """How many models are run at once: one where calls are timed, and on a GPU unless more are asked for.

    Raises:
        UsageError: so many cannot be asked for.
    """
    if any(request.bench for request in requests):
        if jobs is not None and jobs > 1:
            raise UsageError(
                f"--bench and -j {jobs} cannot be combined.", hint="Omit -j: models are timed one by one."
            )
        return 1
    gpu = libtorch.accelerator != "cpu" or libtorch.platform == "macos"
    elsewhere = [
        request.device
        for request in requests
        if request.device != "cpu" and (request.device != "auto" or gpu)
    ]
    return jobs_for(jobs, count, elsewhere[0] if elsewhere else "cpu")


def processors() -> int:
    """The number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _free_memory() -> int:
    """Bytes of memory that programs may still take; plenty if the system does not report it."""
    from torchlink.bounds import first_bytes, whole_number

    try:
        lines = first_bytes("/proc/meminfo", 4096).decode("ascii", "replace").splitlines()
    except (OSError, TorchlinkError):
        return MOST * EACH
    kib = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), "")
    return whole_number(kib) << 10 if kib else MOST * EACH


class Loaders:
    """The loaders of one worker: at most one of each program, started when the first model needs it.

    Args:
        several: whether more than one model is to be run.
        threads: that a model may use, so that concurrent models do not use more threads than there are processors;
            None: no limit.
        early: one that has already been started.
        twins: of the first worker's loader.
        meanwhile: called while a loader starts.
    """

    def __init__(
        self,
        *,
        several: bool,
        threads: int | None = None,
        early: Session | None = None,
        twins: Twins | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        self._several = several
        self._threads = threads
        self._kept: dict[LoaderCommand, Session] = {}
        self._early = early
        self._first = early is not None  # whose loader gets twins
        self._twins = twins or Twins(None, 0)
        self._meanwhile = meanwhile
        self._lock = threading.Lock()
        self._open: set[Session] = set()
        self._stopped = False

    def session(self, command: LoaderCommand, *, shared: bool = False) -> Session:
        """Return a loader in which nothing has been loaded.

        Args:
            command: which.
            shared: its process may have run models before that have not changed it.

        Raises:
            RunFailedError: it cannot be started.
        """
        for _ in range(2):
            kept = self._kept.get(command)
            if kept is None:
                break
            try:
                if kept.alive:
                    kept.next_model(shared=shared)
                    return kept
            except LoaderDiedError:
                pass
            self._drop(command)
        return self._new(command)

    def done(self, command: LoaderCommand) -> None:
        """Finish with the model of the last `session`."""
        session = self._kept.get(command)
        if session is not None and not session.forks:
            self._drop(command)

    def _new(self, command: LoaderCommand) -> Session:
        early, self._early = self._early, None
        try:
            return self._prepared(command, early)
        finally:
            if self._first:
                self._twins.end()

    def _prepared(self, command: LoaderCommand, early: Session | None) -> Session:
        several = self._several and command.warm is not None
        twin = self._twins.take(command) if several and not self._first else None
        if early is not None and early.loader == command.program and not command.emulator:
            session = early
        elif twin is not None:
            session = twin
        else:
            passed = (*self._few_threads(command), *command.environment)
            session = Session(command.program, passed, command.emulator)
        self._keep(command, session)
        if not several or twin is not None:
            self._meanwhile()
        if several and command.warm is not None:
            try:
                if twin is None:
                    threads = self._threads if self._few_threads(command) else None
                    session.warm(command.warm, threads or 0, self._meanwhile)
                    self._twins.fill(session)
                    self._twins.end()
                if session.fork_each():
                    session.next_model()
            except LoaderDiedError:  # it dies again when the model is run, which then reports the reason
                self._drop(command)
                session = Session(command.program, command.environment, command.emulator)
                self._keep(command, session)
        return session

    def _few_threads(self, command: LoaderCommand) -> tuple[str, ...]:
        """The variable that limits a loader's threads, unless the user has set it."""
        name = "OMP_NUM_THREADS"
        named = {each.partition("=")[0] for each in command.environment}
        return (
            ()
            if self._threads is None or name in named or name in os.environ
            else (f"{name}={self._threads}",)
        )

    def _keep(self, command: LoaderCommand, session: Session) -> None:
        with self._lock:
            self._open.add(session)
            self._kept[command] = session
            if self._stopped:
                session.kill()

    def _drop(self, command: LoaderCommand) -> None:
        with self._lock:
            session = self._kept.pop(command, None)
            if session is not None:
                self._open.discard(session)
        if session is not None:
            session.close()

    def stop(self) -> None:
        """Kill them all from another thread; the worker then closes its dead one."""
        with self._lock:
            self._stopped = True
            for session in self._open:
                session.kill()

    def close(self) -> None:
        """End them all."""
        if self._first:
            self._twins.end()
        for command in list(self._kept):
            self._drop(command)


class Stoppable(Protocol):
    """Something that another thread can stop."""

    def stop(self) -> None:
        """Wake up every thread that waits for it."""


class Outcome(NamedTuple):
    """The outcome for a model, by its number."""

    number: int
    result: ModelResult | None  # None: `error` was raised
    error: BaseException | None = None


def in_turn(
    count: int,
    jobs: int,
    loaders: Sequence[Loaders],
    work: Callable[[int, Loaders], ModelResult],
    begun: Callable[[int], None],
    others: Sequence[Stoppable] = (),
    meanwhile: Callable[[], None] = lambda: None,
) -> Generator[tuple[int, ModelResult], None, None]:
    """The numbers and results of models in the order in which they finish.

    Closing it early, or an interrupt, ends all loaders.

    Args:
        count: the number of models.
        jobs: how many to run at once.
        loaders: those of each worker.
        work: runs one model, by its number.
        begun: called when a model is about to be run.
        others: further objects that workers may be waiting for.
        meanwhile: called while the loaders of several workers start.
    """
    if jobs == 1:
        try:
            for number in range(count):
                begun(number)
                yield number, work(number, loaders[0])
        finally:
            loaders[0].close()
        return
    crew = _Crew(count, loaders, work, others)
    try:
        crew.start()
        left, started = count, False
        while left:
            outcome = crew.next()
            signals.check()
            if isinstance(outcome, int):
                begun(outcome)
                if not started:
                    started = True
                    meanwhile()
            elif outcome is not None:
                left -= 1
                if outcome.error is not None:
                    raise outcome.error
                if outcome.result is not None:
                    yield outcome.number, outcome.result
    finally:
        crew.stop()


class _Crew:
    """Threads that each have a loader of their own, and take the next model as soon as theirs is finished."""

    def __init__(
        self,
        count: int,
        loaders: Sequence[Loaders],
        work: Callable[[int, Loaders], ModelResult],
        others: Sequence[Stoppable],
    ) -> None:
        self._waited_for: tuple[Stoppable, ...] = (*loaders, *others)
        self._work = work
        self._outcomes: queue.SimpleQueue[Outcome | int] = queue.SimpleQueue()
        self._numbers = iter(range(count))
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._workers = [threading.Thread(target=self._serve, args=(own,), daemon=True) for own in loaders]

    def start(self) -> None:
        for worker in self._workers:
            worker.start()

    def next(self) -> Outcome | int | None:
        """An outcome, the number of a model that begins, or None if neither has arrived for a while."""
        try:
            return self._outcomes.get(timeout=SLICE)
        except queue.Empty:
            return None

    def stop(self) -> None:
        """End the loaders and the threads; their current models are abandoned."""
        self._stop.set()
        for each in self._waited_for:
            each.stop()
        for worker in self._workers:
            if worker.ident is not None:
                worker.join()

    def _serve(self, own: Loaders) -> None:
        try:
            while not self._stop.is_set():
                with self._lock:
                    number = next(self._numbers, None)
                if number is None:
                    return
                self._outcomes.put(number)
                self._outcomes.put(self._outcome(number, own))
        finally:
            own.close()  # here, because a loader ends with the thread that started it

    def _outcome(self, number: int, own: Loaders) -> Outcome:
        try:
            return Outcome(number, self._work(number, own))
        except BaseException as error:  # noqa: BLE001 - it is raised in the main thread
            return Outcome(number, None, error)
