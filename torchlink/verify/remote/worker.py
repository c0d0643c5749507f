"""What runs in the processes of an executor: one model after the other, with a loader that is kept for the next."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import ExecutorError, LibtorchDiffersError, TorchlinkError
from torchlink.verify.building import build_program, command_of, emulator_of, link_plan
from torchlink.verify.inputs import OPENED
from torchlink.verify.programs import TORCHSCRIPT, plan_for, program_of, run_one
from torchlink.verify.remote.identity import identity_of
from torchlink.verify.remote.units import machine, moved, named_as, placed, version
from torchlink.verify.scheduling import Loaders, processors
from torchlink.verify.tasks import ModelTask
from torchlink.verify.verification import Hooks, look, requests_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torchlink.libtorch.facts import Libtorch
    from torchlink.plan import LinkPlan
    from torchlink.verify.comparing.references import ReferenceRun
    from torchlink.verify.options import VerifyOptions
    from torchlink.verify.remote.identity import Identity
    from torchlink.verify.remote.units import Unit
    from torchlink.verify.result import ModelResult, Request
    from torchlink.verify.scheduling import LoaderCommand

IDLE = 5.0  # seconds without a model after which the loaders are ended


def work(unit: Unit) -> ModelResult:
    """Verify a model on this machine.

    Raises:
        ExecutorError: this machine has another torchlink.
        LibtorchDiffersError: it has another libtorch, or none.
        TorchlinkError: as `verification.verify`.
    """
    if unit.torchlink != version():
        raise ExecutorError(
            f"The worker {machine()} has torchlink {version()}, not {unit.torchlink}.",
            hint="Install the same torchlink for all workers.",
        )
    if not hasattr(_LOCAL, "own"):
        _LOCAL.own = _Own()
    own: _Own = _LOCAL.own
    return own.prove(unit)


class _Bench:
    """What all models of a run need on this machine."""

    def __init__(self, unit: Unit) -> None:
        self.libtorch = _same_libtorch(unit.libtorch)
        self._building = unit.building
        self._plan, self._tool = link_plan(self.libtorch, unit.building)
        self._emulator = emulator_of(self.libtorch, self._tool)
        self._programs: dict[str, tuple[LinkPlan, LoaderCommand]] = {}
        self._lock = threading.Lock()

    def program(self, program: str) -> tuple[LinkPlan, LoaderCommand]:
        """How a program is linked and started; it is built where it is not there."""
        with self._lock:
            if program not in self._programs:
                plan = self._plan
                if program != TORCHSCRIPT:
                    plan = plan_for(program, self.libtorch, self._building, self._tool)
                built = build_program(plan, self._tool, self._building.via, Hooks(), program)
                self._programs[program] = (plan, command_of(built, self._building, self._emulator))
            return self._programs[program]


def _same_libtorch(wanted: Identity) -> Libtorch:
    """The libtorch of this machine that is the wanted one.

    Raises:
        LibtorchDiffersError: there is none.
    """
    from torchlink.libtorch.choose import choose
    from torchlink.libtorch.inspect import inspect

    def there() -> Libtorch:
        return inspect(Path(wanted.root), found_by="executor")

    finders: tuple[Callable[[], Libtorch], ...] = (there, choose)
    seen = []
    for find in finders:
        try:
            libtorch = find()
            found = identity_of(libtorch)
        except (TorchlinkError, OSError):
            continue
        if found.same_as(wanted):
            return libtorch
        seen.append(f"{libtorch.root}: libtorch {found.text}")
    raise LibtorchDiffersError(
        f"The worker {machine()} does not have libtorch {wanted.text}"
        + (f", but {'; '.join(dict.fromkeys(seen))}." if seen else "; it has none."),
        hint=f"Install it there, at {wanted.root} or where `torchlink find` finds it.",
    )


class _Kept(NamedTuple):
    """What is asked of models with the same options and files."""

    key: tuple[object, ...]
    request: Request
    references: list[ReferenceRun]


class _Own:
    """What a thread of this process keeps for its next model: a loader ends with the thread that has started it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run = ""
        self._loaders: Loaders | None = None
        self._kept: _Kept | None = None
        self._timer: threading.Timer | None = None

    def prove(self, unit: Unit) -> ModelResult:
        """Verify a model; what it leaves is ended where no other comes for a while."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            try:
                return self._prove(unit)
            finally:
                self._timer = threading.Timer(IDLE, self._rest)
                self._timer.daemon = True
                self._timer.start()

    def _prove(self, unit: Unit) -> ModelResult:
        if unit.run != self._run:
            self._end()
            self._run = unit.run
        bench = _bench_of(unit)
        with placed(unit) as places:
            task = moved(unit.task, places)
            token = OPENED.set(lambda name: places[name])
            try:
                found = look(Path(task.path), bench.libtorch, task.options)
                if found.error is None:
                    others = tuple(here for name, here in places.items() if name != unit.task.path)
                    threads = max(1, processors() // unit.share)
                    found = self._run_one(bench, task.options, others, found, threads)
            finally:
                OPENED.reset(token)
            names = {str(here): name for name, here in places.items()} | dict(unit.names)
        return replace(named_as(found, names), path=unit.task.path)

    def _run_one(
        self,
        bench: _Bench,
        options: VerifyOptions,
        files: tuple[Path, ...],
        found: ModelResult,
        threads: int,
    ) -> ModelResult:
        program = program_of(found.kind)
        plan, command = bench.program(program)
        kept = self._asked(bench, options, files)
        for reference in kept.references:
            reference.prepare({found.kind}, threads)
        if self._loaders is None:
            self._loaders = Loaders(several=True, threads=threads)
        return run_one(self._loaders, command, found, kept.request, bench.libtorch, plan)

    def _asked(self, bench: _Bench, options: VerifyOptions, files: tuple[Path, ...]) -> _Kept:
        key = (options, files)
        if self._kept is None or self._kept.key != key:
            self._forget()
            requests, references = requests_of([ModelTask("", options)], bench.libtorch, Hooks())
            self._kept = _Kept(key, requests[options], references)
        return self._kept

    def _forget(self) -> None:
        kept, self._kept = self._kept, None
        for reference in kept.references if kept else ():
            reference.close()

    def _end(self) -> None:
        self._forget()
        loaders, self._loaders = self._loaders, None
        if loaders is not None:
            loaders.close()

    def _rest(self) -> None:
        if self._lock.acquire(blocking=False):  # else another model has come
            try:
                self._end()
            finally:
                self._lock.release()


_LOCAL = threading.local()
_BENCHES: dict[str, _Bench] = {}  # of the last run
_BENCHES_LOCK = threading.Lock()


def _bench_of(unit: Unit) -> _Bench:
    with _BENCHES_LOCK:
        if unit.run not in _BENCHES:
            _BENCHES.clear()
            _BENCHES[unit.run] = _Bench(unit)
        return _BENCHES[unit.run]
