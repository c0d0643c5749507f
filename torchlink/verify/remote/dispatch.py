"""Handing models to an executor, and taking their results: each once, whatever becomes of a worker."""

from __future__ import annotations

import queue
import uuid
from collections import deque
from concurrent.futures import BrokenExecutor, CancelledError
from typing import TYPE_CHECKING, Any, NamedTuple

from torchlink import __version__, signals
from torchlink.errors import ExecutorError, TorchlinkError, UsageError
from torchlink.verify.remote.executors import opened, quiet_submit
from torchlink.verify.remote.identity import identity_of
from torchlink.verify.remote.units import SHARED, Unit, anchored, check_way, packed
from torchlink.verify.remote.worker import work
from torchlink.verify.result import ModelResult

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from concurrent.futures import Future

    from torchlink.libtorch.facts import Libtorch
    from torchlink.verify.options import VerifyOptions
    from torchlink.verify.remote.executors import Factory, Pool
    from torchlink.verify.tasks import ModelTask

AHEAD = 2  # models for each that runs: a worker has its next one at hand
MOST_SENT = 1 << 30  # bytes of files that are on their way at once
MOST_TRIES = 3  # of a model whose worker ends, where the executor does not try it again itself
SLICE = 0.25  # seconds, as in `scheduling`


class Remote(NamedTuple):
    """Where models are verified, if not by processes of this one."""

    executor: str | Factory  # as `--executor` takes it, or what returns one
    files: str = SHARED  # how workers get the models: SHARED or SEND


class Dispatch:
    """The models of one run.

    Args:
        remote: where.
        tasks: all models, by their numbers.
        found: what the files are, for those that are to be run.
        libtorch: what workers must have.
        building: the options with which the loader is built.
    """

    def __init__(
        self,
        remote: Remote,
        tasks: Sequence[ModelTask],
        found: Mapping[int, ModelResult],
        libtorch: Libtorch,
        building: VerifyOptions,
    ) -> None:
        self._remote = remote
        self._tasks = tasks
        self._found = found
        self._identity = identity_of(libtorch)
        self._building = building
        self._run = uuid.uuid4().hex
        self._ended: queue.SimpleQueue[Future[ModelResult]] = queue.SimpleQueue()
        self._running: dict[Future[ModelResult], tuple[int, int]] = {}  # numbers, and bytes that were sent
        self._tries: dict[int, int] = {}

    def results(
        self, numbers: Sequence[int], begun: Callable[[int], None]
    ) -> Generator[tuple[int, ModelResult], None, None]:
        """The numbers and results of models in the order in which they come; whoever stops early gives up the others.

        Args:
            numbers: of the models.
            begun: a model has been handed over.

        Raises:
            TorchlinkError: the executor cannot be opened.
        """
        pool = opened(self._remote.executor)
        through = False
        waiting = deque(numbers)
        try:
            while waiting or self._running:
                while waiting and len(self._running) < AHEAD * pool.slots and self._has_room():
                    number = waiting.popleft()
                    first = number not in self._tries
                    self._tries[number] = self._tries.get(number, 0) + 1
                    try:
                        self._submit(pool, number)
                    except BrokenExecutor:
                        waiting.appendleft(number)
                        self._tries[number] -= 1
                        if self._running:
                            break  # those that it has taken with it come first
                        pool = self._another(pool)
                    except Exception as error:
                        yield number, self._failed(number, pool, error)
                    else:
                        if first:
                            begun(number)
                future = self._next()
                if future is None:
                    continue
                number, _ = self._running.pop(future)
                error = CancelledError() if future.cancelled() else future.exception()
                if error is None:
                    yield number, future.result()
                elif isinstance(error, BrokenExecutor) and self._tries[number] < MOST_TRIES:
                    waiting.append(number)
                else:
                    yield number, self._failed(number, pool, error)
            through = True
        finally:
            for future in self._running:
                future.cancel()
            if not through:
                pool.stop()
            pool.close()

    def _another(self, pool: Pool) -> Pool:
        """A new executor in place of one that is broken."""
        if pool.again is None:
            raise ExecutorError(f"--executor {pool.name} is broken.", hint="Start it again.")
        pool.close()
        return pool.again()

    def _has_room(self) -> bool:
        return sum(size for _, size in self._running.values()) < MOST_SENT

    def _submit(self, pool: Pool, number: int) -> None:
        task, names = anchored(self._tasks[number])
        unit = Unit(
            __version__,
            self._run,
            task,
            self._building,
            self._identity,
            pool.share,
            packed(task, self._remote.files),
            names,
        )
        future = quiet_submit(pool, work, unit)
        self._running[future] = (number, unit.size)
        future.add_done_callback(self._ended.put)

    def _next(self) -> Future[ModelResult] | None:
        """A model that has ended, None where none has for a while."""
        try:
            future = self._ended.get(timeout=SLICE)
        except queue.Empty:
            return None
        finally:
            signals.check()
        return future

    def _failed(self, number: int, pool: Pool, error: BaseException) -> ModelResult:
        """The result of a model that no worker has brought one for."""
        found = self._found[number]
        if not isinstance(error, TorchlinkError):
            error = ExecutorError(
                f"{found.path}: no worker of --executor {pool.name} has verified it: {_said(error)}",
                hint=_advice(error),
            )
        return ModelResult(found.path, found.kind, None, error, stage="executor")


def _said(error: BaseException) -> str:
    """What was raised, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{': ' + text if text else ''}"


def _advice(error: BaseException) -> str:
    name: Any = type(error).__name__
    if isinstance(error, ModuleNotFoundError):
        return "Install the same torchlink where the workers run."
    if name == "KilledWorker" or isinstance(error, BrokenExecutor):
        return "Its workers ended each time; see their logs, and look whether they have enough memory."
    return "See the logs of the workers."


def check_remote(
    remote: Remote, tasks: Sequence[ModelTask], options: VerifyOptions, jobs: int | None
) -> None:
    """Refuse what does not go with an executor before anything is built.

    Raises:
        UsageError: an option does not.
    """
    if jobs is not None:
        raise UsageError(
            "-j and --executor exclude each other.", hint="The executor has as many workers as it was given."
        )
    for asked in {options, *(task.options for task in tasks)}:
        check_way(remote.files, asked)
