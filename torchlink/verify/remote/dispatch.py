"""Handing models to an executor, and taking their results: each once, whatever becomes of a worker."""

from __future__ import annotations

import queue
import time
import uuid
from collections import deque
from concurrent.futures import BrokenExecutor, CancelledError
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from torchlink import signals
from torchlink.errors import ExecutorError, TorchlinkError, UsageError
from torchlink.verify.remote.executors import opened, quiet_submit
from torchlink.verify.remote.identity import identity_of
from torchlink.verify.remote.units import SHARED, Unit, anchored, check_way, packed, version, with_values
from torchlink.verify.remote.worker import work

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from concurrent.futures import Future
    from types import TracebackType

    from typing_extensions import Self

    from torchlink.libtorch.facts import Libtorch
    from torchlink.verify.options import VerifyOptions
    from torchlink.verify.remote.executors import Factory
    from torchlink.verify.result import ModelResult
    from torchlink.verify.tasks import ModelTask

AHEAD = 2  # models for each that runs: a worker has its next one at hand
MOST_SENT = 512 << 20  # bytes of files on their way with which no other model is sent
MOST_TRIES = 3  # of a model whose worker ends, where the executor does not try it again itself
LOST = 10.0  # seconds without a scheduler after which it is taken to be gone
SLICE = 0.25  # seconds, as in `scheduling`


class Remote(NamedTuple):
    """Where models are verified, if not by processes of this one."""

    executor: str | Factory  # as `--executor` takes it, or what returns one
    files: str = SHARED  # how workers get the models: SHARED or SEND


class Dispatch:
    """An executor that is open for the models of one run.

    Args:
        remote: where they are verified.
        libtorch: what workers must have.
        building: the options with which the loader is built.

    Raises:
        TorchlinkError: the executor cannot be opened.
    """

    def __init__(self, remote: Remote, libtorch: Libtorch, building: VerifyOptions) -> None:
        self._files = remote.files
        self._identity = identity_of(libtorch)
        self._building = building
        self._run = uuid.uuid4().hex
        self._waiting: deque[int] = deque()
        self._ended: queue.SimpleQueue[Future[ModelResult]] = queue.SimpleQueue()
        self._running: dict[Future[ModelResult], tuple[int, int]] = {}  # numbers, and bytes that were sent
        self._tries: dict[int, int] = {}
        self._gone_since: float | None = None
        self._pool = opened(remote.executor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for future in self._running if self._pool.alive() else ():
            future.cancel()
        if error is not None:
            self._pool.stop()
        self._pool.close()

    def results(
        self, tasks: Mapping[int, ModelTask], found: Mapping[int, ModelResult], begun: Callable[[int], None]
    ) -> Generator[tuple[int, ModelResult], None, None]:
        """The numbers and results of models in the order in which they come.

        Args:
            tasks: the models, by their numbers.
            found: what their files are.
            begun: a model has been handed over.

        Raises:
            ExecutorError: the executor cannot be opened again.
        """
        self._waiting.extend(tasks)
        while self._waiting or self._running:
            yield from self._hand_over(tasks, found, begun)
            future = self._next()
            if future is None:
                if self._is_lost():
                    yield from self._all_failed(found)
                continue
            number, _ = self._running.pop(future)
            failed = CancelledError() if future.cancelled() else future.exception()
            if failed is None:
                yield number, future.result()
            elif isinstance(failed, BrokenExecutor) and self._tries[number] < MOST_TRIES:
                self._waiting.append(number)
            else:
                yield number, self._failed(found[number], failed)

    def _hand_over(
        self, tasks: Mapping[int, ModelTask], found: Mapping[int, ModelResult], begun: Callable[[int], None]
    ) -> Generator[tuple[int, ModelResult], None, None]:
        """Give the executor as many models as it is to have; the results of those that cannot be given."""
        while self._waiting and self._has_room():
            number = self._waiting.popleft()
            if number not in self._tries:
                begun(number)
            try:
                self._submit(number, tasks[number])
            except BrokenExecutor:
                self._waiting.appendleft(number)
                if self._running:
                    break  # those that it has taken with it come first
                self._open_again()
            except Exception as error:  # noqa: BLE001 - executors raise what they like
                yield number, self._failed(found[number], error)

    def _is_lost(self) -> bool:
        """Whether what gives out the models has been gone for too long to come back."""
        if self._pool.alive():
            self._gone_since = None
            return False
        self._gone_since = self._gone_since or time.monotonic()
        return time.monotonic() - self._gone_since > LOST

    def _all_failed(self, found: Mapping[int, ModelResult]) -> Generator[tuple[int, ModelResult], None, None]:
        """Give up all models that are left."""
        left = [number for number, _ in self._running.values()] + list(self._waiting)
        self._running.clear()
        self._waiting.clear()
        for number in sorted(left):
            yield number, self._failed(found[number], ConnectionError("its scheduler is gone"))

    def _open_again(self) -> None:
        """Take a new executor in place of one that is broken."""
        if self._pool.again is None:
            raise ExecutorError(f"--executor {self._pool.name} is broken.", hint="Start it again.")
        self._pool.close()
        self._pool = self._pool.again()

    def _has_room(self) -> bool:
        """Whether another model may be handed over."""
        sent = sum(size for _, size in self._running.values())
        return self._pool.alive() and len(self._running) < AHEAD * self._pool.slots and sent < MOST_SENT

    def _submit(self, number: int, given: ModelTask) -> None:
        task, names = anchored(given)
        files = packed(task, self._files)
        unit = Unit(
            version(),
            self._run,
            task,
            with_values(self._building),
            self._identity,
            self._pool.share,
            files,
            names,
        )
        future = quiet_submit(self._pool, work, unit)
        self._tries[number] = self._tries.get(number, 0) + 1
        self._running[future] = (number, unit.size)
        future.add_done_callback(self._ended.put)

    def _next(self) -> Future[ModelResult] | None:
        """A model that has ended, None where none has for a while."""
        try:
            return self._ended.get(timeout=SLICE)
        except queue.Empty:
            return None
        finally:
            signals.check()

    def _failed(self, found: ModelResult, error: BaseException) -> ModelResult:
        """The result of a model that no worker has brought one for."""
        if not isinstance(error, TorchlinkError):
            error = ExecutorError(
                f"{found.path}: no worker of --executor {self._pool.name} has verified it: {_said(error)}",
                hint=_advice(error),
            )
        return replace(found, error=error, stage="executor")


def _said(error: BaseException) -> str:
    """What was raised, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{': ' + text if text else ''}"


def _advice(error: BaseException) -> str:
    name: Any = type(error).__name__
    if isinstance(error, (CancelledError, ConnectionError)):
        return "Look whether the scheduler still runs, and run verify again."
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
            "-j and --executor cannot be combined.", hint="The executor has as many workers as it was given."
        )
    for asked in {options, *(task.options for task in tasks)}:
        check_way(remote.files, asked)
