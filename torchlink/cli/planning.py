"""From the common options to a libtorch and a plan. Knows nothing of typer, so that a start can do without it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from torchlink.cli.output import note

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch
    from torchlink.plan import LinkPlan, Wishes


def cxx_standard(text: str | int) -> int:
    """The number of a C++ standard as people and compilers write it: 20, c++20, gnu++20, c++2a.

    Raises:
        ValueError: it is not one.
    """
    name = str(text).lower()
    extended = name.startswith("gnu++")
    name = name.removeprefix("gnu++" if extended else "c++")
    from torchlink.toolchain.arguments import STANDARD_NAMES

    if not name.isdecimal() and name not in STANDARD_NAMES:
        raise ValueError(f"{text} is not a C++ standard: write 17, 20, 23 or c++17, c++20, c++23.")
    if extended:
        note(
            f"--std {text} is taken as c++{name}: for GNU's extensions put -std={text} behind the printed flags, "
            "the last one counts."
        )
    return int(name) if name.isdecimal() else STANDARD_NAMES[name]


def locate(libtorch: Path | None, python: str | None) -> Libtorch:
    """The libtorch that the common options choose.

    Raises:
        LibtorchNotFoundError: nothing usable; the details list where torchlink looked.
        LibtorchUnusableError: the one that was named cannot serve.
    """
    from torchlink.libtorch.choose import choose

    return choose(libtorch=libtorch, python=python)


def plan_for(libtorch: Libtorch, wishes: Wishes, compiler: str | None) -> LinkPlan:
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
    plan = make_plan(libtorch, wishes, found)
    named = os.environ.get("CXX", "").strip()
    if found is not None or not named:
        return plan
    remark = (
        f"$CXX, {named}, compiles for another machine than {libtorch.platform} {libtorch.arch}, which "
        f"{libtorch.root} is built for: it cannot use these words."
    )
    return plan._replace(notes=(*plan.notes, remark))


def say_notes(plan: LinkPlan) -> None:
    """What the user should know about a plan, on stderr."""
    from torchlink.libtorch.floor import NEWER

    for each in plan.notes:
        note(each, label="warning" if f" {NEWER}: " in each else "note")
