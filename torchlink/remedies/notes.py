"""The notes on a link plan: one sentence for each of its facts that the user should know, with the fix."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple

from torchlink.libtorch.machine import Machine, is_foreign, this_machine
from torchlink.libtorch.names import CPU_LIBRARIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.plan import LinkPlan

NAMED_AT_MOST = 8  # missing libraries in one note


class Note(NamedTuple):
    """A sentence about a plan."""

    sentence: str
    label: str = "note"  # or "warning": programs built with these flags do not start here


def notes_on(plan: LinkPlan) -> tuple[str, ...]:
    """Return the sentences alone."""
    return tuple(note.sentence for note in labelled_notes(plan))


def labelled_notes(plan: LinkPlan) -> tuple[Note, ...]:
    """Return what the user should know about a plan."""
    return tuple(_notes(plan))


def _notes(plan: LinkPlan) -> Iterator[Note]:
    libtorch = plan.libtorch
    if is_foreign(libtorch):
        yield Note(_foreign(plan))
    yield from map(Note, libtorch.conflicts)
    if plan.options.cxx_standard is None and plan.cxx_standard < libtorch.cxx_standard:
        yield Note(
            f"C++{plan.cxx_standard} is used: the compiler, or its standard library, is too old for the preferred "
            f"C++{libtorch.cxx_standard}."
        )
    if plan.missing:
        yield Note(_missing(plan))
    if plan.shortfall is not None:
        yield Note(f"{plan.shortfall.message} {plan.shortfall.hint}", "warning")
    if plan.glibc_conflict is not None:
        yield Note(str(plan.glibc_conflict))
    if plan.unreached_dirs:
        yield Note(
            f"Libtorch's own search path does not reach {', '.join(map(str, plan.unreached_dirs))}: the program must "
            "find these libraries too."
        )
    if libtorch.packed:
        yield Note(
            f"{libtorch.root} is not extracted: the flags name paths inside it, which are not there yet."
        )
    if plan.platform == "windows":
        yield Note(
            f"Windows programs carry no search path: put {libtorch.library_dir} on PATH when they run."
        )
    if plan.ignored_compiler is not None:
        yield Note(
            f"$CXX ({plan.ignored_compiler}) compiles for a different machine than {libtorch.root}, which is built for "
            f"{libtorch.platform} {libtorch.arch}: it cannot use these flags."
        )


def _foreign(plan: LinkPlan) -> str:
    """Nothing built against this libtorch runs here by itself: name what compiles and what runs it."""
    from torchlink.toolchain.emulator import command_for

    libtorch, compiler = plan.libtorch, plan.compiler
    compile_with = (
        f"compile with {shlex.join(compiler.command)}"
        if compiler
        else "compile with a cross compiler or on such a machine"
    )
    command = command_for(libtorch.arch, compiler) if compiler and libtorch.platform == "linux" else None
    run_with = (
        f"run the program with {command} PROGRAM" if command else "the program does not run here by itself"
    )
    return (
        f"{libtorch.root} is built for {Machine(libtorch.platform, libtorch.arch)}, and this machine is "
        f"{this_machine()}: {compile_with}; {run_with}."
    )


def _missing(plan: LinkPlan) -> str:
    """One sentence for all missing libraries, with the command that installs them."""
    from torchlink.remedies.remedy import remedy_for

    libtorch, missing = plan.libtorch, plan.missing
    names = list(dict.fromkeys(library.name for library in missing))
    more = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
    note = f"libtorch has missing dependencies: {', '.join(names[:NAMED_AT_MOST])}{more}"
    cpu_files = {f"lib{name}.so" for names in CPU_LIBRARIES for name in names}
    needed_on_cpu = next((library for library in missing if library.needed_by in cpu_files), None)
    if libtorch.accelerator != "cpu":
        note += (
            f"; {needed_on_cpu.needed_by} itself asks for {needed_on_cpu.name}, so --cpu does not help"
            if needed_on_cpu
            else "; a program built with --cpu does without"
        )
    remedy = remedy_for(libtorch, missing)
    if remedy.command:
        return f"{note}; to get {'it' if len(names) == 1 else 'them'}: {remedy.command}"
    return f"{note}; {remedy.sentence}." if remedy.sentence else f"{note}."
