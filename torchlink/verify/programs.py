"""The programs that run models, one for each format of models, and running a model in its program."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.errors import LibtorchUnusableError

if TYPE_CHECKING:
    from torchlink.libtorch.facts import Libtorch
    from torchlink.plan import LinkPlan
    from torchlink.toolchain.types import Compiler
    from torchlink.verify.options import VerifyOptions
    from torchlink.verify.result import ModelResult, Request
    from torchlink.verify.scheduling import LoaderCommand, Loaders
    from torchlink.verify.session import Session

TORCHSCRIPT, AOTI = "torchscript", "aoti"  # of compilation.recipe.PROGRAMS
COMPILED = ("aoti-package", "aoti-library")  # kinds of files that AOTInductor has compiled
# A header of every libtorch that can run packages, from 2.6 on.
PACKAGES = "torch/csrc/inductor/aoti_package/model_package_loader.h"
SMALL = 1 << 20  # bytes of a model's file
NAMES = {TORCHSCRIPT: "the reference loader", AOTI: "the reference loader for AOTInductor packages"}


def program_of(kind: str) -> str:
    """The program that runs a model of this kind."""
    return AOTI if kind in COMPILED else TORCHSCRIPT


def plan_for(program: str, libtorch: Libtorch, options: VerifyOptions, compiler: Compiler) -> LinkPlan:
    """The link plan of the program.

    Raises:
        LibtorchUnusableError: this libtorch cannot run AOTInductor packages.
    """
    from torchlink.plan import make_plan

    if program == AOTI and not any((directory / PACKAGES).is_file() for directory in libtorch.include_dirs):
        raise LibtorchUnusableError(
            f"The libtorch {libtorch.version or ''} in {libtorch.root} has no loader for AOTInductor packages: "
            f"its headers lack {PACKAGES}.",
            hint="Name a libtorch 2.6 or newer with --libtorch.",
        )
    return make_plan(libtorch, options.plan._replace(aoti=program == AOTI), compiler)


def run_one(
    loaders: Loaders,
    command: LoaderCommand,
    found: ModelResult,
    request: Request,
    libtorch: Libtorch,
    plan: LinkPlan,
) -> ModelResult:
    """Verify a model in a loader of its program; any error is in the result.

    A small model may be run in a process that has run others. Where it fails there, or takes so much memory that theirs
    may be in the figure, it is run again in a process of its own, and only that counts.

    Args:
        loaders: those of this worker.
        command: the command of that program.
        found: the model's path and kind.
        request: what to do with it.
        libtorch: what the loader was built against.
        plan: how it was linked.
    """
    session = loaders.session(command, shared=request.may_share and _is_small(found))
    result = _run(session, found, request, libtorch, plan)
    if session.reused and (result.error is not None or session.is_too_much(result.peak_rss_mb)):
        first = result
        result = _run(loaders.session(command), found, request, libtorch, plan)
        result = replace(result, seconds=round((first.seconds or 0) + (result.seconds or 0), 3))
        if first.error is not None and result.error is None:
            result = replace(result, failed_first=first.error.message)
    loaders.done(command)
    return result


def _is_small(found: ModelResult) -> bool:
    try:
        return found.kind not in COMPILED and Path(found.path).stat().st_size <= SMALL
    except OSError:  # whoever loads it says so
        return False


def _run(
    session: Session, found: ModelResult, request: Request, libtorch: Libtorch, plan: LinkPlan
) -> ModelResult:
    if found.kind not in COMPILED:
        from torchlink.verify.model_run import run_model

        return run_model(session, Path(found.path), found.kind, request, libtorch)
    from torchlink.verify.aoti.running import compiled_run
    from torchlink.verify.model_run import proved

    linked = [library.file for library in plan.libraries]
    with compiled_run(session, request, libtorch, found, linked) as run:
        return proved(run, Path(found.path))
