"""Turn the options that commands share into a libtorch and a link plan."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from torchlink.cli.output import note

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch
    from torchlink.plan import LinkPlan, PlanOptions


def locate(libtorch: Path | None, python: str | None) -> Libtorch:
    """Return the libtorch that --libtorch and --python select, or the default one.

    Raises:
        LibtorchNotFoundError: none that can be used was found; the details list where torchlink looked.
        LibtorchUnusableError: the one that was named cannot be used.
    """
    from torchlink.libtorch.choose import choose

    return choose(libtorch=libtorch, python=python)


def interpreter(python: str | None) -> str | None:
    """Return the interpreter that --python names: also by an environment's directory, or as pip's own."""
    from torchlink.libtorch.disk import is_dir
    from torchlink.libtorch.places import FRONT_END

    if python == FRONT_END:
        from torchlink.libtorch.frontend import outer_environment

        return str(outer_environment().python)
    if python is not None and is_dir(python):
        from torchlink.libtorch.interpreter import environment_of

        return str(environment_of(python).python or python)
    return python


def plan_for(libtorch: Libtorch, options: PlanOptions, compiler: str | None) -> LinkPlan:
    """Return the plan for a compiler command, or for the default compiler if it can build for this libtorch.

    Raises:
        ToolMissingError: the compiler that was named, by the option or by `$CXX`, does not exist.
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


def print_notes(plan: LinkPlan) -> None:
    """Print a plan's notes and warnings on stderr."""
    from torchlink.remedies.notes import labelled_notes

    for each in labelled_notes(plan):
        note(each.sentence, label=each.label)
