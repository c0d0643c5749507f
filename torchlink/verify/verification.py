"""`torchlink verify` as a function: build the reference loader, run it on every model, report."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torchlink.environment import minimal_environment
from torchlink.errors import (
    DeviceError,
    ResourcesError,
    TorchlinkError,
    UsageError,
)
from torchlink.model.kind import identify, refusal
from torchlink.paths import data_dir
from torchlink.verify.benching.figures import bench_request
from torchlink.verify.building import build_program, command_of, emulator_of, is_before, link_plan
from torchlink.verify.comparing.tolerances import Tolerances
from torchlink.verify.given import read_given
from torchlink.verify.options import DEFAULTS
from torchlink.verify.programs import COMPILED, TORCHSCRIPT, plan_for, program_of, run_one
from torchlink.verify.result import ModelResult, Request, VerifyReport
from torchlink.verify.sanity import check_building, check_options, check_values
from torchlink.verify.scheduling import LoaderCommand, Loaders, in_turn, processors, workers_for
from torchlink.verify.tasks import ModelTask, attribute, gather
from torchlink.verify.twins import Twins

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torchlink.libtorch.facts import Libtorch
    from torchlink.plan import LinkPlan
    from torchlink.verify.comparing.expected import Expectation
    from torchlink.verify.comparing.references import ReferenceRun
    from torchlink.verify.options import VerifyOptions
    from torchlink.verify.remote.dispatch import Dispatch, Remote
    from torchlink.verify.result import Shard
    from torchlink.verify.session import Session


OLD_FORMAT = (1, 11)  # before it the tiny model is one in 1.1's format, which no later libtorch reads


class Hooks(NamedTuple):
    """Callbacks for progress while `verify` runs."""

    compiling: Callable[[str], None] = lambda _: (
        None
    )  # called with a sentence when compiling the loader begins
    # A model begins: the model, the number done, the report without models, and the total number of models.
    begun: Callable[[ModelResult, int, VerifyReport, int], None] = lambda *_: None
    # A model is done: its number, its result, and as above.
    ended: Callable[[int, ModelResult, VerifyReport, int], None] = lambda *_: None
    interrupted: Callable[[VerifyReport], None] = lambda _: None  # before all were done: the report so far
    noted: Callable[[Sequence[str]], None] = lambda _: None  # the plan's notes, before anything is built
    meanwhile: Callable[[], None] = lambda: None  # a loader is starting: time to import modules needed later
    early: Session | None = None  # started speculatively; runs the first model if it is the right one


def verify(
    models: Sequence[Path],
    libtorch: Libtorch,
    options: VerifyOptions = DEFAULTS,
    *,
    hooks: Hooks | None = None,
    jobs: int | None = None,
    remote: Remote | None = None,
) -> VerifyReport:
    """Build the reference loader with the flags of the plan and verify models with it.

    Args:
        models: TorchScript files, directories of them, globs; the bundled tiny model if empty.
        libtorch: what to build against.
        options: how.
        hooks: callbacks for progress.
        jobs: how many models at once; None: as many as processors and memory allow.
        remote: the executor whose workers run the models; None: processes of this one.

    Raises:
        BuildFailedError: the loader does not compile or link.
        ToolMissingError: there is no C++ compiler, no CMake, no Nim; for a libtorch of another machine no QEMU, or a
            library for that machine is missing.
        ToolUnfitError: the compiler cannot build against this libtorch.
        LibtorchUnusableError: libtorch is for another machine or a newer system, not extracted, or older than the
            loader.
        DeviceError: CUDA is requested, but libtorch was built without it.
        UsageError: an option has an invalid value, or an input cannot be read.
        FileError: `expect` or a library cannot be read, a directory contains no model, or the cache cannot be written.
        RunFailedError: the loader may not be executed in the cache directory.
    """
    tasks = gather(models, options) if models else [bundled(libtorch, options)]
    return verify_tasks(tasks, libtorch, options, hooks=hooks, jobs=jobs, remote=remote)


def bundled(libtorch: Libtorch, options: VerifyOptions) -> ModelTask:
    """The task for the bundled model."""
    return ModelTask(str(_tiny(libtorch)), options)


def verify_tasks(
    tasks: Sequence[ModelTask],
    libtorch: Libtorch,
    options: VerifyOptions,
    *,
    hooks: Hooks | None = None,
    jobs: int | None = None,
    known: Mapping[int, ModelResult] | None = None,
    shard: Shard | None = None,
    remote: Remote | None = None,
) -> VerifyReport:
    """Like `verify`, for models that may have options of their own.

    Args:
        tasks: the models; those of their options that concern building the loader are ignored.
        libtorch: what to build against.
        options: for building the loader.
        hooks: callbacks for progress.
        jobs: how many models at once; None: as many as processors and memory allow.
        known: results of an earlier run, by task number.
        shard: the part of all models that these are.
        remote: the executor whose workers run the models; None: processes of this one.

    Raises:
        TorchlinkError: as `verify`.
        KeyboardInterrupt: it was interrupted; `hooks.interrupted` has been called.
    """
    check_building(options)
    of_command = sum(task.options.expect == options.expect for task in tasks)
    if options.expect and of_command > 1:
        raise UsageError("--expect takes a single model.", hint="Verify each model separately.")
    if options.save_outputs:
        from torchlink.verify.saving import check_place

        check_place(options.save_outputs, [Path(task.path) for task in tasks], force=options.force)
    hooks = hooks or Hooks()
    known = known or {}
    if remote is None:
        return _verify(tasks, libtorch, options, hooks, jobs, known, shard)
    from torchlink.verify.remote.dispatch import Dispatch, check_remote

    check_remote(remote, tasks, options, jobs)
    with Dispatch(remote, libtorch, options) as dispatch:
        return _verify(tasks, libtorch, options, hooks, None, known, shard, dispatch)


def _verify(
    tasks: Sequence[ModelTask],
    libtorch: Libtorch,
    options: VerifyOptions,
    hooks: Hooks,
    jobs: int | None,
    known: Mapping[int, ModelResult],
    shard: Shard | None,
    dispatch: Dispatch | None = None,
) -> VerifyReport:
    """As `verify_tasks`, after its first checks, and with the executor open."""
    from torchlink.libtorch.floor import shortfall
    from torchlink.remedies.notes import notes_on
    from torchlink.toolchain.directories import linked

    requests, references = requests_of(tasks, libtorch, hooks)
    workers = workers_for(list(requests.values()), jobs, len(tasks), libtorch)
    minimal_environment(options.env)  # errors in it are reported before anything is compiled
    plan, tool = link_plan(libtorch, options)
    emulator = emulator_of(libtorch, tool)
    short = shortfall(libtorch, linked(tool), thorough=True)
    if short is not None:
        raise short.error
    hooks.noted(notes_on(plan))
    results: dict[int, ModelResult] = dict(known)
    looked_at = {
        number: ModelResult(task.path, "torchscript", None, None, skipped=task.skip)
        if task.skip
        else look(Path(task.path), libtorch, task.options)
        for number, task in enumerate(tasks)
        if number not in results
    }
    waiting = [number for number, result in looked_at.items() if not (result.error or result.skipped)]
    # If there is nothing to run, no compiler is needed.
    wanted = sorted({program_of(looked_at[number].kind) for number in waiting}, reverse=True)
    plans = {
        program: plan if program == TORCHSCRIPT else plan_for(program, libtorch, options, tool)
        for program in wanted
    }
    built = {program: build_program(plans[program], tool, options.via, hooks, program) for program in wanted}
    loader = next(iter(built.values()), None)
    early = None
    if loader is not None:
        # A process started before the loader was rebuilt in the same place is not this one.
        right = (
            hooks.early is not None and not emulator and loader.cached and hooks.early.loader == loader.path
        )
        early = hooks.early if right else None
    report = VerifyReport(
        libtorch,
        loader,
        options.via,
        (),
        emulator=emulator if loader else None,
        compiler=tool.name if loader else None,
        shard=shard,
    )
    progress = _Progress(report, hooks, len(tasks), results)
    commands = {program: command_of(each, options, emulator) for program, each in built.items()}
    prover = _Prover(tasks, looked_at, requests, libtorch, commands, plans, hooks)
    try:
        with contextlib.ExitStack() as ending:
            for reference in references:
                ending.callback(reference.close)
            for number in range(len(tasks)):
                if number not in waiting:
                    progress.ended(number, results.get(number) or looked_at[number])
            if dispatch is not None:
                progress.follow({number: tasks[number] for number in waiting}, looked_at, dispatch)
            elif waiting:
                progress.prove(waiting, min(workers, len(waiting)), prover, early)
    except KeyboardInterrupt:
        hooks.interrupted(replace(progress.report, interrupted=True))
        raise
    return progress.report


class _Progress:
    """The progress on all models, in their order."""

    def __init__(
        self, report: VerifyReport, hooks: Hooks, count: int, results: dict[int, ModelResult]
    ) -> None:
        self._report = report
        self._hooks = hooks
        self._count = count
        self._results: dict[int, ModelResult] = {}
        self._known = results

    @property
    def report(self) -> VerifyReport:
        """The report on the models done so far."""
        return replace(self._report, models=tuple(self._results[number] for number in sorted(self._results)))

    def begun(self, result: ModelResult) -> None:
        self._hooks.begun(result, len(self._results), self._report, self._count)

    def ended(self, number: int, result: ModelResult) -> None:
        self._results[number] = result
        self._hooks.ended(number, result, self._report, self._count)

    def prove(self, waiting: Sequence[int], jobs: int, prover: _Prover, early: Session | None) -> None:
        """Run the models with these numbers; those that are timed each in a process that has run nothing else."""
        timed = any(request.bench for request in prover.requests.values())
        threads = max(1, processors() // jobs) if jobs > 1 else None
        several = len(waiting) > jobs and not timed
        twins = Twins(early if several else None, jobs - 1)
        loaders = [
            Loaders(
                several=several,
                threads=threads,
                early=None if number else early,
                twins=twins,
                meanwhile=self._hooks.meanwhile if jobs == 1 else lambda: None,
            )
            for number in range(jobs)
        ]
        references = prover.references(waiting)
        for reference, kinds in references.items():
            reference.prepare(kinds, threads)
        outcomes = in_turn(
            len(waiting),
            jobs,
            loaders,
            lambda turn, own: prover.prove(waiting[turn], own),
            lambda turn: self.begun(prover.found[waiting[turn]]),
            (twins, *references),
            self._hooks.meanwhile,
        )
        with contextlib.closing(outcomes):
            for turn, result in outcomes:
                self.ended(waiting[turn], result)

    def follow(
        self, waiting: Mapping[int, ModelTask], found: Mapping[int, ModelResult], dispatch: Dispatch
    ) -> None:
        """Have models run elsewhere."""
        for number, result in dispatch.results(waiting, found, lambda number: self.begun(found[number])):
            self.ended(number, _attributed(result, waiting[number]))


class _Prover(NamedTuple):
    """Everything that verifying one of the models needs."""

    tasks: Sequence[ModelTask]
    found: Mapping[int, ModelResult]  # what the files are
    requests: Mapping[VerifyOptions, Request]
    libtorch: Libtorch
    commands: Mapping[str, LoaderCommand]  # of each program
    plans: Mapping[str, LinkPlan]
    hooks: Hooks

    def references(self, waiting: Sequence[int]) -> dict[ReferenceRun, set[str]]:
        """The runs that the models are compared with, and the kinds of those models."""
        found: dict[ReferenceRun, set[str]] = {}
        for number in waiting:
            reference = self.requests[self.tasks[number].options].against
            if reference is not None:
                found.setdefault(reference, set()).add(self.found[number].kind)
        return found

    def prove(self, number: int, loaders: Loaders) -> ModelResult:
        """Run a model; any error is in the result."""
        found, request = self.found[number], self.requests[self.tasks[number].options]
        program = program_of(found.kind)
        result = run_one(loaders, self.commands[program], found, request, self.libtorch, self.plans[program])
        return _attributed(result, self.tasks[number])


def _attributed(result: ModelResult, task: ModelTask) -> ModelResult:
    """A result whose error, if it is about an option, names the settings that have given it options."""
    if isinstance(result.error, (UsageError, DeviceError)) and task.given not in (None, task.options):
        attribute(result.error, task.settings)
    return result


def _reference(options: VerifyOptions, libtorch: Libtorch, hooks: Hooks) -> ReferenceRun | None:
    """The other run to compare the models with."""
    if options.against is None:
        return None
    from torchlink.verify.comparing.references import reference_for

    def build(other: Libtorch, kind: str) -> tuple[Path, Sequence[str]]:
        program = program_of(kind)
        plan, tool = link_plan(other, options, program)
        emulator = emulator_of(other, tool)
        return build_program(plan, tool, "cxx", hooks, program).path, emulator.command if emulator else ()

    return reference_for(options.against, libtorch, build, options.env)


def requests_of(
    tasks: Sequence[ModelTask], libtorch: Libtorch, hooks: Hooks
) -> tuple[dict[VerifyOptions, Request], list[ReferenceRun]]:
    """The requests for the models, by their options, and the runs that they are compared with.

    Raises:
        TorchlinkError: as `_request`, and as `reference_for`.
    """
    requests: dict[VerifyOptions, Request] = {}
    references: dict[tuple[str | None, tuple[str, ...]], ReferenceRun | None] = {}
    for task in tasks:
        if task.options not in requests:
            other = (task.options.against, task.options.env)
            if other not in references:
                references[other] = _reference(task.options, libtorch, hooks)
            try:
                requests[task.options] = _request(task.options, libtorch, references[other])
            except TorchlinkError as error:
                if not _is_of_command(error, task, libtorch):
                    attribute(error, task.settings)
                raise
    return requests, [each for each in references.values() if each]


def _is_of_command(error: TorchlinkError, task: ModelTask, libtorch: Libtorch) -> bool:
    """Whether the options without those of the settings have the same error."""
    try:
        _request(task.given or task.options, libtorch, None)
    except TorchlinkError as other:
        return other.message == error.message
    return False


def _request(options: VerifyOptions, libtorch: Libtorch, reference: ReferenceRun | None) -> Request:
    """The request for models with these options.

    Raises:
        UsageError: an option has an invalid value, or an input cannot be read.
        FileError: `expect` or a library cannot be read.
        DeviceError: CUDA is requested, but libtorch was built without it.
    """
    check_options(options, libtorch)
    check_values(options)
    return Request(
        options.device,
        read_given(options.inputs, options.inputs_file),
        _expected(options.expect),
        Tolerances(options.atol, options.rtol),
        reference,
        options.record,
        options.golden,
        options.force,
        options.libraries,
        options.timeout,
        options.verbose,
        options.method,
        options.save_outputs,
        options.model,
        options.memory_limit,
        bench_request(options.bench),
        minimal_environment(options.env) if options.bench.bench else None,
    )


def _tiny(libtorch: Libtorch) -> Path:
    """The bundled model, in a file format that this libtorch reads."""
    return (
        data_dir("templates") / "loader" / ("tiny-1.1.pt" if is_before(libtorch, OLD_FORMAT) else "tiny.pt")
    )


def look(path: Path, libtorch: Libtorch, options: VerifyOptions) -> ModelResult:
    """The kind of a file, with the error if it is not a model that a loader can load."""
    kind = "unreadable"
    try:
        model = identify(path)
        kind = model.kind
        refused = refusal(model)
        if refused is not None:
            raise refused
        if kind in COMPILED:
            from torchlink.verify.aoti.running import check_compiled

            check_compiled(path, kind, options.model, libtorch, options.device)
        return ModelResult(str(path), kind, None, None)
    except ResourcesError:
        raise
    except TorchlinkError as error:
        return ModelResult(str(path), kind, None, error, stage="read")


def _expected(file: Path | None) -> Expectation | None:
    if file is None:
        return None
    from torchlink.verify.comparing.expected import read_expectation

    return read_expectation(file)
