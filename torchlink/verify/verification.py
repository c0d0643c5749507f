"""`torchlink verify` as a function: build the reference loader, run it on every model, report."""

from __future__ import annotations

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
    ModelError,
    ResourcesError,
    TorchlinkError,
    UsageError,
)
from torchlink.libtorch.machine import is_foreign
from torchlink.model.kind import identify, require_torchscript
from torchlink.paths import data_dir
from torchlink.process import minimal_environment
from torchlink.status import file_kind, status_of
from torchlink.verify.options import DEFAULTS
from torchlink.verify.result import ModelResult, Request, VerifyReport
from torchlink.verify.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torchlink.compilation.loader import BuiltLoader
    from torchlink.libtorch.facts import Libtorch
    from torchlink.model.stored import StoredTensor
    from torchlink.plan import LinkPlan
    from torchlink.toolchain.emulator import Emulator
    from torchlink.toolchain.types import Compiler
    from torchlink.verify.options import VerifyOptions
    from torchlink.verify.specs import InputSpec


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
    # A model begins, or is done: it, the report so far, and how many models there are in all.
    begun: Callable[[ModelResult, VerifyReport, int], None] = lambda *_: None
    ended: Callable[[ModelResult, VerifyReport, int], None] = lambda *_: None
    noted: Callable[[Sequence[str]], None] = lambda _: None  # the plan's notes, before anything is built
    meanwhile: Callable[[], None] = lambda: None  # a loader is starting: time to import what is needed later
    early: Session | None = None  # started on speculation; serves the first model where it is the right one


def verify(
    models: Sequence[Path],
    libtorch: Libtorch,
    options: VerifyOptions = DEFAULTS,
    *,
    hooks: Hooks | None = None,
) -> VerifyReport:
    """Build the reference loader with the flags of the plan and prove models with it.

    Args:
        models: TorchScript files; the tiny model that torchlink carries where empty.
        libtorch: what to build against.
        options: how.
        hooks: what the caller wants to hear of while it runs.

    Raises:
        BuildFailedError: the loader does not compile or link.
        ToolMissingError: there is no C++ compiler, no CMake, no Nim; for a libtorch of another machine no QEMU, or a
            library of that machine is not here.
        ToolUnfitError: the compiler cannot build against this libtorch.
        LibtorchUnusableError: libtorch is for another machine or a newer system, not extracted, or older than the
            loader.
        DeviceError: CUDA is asked of a libtorch that was built without it.
        UsageError: an option has no such value, or an input cannot be read.
        FileError: `expect` or a library cannot be read, or the cache cannot be written.
        RunFailedError: the loader is not allowed to run where the cache is.
    """
    from torchlink.libtorch.floor import shortfall
    from torchlink.toolchain.directories import linked

    _check(options, models, libtorch)
    _check_values(options)
    minimal_environment(options.env)  # what is wrong with it is said before anything is compiled
    request = Request(
        options.device,
        _specs(options.inputs),
        _expected(options.expect),
        options.atol,
        options.rtol,
        options.libraries,
        options.timeout,
        options.verbose,
    )
    hooks = hooks or Hooks()
    plan, tool = _plan(libtorch, options)
    emulator = _emulator(libtorch, tool)
    short = shortfall(libtorch, linked(tool), thorough=True)
    if short is not None:
        raise short.error
    hooks.noted(plan.notes)
    looked_at = [_look(path) for path in models or (_tiny(libtorch),)]
    loader = early = None
    if not all(result.error for result in looked_at):  # else nothing runs: nobody has to wait for a compiler
        loader = _build(plan, tool, options.via, hooks)
        # One that was started before it was rebuilt, in the same place, is not this one.
        right = (
            hooks.early is not None and not emulator and loader.cached and hooks.early.loader == loader.path
        )
        early = hooks.early if right else None
    command = emulator.command if emulator else ()
    report = VerifyReport(libtorch, loader, options.via, (), *((emulator, tool.name) if loader else ()))
    for result in looked_at:
        proved = result
        if loader is not None and result.error is None:
            hooks.begun(result, report, len(looked_at))
            # One process a model: what a model leaves behind must neither help nor harm the next one.
            session = early or Session(loader.path, options.env, command)
            proved = _prove(result, request, libtorch, hooks, session)
            early = None
        report = replace(report, models=(*report.models, proved))
        hooks.ended(proved, report, len(looked_at))
    return report


def _check(options: VerifyOptions, models: Sequence[Path], libtorch: Libtorch) -> None:
    """Refuse what makes no sense before anything is built."""
    if options.device not in DEVICES:
        raise UsageError(f"--device {options.device} is not known.", hint=f"Use one of {', '.join(DEVICES)}.")
    if options.via not in WAYS:
        raise UsageError(f"--via {options.via} is not known.", hint=f"Use one of {', '.join(WAYS)}.")
    if options.expect and len(models) > 1:
        raise UsageError("--expect goes with one model.", hint="Verify each model by itself.")
    if options.device == "cuda" and libtorch.accelerator not in ("cuda", "rocm"):
        raise DeviceError(
            f"--device cuda needs a CUDA build, and the libtorch {libtorch.version or ''} of {libtorch.root} "
            f"is a {libtorch.accelerator.upper()} build.",
            hint="Name another libtorch with --libtorch, or say --device cpu.",
        )
    if options.device == "cuda" and options.plan.cpu_only:
        raise UsageError("--cpu leaves CUDA out of the program.", hint="Leave --cpu or --device cuda away.")


def _check_values(options: VerifyOptions) -> None:
    """Refuse numbers out of their range or not finite, and operator libraries that are not there."""
    for option, tolerance in (("--atol", options.atol), ("--rtol", options.rtol)):
        if not 0 <= tolerance < inf:
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


def _plan(libtorch: Libtorch, options: VerifyOptions) -> tuple[LinkPlan, Compiler]:
    from torchlink.plan import make_plan
    from torchlink.toolchain.cross import compiler_for

    compiler = compiler_for(libtorch, options.compiler)
    return make_plan(libtorch, options.plan, compiler), compiler


def _emulator(libtorch: Libtorch, compiler: Compiler) -> Emulator | None:
    """What runs the loader where it is for another machine."""
    if not is_foreign(libtorch):
        return None
    from torchlink.toolchain.emulator import emulator_for

    return emulator_for(libtorch, compiler)


def _build(plan: LinkPlan, compiler: Compiler, via: str, hooks: Hooks) -> BuiltLoader:
    from torchlink.compilation.loader import build_loader
    from torchlink.libtorch.floor import glibc_conflict
    from torchlink.libtorch.remedies import DEBIAN, is_debians, remedy_for
    from torchlink.plan import missing_of

    def say() -> None:
        hooks.compiling(f"compiling the reference loader with {compiler.name} (about 10 s, once)")

    try:
        built = build_loader(plan, compiler, via, say)
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
    if built.remark:
        hooks.noted((built.remark,))
    return built


def _tiny(libtorch: Libtorch) -> Path:
    """The model that torchlink carries, in a file format that this libtorch reads."""
    return (
        data_dir("templates") / "loader" / ("tiny-1.1.pt" if _is_before(libtorch, OLD_FORMAT) else "tiny.pt")
    )


def _is_before(libtorch: Libtorch, limit: tuple[int, int]) -> bool:
    from torchlink.libtorch.version import release

    number = release(libtorch.version) if libtorch.version else None
    return number is not None and number < limit


def _look(path: Path) -> ModelResult:
    """What a file is, with the error where it is no model that the loader can load."""
    try:
        return ModelResult(str(path), require_torchscript(path).kind, None, None)
    except ModelError as error:
        return ModelResult(str(path), identify(path).kind, None, error)
    except ResourcesError:
        raise
    except TorchlinkError as error:
        return ModelResult(str(path), "unreadable", None, error)


def _prove(
    found: ModelResult, request: Request, libtorch: Libtorch, hooks: Hooks, session: Session
) -> ModelResult:
    # The process maps libtorch's libraries while this one imports what it will need.
    with session:
        from torchlink.verify.model_run import run_model

        hooks.meanwhile()
        return run_model(session, Path(found.path), found.kind, request, libtorch)


def _specs(inputs: Sequence[str] | None) -> tuple[InputSpec, ...] | None:
    if inputs is None:
        return None
    from torchlink.verify.inputs import parse_input

    return tuple(parse_input(text) for text in inputs)


def _expected(file: Path | None) -> tuple[StoredTensor, ...] | None:
    if file is None:
        return None
    from torchlink.model.tensors import read_expected

    return read_expected(file)
