"""`torchlink verify` as a function: build the reference loader, run it on every model, report."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from math import inf
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import (
    BuildFailedError,
    DeviceError,
    FileError,
    LibtorchUnusableError,
    ResourcesError,
    TorchlinkError,
    UsageError,
)
from torchlink.libtorch.machine import is_foreign
from torchlink.model.kind import identify, require_model
from torchlink.paths import data_dir
from torchlink.process import minimal_environment
from torchlink.status import file_kind, status_of
from torchlink.verify.comparing.tolerances import Tolerances
from torchlink.verify.given import read_given
from torchlink.verify.options import DEFAULTS
from torchlink.verify.programs import COMPILED, NAMES, TORCHSCRIPT, plan_for, program_of, run_one
from torchlink.verify.result import ModelResult, Request, VerifyReport
from torchlink.verify.scheduling import Command, Loaders, in_turn, jobs_for, processors
from torchlink.verify.tasks import ModelTask, gather

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torchlink.compilation.loader import BuiltLoader
    from torchlink.libtorch.facts import Libtorch
    from torchlink.plan import LinkPlan
    from torchlink.toolchain.emulator import Emulator
    from torchlink.toolchain.types import Compiler
    from torchlink.verify.comparing.expected import Expectation
    from torchlink.verify.comparing.references import Reference
    from torchlink.verify.options import VerifyOptions
    from torchlink.verify.result import Shard
    from torchlink.verify.session import Session


DEVICES = ("cpu", "cuda", "auto")
LONGEST = 1e6  # seconds: timers take no more everywhere
WAYS = ("cxx", "cmake", "nim")
# Headers of other Debian packages that libtorch's own include there, in gcc's words and in clang's.
MISSING_HEADER = re.compile(r"\b(gflags|glog|google)/[^\n]*(No such file|file not found)")
OLDEST = (1, 1)  # that the reference loader is written for
OLD_FORMAT = (1, 11)  # before it the tiny model is one in 1.1's format, which no later libtorch reads


class Hooks(NamedTuple):
    """What a caller of `verify` wants to hear of while it runs."""

    compiling: Callable[[str], None] = lambda _: None  # the loader begins to be compiled: a sentence
    # A model begins: it, how many are done, the report without models, and how many models there are in all.
    begun: Callable[[ModelResult, int, VerifyReport, int], None] = lambda *_: None
    # A model is done: its number, what came out, and as above.
    ended: Callable[[int, ModelResult, VerifyReport, int], None] = lambda *_: None
    interrupted: Callable[[VerifyReport], None] = lambda _: None  # before all were done: what was
    noted: Callable[[Sequence[str]], None] = lambda _: None  # the plan's notes, before anything is built
    meanwhile: Callable[[], None] = lambda: None  # a loader is starting: time to import what is needed later
    early: Session | None = None  # started on speculation; serves the first model where it is the right one


def verify(
    models: Sequence[Path],
    libtorch: Libtorch,
    options: VerifyOptions = DEFAULTS,
    *,
    hooks: Hooks | None = None,
    jobs: int | None = None,
) -> VerifyReport:
    """Build the reference loader with the flags of the plan and prove models with it.

    Args:
        models: TorchScript files, directories of them, globs; the tiny model that torchlink carries where empty.
        libtorch: what to build against.
        options: how.
        hooks: what the caller wants to hear of while it runs.
        jobs: how many models at once; None: as many as processors and memory allow.

    Raises:
        BuildFailedError: the loader does not compile or link.
        ToolMissingError: there is no C++ compiler, no CMake, no Nim; for a libtorch of another machine no QEMU, or a
            library of that machine is not here.
        ToolUnfitError: the compiler cannot build against this libtorch.
        LibtorchUnusableError: libtorch is for another machine or a newer system, not extracted, or older than the
            loader.
        DeviceError: CUDA is asked of a libtorch that was built without it.
        UsageError: an option has no such value, or an input cannot be read.
        LibtorchNotFoundError: `against` names a directory without a libtorch.
        FileError: `expect` or a library cannot be read, a directory holds no model, or the cache cannot be written.
        RunFailedError: the loader is not allowed to run where the cache is.
    """
    tasks = gather(models, options) if models else [bundled(libtorch, options)]
    return verify_tasks(tasks, libtorch, options, hooks=hooks, jobs=jobs)


def bundled(libtorch: Libtorch, options: VerifyOptions) -> ModelTask:
    """The task for the model that torchlink carries."""
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
) -> VerifyReport:
    """As `verify`, of models that may have options of their own.

    Args:
        tasks: the models; of their options those that concern the building of the loader do not count.
        libtorch: what to build against.
        options: with which the loader is built.
        hooks: what the caller wants to hear of while it runs.
        jobs: how many models at once; None: as many as processors and memory allow.
        known: results that an earlier run has brought, by the numbers of their tasks.
        shard: which of all models these are.

    Raises:
        TorchlinkError: as `verify`.
        KeyboardInterrupt: it was interrupted, after `hooks` has heard of what was done.
    """
    from torchlink.libtorch.floor import shortfall
    from torchlink.toolchain.directories import linked

    _check_building(options)
    _check_alone(tasks, options)
    hooks = hooks or Hooks()
    references = _References(libtorch, hooks)
    requests: dict[VerifyOptions, Request] = {}
    for task in tasks:
        if task.options not in requests:
            requests[task.options] = _request(task.options, libtorch, references)
    workers = jobs_for(
        jobs, len(tasks), max((request.device for request in requests.values()), default="cpu")
    )
    minimal_environment(options.env)  # what is wrong with it is said before anything is compiled
    plan, tool = _plan(libtorch, options)
    emulator = _emulator(libtorch, tool)
    short = shortfall(libtorch, linked(tool), thorough=True)
    if short is not None:
        raise short.error
    hooks.noted(plan.notes)
    results: dict[int, ModelResult] = dict(known or {})
    looked_at = {
        number: ModelResult(task.path, "torchscript", None, None, skipped=task.skip)
        if task.skip
        else _look(Path(task.path), libtorch, task.options)
        for number, task in enumerate(tasks)
        if number not in results
    }
    waiting = [number for number, result in looked_at.items() if not (result.error or result.skipped)]
    # Where none is waiting nothing runs: nobody has to wait for a compiler.
    wanted = sorted({program_of(looked_at[number].kind) for number in waiting}, reverse=True)
    plans = {
        program: plan if program == TORCHSCRIPT else plan_for(program, libtorch, options, tool)
        for program in wanted
    }
    built = {program: _build(plans[program], tool, options.via, hooks, program) for program in wanted}
    loader = next(iter(built.values()), None)
    early = None
    if hooks.early is not None and not emulator:
        # One that was started before it was rebuilt, in the same place, is not this one.
        right = any(each.cached and hooks.early.loader == each.path for each in built.values())
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
    try:
        for number in range(len(tasks)):
            if number not in waiting:
                progress.ended(number, results.get(number) or looked_at[number])
        if built:
            commands = {
                program: Command(
                    each.path,
                    options.env,
                    tuple(emulator.command) if emulator else (),
                    None if emulator else data_dir("templates") / "loader" / "warm.pt",
                )
                for program, each in built.items()
            }
            prover = _Prover(tasks, looked_at, requests, libtorch, commands, plans, hooks)
            with contextlib.closing(references):
                references.prepare({looked_at[number].kind for number in waiting})
                progress.prove(waiting, min(workers, len(waiting)), prover, early)
    except KeyboardInterrupt:
        hooks.interrupted(replace(progress.report, interrupted=True))
        raise
    return progress.report


class _Progress:
    """What is done of all models, in their order."""

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
        """The report on what is done."""
        return replace(self._report, models=tuple(self._results[number] for number in sorted(self._results)))

    def begun(self, result: ModelResult) -> None:
        self._hooks.begun(result, len(self._results), self._report, self._count)

    def ended(self, number: int, result: ModelResult) -> None:
        self._results[number] = result
        self._hooks.ended(number, result, self._report, self._count)

    def prove(self, waiting: Sequence[int], jobs: int, prover: _Prover, early: Session | None) -> None:
        """Run the models with these numbers."""
        threads = max(1, processors() // jobs) if jobs > 1 else None
        loaders = [
            Loaders(several=len(waiting) > jobs, threads=threads, early=None if number else early)
            for number in range(jobs)
        ]
        outcomes = in_turn(
            len(waiting),
            jobs,
            loaders,
            lambda turn, own: prover.prove(waiting[turn], own),
            lambda turn: self.begun(prover.found[waiting[turn]]),
        )
        with contextlib.closing(outcomes):
            for turn, result in outcomes:
                self.ended(waiting[turn], result)


class _Prover(NamedTuple):
    """What proves a model needs to know."""

    tasks: Sequence[ModelTask]
    found: Mapping[int, ModelResult]  # what the files are
    requests: Mapping[VerifyOptions, Request]
    libtorch: Libtorch
    commands: Mapping[str, Command]  # by program
    plans: Mapping[str, LinkPlan]
    hooks: Hooks

    def prove(self, number: int, loaders: Loaders) -> ModelResult:
        """Run a model; whatever goes wrong with it is in the result."""
        found, request = self.found[number], self.requests[self.tasks[number].options]
        program = program_of(found.kind)
        session = loaders.session(self.commands[program])
        # The process maps libtorch's libraries while this one imports what it will need.
        self.hooks.meanwhile()
        result = run_one(session, found, request, self.libtorch, self.plans[program])
        loaders.done(self.commands[program])
        return result


class _References:
    """What models are run by besides, to be compared with: one for each `--against`."""

    def __init__(self, libtorch: Libtorch, hooks: Hooks) -> None:
        self._libtorch = libtorch
        self._hooks = hooks
        self._known: dict[tuple[str, tuple[str, ...]], Reference] = {}

    def of(self, options: VerifyOptions) -> Reference | None:
        """The one that these options ask for.

        Raises:
            TorchlinkError: as `reference_for`.
        """
        if options.against is None:
            return None
        from torchlink.verify.comparing.references import reference_for

        def build(other: Libtorch, kind: str) -> tuple[Path, Sequence[str]]:
            program = program_of(kind)
            plan, tool = _plan(other, options, program)
            emulator = _emulator(other, tool)
            return _build(plan, tool, "cxx", self._hooks, program).path, emulator.command if emulator else ()

        key = (options.against, options.env)
        if key not in self._known:
            self._known[key] = reference_for(options.against, self._libtorch, build, options.env)
        return self._known[key]

    def prepare(self, kinds: set[str]) -> None:
        """See that all can serve models of these kinds."""
        for reference in self._known.values():
            reference.prepare(kinds)

    def close(self) -> None:
        """End their processes."""
        for reference in self._known.values():
            reference.close()


def _request(options: VerifyOptions, libtorch: Libtorch, references: _References) -> Request:
    """What is asked of the models with these options.

    Raises:
        UsageError: an option has no such value, or an input cannot be read.
        FileError: `expect` or a library cannot be read.
        DeviceError: CUDA is asked of a libtorch that was built without it.
    """
    _check(options, libtorch)
    _check_values(options)
    return Request(
        device=options.device,
        inputs=read_given(options.inputs, options.inputs_file),
        expected=_expected(options.expect),
        tolerances=Tolerances(options.atol, options.rtol),
        against=references.of(options),
        record=options.record,
        golden=options.golden,
        force=options.force,
        libraries=options.libraries,
        timeout=options.timeout,
        verbose=options.verbose,
        method=options.method,
        save_outputs=options.save_outputs,
        model=options.model,
        memory_limit=options.memory_limit,
    )


def _check_alone(tasks: Sequence[ModelTask], options: VerifyOptions) -> None:
    """Refuse what goes with one model only where there are several."""
    of_command = sum(task.options.expect == options.expect for task in tasks)
    if options.expect and of_command > 1:
        raise UsageError("--expect goes with one model.", hint="Verify each model by itself.")
    if options.save_outputs:
        from torchlink.verify.saving import check_place

        check_place(options.save_outputs, [Path(task.path) for task in tasks], force=options.force)


def _check_building(options: VerifyOptions) -> None:
    if options.via not in WAYS:
        raise UsageError(f"--via {options.via} is not known.", hint=f"Use one of {', '.join(WAYS)}.")


def _check(options: VerifyOptions, libtorch: Libtorch) -> None:
    """Refuse what makes no sense before anything is built."""
    if options.device not in DEVICES:
        raise UsageError(f"--device {options.device} is not known.", hint=f"Use one of {', '.join(DEVICES)}.")
    if options.golden and (options.against or options.record):
        other = "--against" if options.against else "--record"
        raise UsageError(f"--golden and {other} exclude each other.", hint="Run verify twice.")
    for option in ("device", "against"):
        _check_cuda(option, getattr(options, option), options, libtorch)


def _check_cuda(option: str, named: str | None, options: VerifyOptions, libtorch: Libtorch) -> None:
    """Refuse CUDA where libtorch or the program is without it."""
    if named != "cuda":
        return
    if libtorch.accelerator not in ("cuda", "rocm"):
        raise DeviceError(
            f"--{option} cuda needs a CUDA build, and the libtorch {libtorch.version or ''} of {libtorch.root} "
            f"is a {libtorch.accelerator.upper()} build.",
            hint="Name another libtorch with --libtorch"
            + (", or say --device cpu." if option == "device" else "."),
        )
    if options.plan.cpu_only:
        raise UsageError(
            "--cpu leaves CUDA out of the program.", hint=f"Leave --cpu or --{option} cuda away."
        )


def _check_values(options: VerifyOptions) -> None:
    """Refuse numbers out of their range or not finite, and operator libraries that are not there."""
    for option, tolerance in (("--atol", options.atol), ("--rtol", options.rtol)):
        if tolerance is not None and not 0 <= tolerance < inf:
            raise UsageError(
                f"{option} {tolerance:g} is not a tolerance.", hint="Give 0 or a positive number."
            )
    for library in options.libraries:
        _check_library(library)
    if options.timeout is not None and not 0 < options.timeout <= LONGEST:
        raise UsageError(
            f"--timeout {options.timeout:g} is not a time above 0 seconds.",
            hint="Say seconds, such as 60 or 0.5.",
        )


def _check_library(library: Path) -> None:
    """Refuse what the dynamic loader would wait for or refuse: what is no regular file, or holds nothing to load."""
    hint = "Give --library a shared library of operators."
    status = status_of(library)
    if status is None:
        raise FileError(f"{library}: no such file.", hint=hint)
    if not S_ISREG(status.st_mode):
        raise FileError(f"{library}: not a regular file (it is {file_kind(status.st_mode)}).", hint=hint)
    if status.st_size == 0:  # such as /proc/kmsg, which is read without an end
        raise FileError(f"{library}: empty.", hint=hint)


def _plan(
    libtorch: Libtorch, options: VerifyOptions, program: str = TORCHSCRIPT
) -> tuple[LinkPlan, Compiler]:
    from torchlink.toolchain.cross import compiler_for

    compiler = compiler_for(libtorch, options.compiler)
    return plan_for(program, libtorch, options, compiler), compiler


def _emulator(libtorch: Libtorch, compiler: Compiler) -> Emulator | None:
    """What runs the loader where it is for another machine."""
    if not is_foreign(libtorch):
        return None
    from torchlink.toolchain.emulator import emulator_for

    return emulator_for(libtorch, compiler)


def _build(
    plan: LinkPlan, compiler: Compiler, via: str, hooks: Hooks, program: str = TORCHSCRIPT
) -> BuiltLoader:
    from torchlink.compilation.loader import build_loader
    from torchlink.libtorch.floor import glibc_conflict
    from torchlink.libtorch.remedies import DEBIAN, is_debians, remedy_for
    from torchlink.plan import missing_of

    def say() -> None:
        hooks.compiling(f"compiling {NAMES[program]} with {compiler.name} (about 10 s, once)")

    try:
        return build_loader(plan, compiler, via, say, program)
    except BuildFailedError as error:
        if _is_before(plan.libtorch, OLDEST):
            raise LibtorchUnusableError(
                f"The reference loader needs libtorch 1.1 or newer, and the one of {plan.libtorch.root} is "
                f"{plan.libtorch.version}.",
                hint="The flags of `torchlink flags` hold for older ones too: build a program of your own.",
            ) from error
        conflict = glibc_conflict(plan.libtorch)
        if conflict:
            error.hint = f"{conflict}."
            raise
        # The linkers that look into libtorch's libraries refuse what those cannot find. One command brings all,
        # that of the plan's note.
        lacking = missing_of(plan.libraries, plan.libtorch)
        if lacking and not plan.options.cpu_only:
            lacking = plan.libtorch.missing_libraries
        remedy = remedy_for(plan.libtorch, lacking).text
        if not remedy and is_debians(plan.libtorch) and MISSING_HEADER.search("\n".join(error.details)):
            remedy = DEBIAN
        if remedy:
            error.hint = f"Get what libtorch's libraries need: {remedy}"
        raise


def _tiny(libtorch: Libtorch) -> Path:
    """The model that torchlink carries, in a file format that this libtorch reads."""
    return (
        data_dir("templates") / "loader" / ("tiny-1.1.pt" if _is_before(libtorch, OLD_FORMAT) else "tiny.pt")
    )


def _is_before(libtorch: Libtorch, limit: tuple[int, int]) -> bool:
    from torchlink.libtorch.version import release

    number = release(libtorch.version) if libtorch.version else None
    return number is not None and number < limit


def _look(path: Path, libtorch: Libtorch, options: VerifyOptions) -> ModelResult:
    """What a file is, with the error where it is no model that a loader can load."""
    kind = "unreadable"
    try:
        kind = identify(path).kind
        require_model(path)
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
