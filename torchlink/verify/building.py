"""The loaders that a verification needs: how they are linked, built and started."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.errors import BuildFailedError, LibtorchUnusableError
from torchlink.libtorch.machine import is_foreign
from torchlink.paths import data_dir
from torchlink.verify.programs import NAMES, TORCHSCRIPT, plan_for
from torchlink.verify.sanity import check_building
from torchlink.verify.scheduling import LoaderCommand

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchlink.compilation.loader import BuiltLoader
    from torchlink.libtorch.facts import Libtorch
    from torchlink.plan import LinkPlan
    from torchlink.toolchain.emulator import Emulator
    from torchlink.toolchain.types import Compiler
    from torchlink.verify.options import VerifyOptions
    from torchlink.verify.verification import Hooks

# Headers of other Debian packages that libtorch's own include there, in gcc's wording and in clang's.
MISSING_HEADER = re.compile(r"\b(gflags|glog|google)/[^\n]*(No such file|file not found)")
OLDEST = (1, 1)  # the oldest that the reference loader supports


def command_of(loader: BuiltLoader, options: VerifyOptions, emulator: Emulator | None) -> LoaderCommand:
    """The command that starts a loader."""
    if emulator:
        return LoaderCommand(loader.path, options.env, tuple(emulator.command))
    return LoaderCommand(loader.path, options.env, warm=data_dir("templates") / "loader" / "warm.pt")


def link_plan(
    libtorch: Libtorch, options: VerifyOptions, program: str = TORCHSCRIPT
) -> tuple[LinkPlan, Compiler]:
    """How a program is linked, and the compiler that it is built with."""
    from torchlink.toolchain.cross import compiler_for

    compiler = compiler_for(libtorch, options.compiler)
    return plan_for(program, libtorch, options, compiler), compiler


def build_loaders(
    libtorch: Libtorch, options: VerifyOptions, programs: Sequence[str], hooks: Hooks
) -> dict[str, BuiltLoader]:
    """Build the loaders that a verification with these options would use; nothing is run.

    Args:
        libtorch: what to build against.
        options: of the building; the others do not count.
        programs: names of `compilation.recipe.PROGRAMS`.
        hooks: what the caller wants to hear of.

    Raises:
        TorchlinkError: as `verify`, where it concerns the building.
    """
    from torchlink.libtorch.floor import shortfall
    from torchlink.remedies.notes import notes_on
    from torchlink.toolchain.directories import linked

    check_building(options)
    plans = {program: link_plan(libtorch, options, program) for program in programs}
    for _, tool in plans.values():
        short = shortfall(libtorch, linked(tool), thorough=True)
        if short is not None:
            raise short.error
    hooks.noted(list(dict.fromkeys(note for plan, _ in plans.values() for note in notes_on(plan))))
    return {program: build_program(*plan, options.via, hooks, program) for program, plan in plans.items()}


def emulator_of(libtorch: Libtorch, compiler: Compiler) -> Emulator | None:
    """The emulator for a loader that is for another machine."""
    if not is_foreign(libtorch):
        return None
    from torchlink.toolchain.emulator import emulator_for

    return emulator_for(libtorch, compiler)


def build_program(
    plan: LinkPlan, compiler: Compiler, via: str, hooks: Hooks, program: str = TORCHSCRIPT
) -> BuiltLoader:
    """A program, from the cache where it is there.

    Raises:
        BuildFailedError: it does not compile or link, with what helps.
        LibtorchUnusableError: this libtorch is older than the reference loader.
    """
    from torchlink.compilation.loader import build_loader
    from torchlink.libtorch.floor import glibc_conflict
    from torchlink.plan import missing_of
    from torchlink.remedies.debian import DEBIAN, is_debians
    from torchlink.remedies.remedy import remedy_for

    def say() -> None:
        hooks.compiling(f"compiling {NAMES[program]} with {compiler.name} (about 10 s, once)")

    try:
        built = build_loader(plan, compiler, via, say, program)
    except BuildFailedError as error:
        if is_before(plan.libtorch, OLDEST):
            raise LibtorchUnusableError(
                f"The reference loader needs libtorch 1.1 or newer, and the one in {plan.libtorch.root} is "
                f"{plan.libtorch.version}.",
                hint="The flags of `torchlink flags` are right for older ones too: build your own program with them.",
            ) from error
        conflict = glibc_conflict(plan.libtorch)
        if conflict:
            error.hint = f"{conflict}."
            raise
        # Linkers that read libtorch's libraries reject what those cannot find. One command installs everything,
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


def is_before(libtorch: Libtorch, limit: tuple[int, int]) -> bool:
    """Whether a libtorch is older than a release; False where its version is not known."""
    from torchlink.libtorch.version import release

    number = release(libtorch.version) if libtorch.version else None
    return number is not None and number < limit
