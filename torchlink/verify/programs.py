"""The programs that run models, one for each format of models, and running a model in its program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.errors import LibtorchUnusableError

if TYPE_CHECKING:
    from torchlink.libtorch.facts import Libtorch
    from torchlink.plan import LinkPlan
    from torchlink.toolchain.types import Compiler
    from torchlink.verify.options import VerifyOptions
    from torchlink.verify.result import ModelResult, Request
    from torchlink.verify.session import Session

TORCHSCRIPT, AOTI = "torchscript", "aoti"  # of compilation.recipe.PROGRAMS
COMPILED = ("aoti-package", "aoti-library")  # kinds of files that AOTInductor has compiled
# A header of every libtorch that can run packages, from 2.6 on.
PACKAGES = "torch/csrc/inductor/aoti_package/model_package_loader.h"
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
    session: Session, found: ModelResult, request: Request, libtorch: Libtorch, plan: LinkPlan
) -> ModelResult:
    """Verify a model in a loader of its program; any error is in the result.

    Args:
        session: of that loader.
        found: the model's path and kind.
        request: what to do with it.
        libtorch: what the loader was built against.
        plan: how it was linked.
    """
    if found.kind not in COMPILED:
        from torchlink.verify.model_run import run_model

        return run_model(session, Path(found.path), found.kind, request, libtorch)
    from torchlink.verify.aoti.running import compiled_run
    from torchlink.verify.model_run import proved

    linked = [library.file for library in plan.libraries]
    with compiled_run(session, request, libtorch, found, linked) as run:
        return proved(run, Path(found.path))
