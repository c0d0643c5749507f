"""Opening an executor: the scheduler of dask.distributed, or what a function of the user's returns."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from torchlink.errors import ExecutorError, ToolMissingError, TorchlinkError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

Factory: TypeAlias = "Callable[[], Executor]"
DASK = "dask="
FORMS = "Write --executor dask=tcp://HOST:8786 or --executor PACKAGE.MODULE:FACTORY."
WAIT = 30  # seconds for a scheduler to answer
UNKNOWN = 4  # models at once of an executor that does not say how many workers it has


class Pool(NamedTuple):
    """An executor that is open."""

    name: str  # for messages
    executor: Executor
    slots: int  # models that it runs at once
    share: int  # of these on the machine that runs most
    close: Callable[[], None]  # what is under way is not waited for where `stop` was called
    stop: Callable[[], None]  # what is under way is given up
    again: Callable[[], Pool] | None  # a new one, where this one can break for good
    alive: Callable[[], bool] = lambda: True  # whether results can come


def opened(wanted: str | Factory) -> Pool:
    """Open an executor.

    Args:
        wanted: `dask=ADDRESS`, `PACKAGE.MODULE:FACTORY`, or such a factory.

    Raises:
        UsageError: it is none of these.
        ToolMissingError: dask.distributed is not installed.
        ExecutorError: it cannot be opened.
    """
    if not isinstance(wanted, str):
        return _made(getattr(wanted, "__qualname__", type(wanted).__name__), wanted)
    if wanted.startswith(DASK):
        return _dask(wanted)
    module, colon, name = wanted.partition(":")
    if not (colon and re.fullmatch(r"\w+(\.\w+)*", module) and re.fullmatch(r"\w+(\.\w+)*", name)):
        raise UsageError(f"--executor {wanted} names no executor.", hint=FORMS)
    return _made(wanted, _factory(wanted, module, name))


def _factory(wanted: str, module: str, name: str) -> Factory:
    """Import what the user named; this runs its module."""
    from functools import reduce
    from importlib import import_module

    hint = "The module must be importable by the Python that runs torchlink: install it there, or set PYTHONPATH."
    try:
        found: Any = import_module(module)
        found = reduce(getattr, name.split("."), found)
    except Exception as error:
        raise ExecutorError(
            f"--executor {wanted}: cannot be imported: {type(error).__name__}: {error}", hint=hint
        ) from error
    if not callable(found):
        raise ExecutorError(f"--executor {wanted}: {name} cannot be called.", hint=FORMS)
    factory: Factory = found
    return factory


def _made(wanted: str, factory: Factory) -> Pool:
    """What a factory returns."""
    try:
        executor = factory()
    except TorchlinkError:
        raise
    except Exception as error:
        raise ExecutorError(f"--executor {wanted}: {type(error).__name__}: {error}") from error
    if not (hasattr(executor, "submit") and hasattr(executor, "shutdown")):
        raise ExecutorError(
            f"--executor {wanted} returned {type(executor).__name__}, which is no concurrent.futures.Executor.",
            hint="Return an object with submit() and shutdown().",
        )
    workers = getattr(executor, "_max_workers", None)
    slots = workers if isinstance(workers, int) and workers > 0 else UNKNOWN
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        processes: Any = getattr(executor, "_processes", None) or {}
        for process in list(processes.values()) if isinstance(processes, dict) else ():
            process.kill()  # its loaders end with it

    def close() -> None:
        executor.shutdown(wait=not stopped, cancel_futures=True)

    return Pool(wanted, executor, slots, slots, close, stop, lambda: _made(wanted, factory))


def _dask(wanted: str) -> Pool:
    """The executor of a scheduler's client."""
    address = wanted.removeprefix(DASK)
    if not address:
        raise UsageError(f"--executor {wanted} names no scheduler.", hint=FORMS)
    try:
        import distributed
    except ImportError as error:
        raise ToolMissingError(
            f"--executor dask=… needs dask.distributed, which cannot be imported ({error}).",
            hint="Install the extra: python -m pip install 'torchlink[dask]'",
        ) from error
    client = None
    loud = _quieted()
    try:
        client = distributed.Client(address, timeout=WAIT, set_as_default=False)
        threads: dict[str, int] = client.nthreads()
    except Exception as error:
        if client is not None:
            client.close()
        loud()
        raise ExecutorError(
            f"--executor {wanted}: no scheduler answers there: {type(error).__name__}: {error}",
            hint="Start one with `dask scheduler`, and its workers with `dask worker ADDRESS`.",
        ) from error
    if not threads:
        client.close()
        loud()
        raise ExecutorError(
            f"--executor {wanted}: the scheduler has no workers.",
            hint="Start them with `dask worker ADDRESS`.",
        )
    hosts: dict[str, int] = {}
    for worker, count in threads.items():
        host = worker.rpartition(":")[0]
        hosts[host] = hosts.get(host, 0) + count

    def stop() -> None:
        return

    def alive() -> bool:
        return bool(client.status == "running")

    def close() -> None:
        with contextlib.suppress(Exception):  # a scheduler that is gone has nothing left to be closed
            client.close()
        loud()

    slots, share = sum(threads.values()), max(hosts.values())
    return Pool(wanted, client.get_executor(), slots, share, close, stop, None, alive)


def _quieted() -> Callable[[], None]:
    """Keep dask from logging tracebacks of a lost connection, of which the results tell; returns what undoes it."""
    import logging

    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    before = [logger.level for logger in loggers]

    def undo() -> None:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)

    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    return undo


def quiet_submit(pool: Pool, function: Callable[..., Any], argument: object) -> Any:
    """Submit; dask does not warn of units in which files travel, which is what was asked for."""
    if not pool.name.startswith(DASK):
        return pool.executor.submit(function, argument)
    import dask

    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):
        return pool.executor.submit(function, argument)
