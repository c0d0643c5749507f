"""From the common options to a libtorch and a plan. Knows nothing of typer, so that a start can do without it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from torchlink.cli.output import note

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch
    from torchlink.plan import LinkPlan, PlanOptions


def locate(libtorch: Path | None, python: str | None) -> Libtorch:
    """The libtorch that the common options choose.

    Raises:
        LibtorchNotFoundError: nothing usable; the details list where torchlink looked.
        LibtorchUnusableError: the one that was named cannot serve.
    """
    from torchlink.libtorch.choose import choose

    return choose(libtorch=libtorch, python=python)


def plan_for(libtorch: Libtorch, options: PlanOptions, compiler: str | None) -> LinkPlan:
    """The plan for a compiler command, or for the default compiler where that can serve at all.

    Raises:
        ToolMissingError: the compiler that was named, here or by `$CXX`, is not there.
        ToolUnfitError: it cannot build against this libtorch.
        LibtorchUnusableError: libtorch cannot be linked.
    """
    from torchlink.plan import make_plan
    from torchlink.toolchain.compiler import find_compiler
    from torchlink.toolchain.cross import default_compiler

    found = find_compiler(compiler) if compiler else default_compiler(libtorch)
    plan = make_plan(libtorch, options, found)
    named = os.environ.get("CXX", "").strip()
    return plan if found is not None or not named else plan._replace(ignored_compiler=named)


def say_notes(plan: LinkPlan) -> None:
    """What the user should know about a plan, on stderr."""
    from torchlink.remedies.notes import labelled_notes

    for each in labelled_notes(plan):
        note(each.sentence, label=each.label)
