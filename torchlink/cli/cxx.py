"""`torchlink c++`: the compiler with libtorch's flags added where they belong, as MPI's wrappers do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

from torchlink.cli import options, plain
from torchlink.cli.declaration import Command, Positional, fields_of, make
from torchlink.cli.output import answer, note, say
from torchlink.cli.planning import locate, say_notes
from torchlink.errors import UsageError
from torchlink.plan import PlanOptions, make_plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torchlink.plan import LinkPlan
    from torchlink.toolchain.arguments import Step
    from torchlink.toolchain.types import Compiler

EPILOG = """\b
Examples:
  torchlink c++ main.cpp -o app
  torchlink c++ -O2 -c main.cpp && torchlink c++ main.o -o app
  torchlink c++ --libtorch /opt/libtorch --cpu main.cpp
  torchlink c++ -show main.cpp         # the command that would run
  torchlink c++ -show:compile          # the flags that compile; -show:link: those that link
  CXX="ccache clang++" torchlink c++ main.cpp
  CXX=torchlink-c++ python setup.py build_ext     # the same in one argument
"""
SHOW = {"-show": "command", "--show": "command", "-show:compile": "compile", "-show:link": "link"}
SIGNALLED = 128  # exit codes above are of a compiler that a signal has ended: its source is not at fault
# All but the C++ standard, which is asked for with the compiler's own -std.
PLAN = {name: option for name, option in options.PLAN.items() if name != "cxx_standard"}


class CompilerCall(NamedTuple):
    """The command line of `torchlink c++`: options of torchlink's own, and what is left to the compiler."""

    libtorch: options.Libtorch = None
    python: options.Python = None
    compiler: options.Compiler = None
    plan: Annotated[PlanOptions, PLAN] = PlanOptions()
    words: Annotated[
        tuple[str, ...],
        Positional(
            "[COMPILER ARGUMENTS]...", "What the compiler is given; -show anywhere prints instead of running."
        ),
    ] = ()


def cxx(call: CompilerCall) -> int:
    """Run the C++ compiler with libtorch's flags added.

    The compiler is that of --compiler, else $CXX, else c++. Compile flags are added where something is compiled,
    link flags where something is linked: none of those with -c, -S, -E or -fsyntax-only. Your own -std stays
    where libtorch's headers compile with it. The exit code is the compiler's.

    Options of torchlink's own stand in front. TORCHLINK_LIBTORCH names the libtorch, too.
    """
    import os
    import shlex

    from torchlink.emit.cxx import flags
    from torchlink.process import replace
    from torchlink.toolchain.arguments import read_arguments
    from torchlink.toolchain.compiler import INSIDE

    show = next((SHOW[word] for word in call.words if word in SHOW), None)
    arguments = tuple(word for word in call.words if word not in SHOW)
    step = read_arguments(arguments)
    compiler, plan = prepare(call, step, needed=show is not None)
    command = [*compiler.command, *arguments, *added_words(plan, step)]
    if show is None:
        environment = {**os.environ, INSIDE: "1"}
        code = replace(command, env=environment)
        if 0 < code < SIGNALLED and plan is not None:
            say_gone(arguments, plan)
            say_cuda_headers(arguments, plan)
            if step.compiles:
                say_shadowed(command[len(compiler.command) :], plan, compiler, environment)
        return code
    shown = command if show == "command" else flags(plan, show) if plan else ()
    answer(shlex.join(shown))
    return 0


def read(words: Sequence[str]) -> CompilerCall | None:
    """Take torchlink's options from the front, and `-show` from anywhere; None for a `--help` that stands alone.

    Raises:
        UsageError: an option's value is missing, or is none.
    """
    if plain.completing() or list(words) in (["--help"], ["-h"]):
        return None
    known = plain.by_name(fields_of(CompilerCall))
    values: plain.Values = {}
    rest = [word for word in words if word not in SHOW]
    while rest:
        name, equals, value = rest[0].partition("=")
        option = known.get(name)
        switch = option is not None and option.type is bool
        if option is None or (switch and equals):
            break
        if not switch and not equals:
            if len(rest) == 1:
                raise UsageError(f"{name} needs a value.", hint="See 'torchlink c++ --help'.")
            value = rest.pop(1)
        if not plain.take(values, option, True if switch else value):
            raise UsageError(f"{name} {value!r} names nothing.", hint="See 'torchlink c++ --help'.")
        rest.pop(0)
    shown = (word for word in words if word in SHOW)
    call: CompilerCall = make(CompilerCall, values)
    return call._replace(words=(*rest, *shown))


def prepare(call: CompilerCall, step: Step, *, needed: bool) -> tuple[Compiler, LinkPlan | None]:
    """The compiler to run, and the plan where the command line has a use for one or it is `needed` for `-show`.

    Raises:
        ToolMissingError: there is no compiler.
        ToolUnfitError: it cannot build against this libtorch, by its command or by an option on this line.
        LibtorchNotFoundError, LibtorchUnusableError: nothing to build against.
    """
    import shlex

    from torchlink.libtorch.machine import is_foreign
    from torchlink.toolchain.compiler import find_compiler
    from torchlink.toolchain.cross import compiler_for, cxx_variable

    if not (step.compiles or step.links or needed):
        return find_compiler(call.compiler), None
    libtorch = locate(call.libtorch, call.python)
    # Who names a compiler, or a target on this line, means it.
    named_target = any(option.lstrip("-").startswith("target") for option in step.target_options)
    means_it = call.compiler or named_target or cxx_variable() or not is_foreign(libtorch)
    compiler = as_used = find_compiler(call.compiler) if means_it else compiler_for(libtorch, None)
    if step.target_options:
        as_used = find_compiler(shlex.join((*compiler.command, *step.target_options)))
    plan = make_plan(libtorch, call.plan, as_used)
    say_notes(plan)
    return compiler, with_abi(plan, step)


def with_abi(plan: LinkPlan, step: Step) -> LinkPlan:
    """The plan, undoing another C++ ABI that the command line asks for: a second -D would be a warning at each file."""
    other = next((name for name, value in plan.defines if step.cxx11_abi not in {None, value}), None)
    if other is None or not step.compiles:
        return plan
    value = dict(plan.defines)[other]
    say(
        f"torchlink: note: the command line sets {other}={step.cxx11_abi}, and {plan.libtorch.root} is built with "
        f"{value}: {value} is used. Remove the setting, or name a libtorch of the other C++ ABI.",
        err=True,
    )
    return plan._replace(undefines=tuple(dict.fromkeys((*plan.undefines, other))))


def say_gone(arguments: Sequence[str], plan: LinkPlan) -> None:
    """Name the libraries of libtorch that stand on the command line with their path and are not there.

    No word of torchlink's can replace them: the project has to let go of them.
    """
    import os

    from torchlink.libtorch.libraries import is_own
    from torchlink.libtorch.names import library_name

    for word in arguments:
        directory, slash, name = word.rpartition("/")
        bare = library_name(name) if slash and not word.startswith("-") else None
        if bare is not None and is_own(bare) and not os.path.exists(word):  # noqa: PTH110 - a word
            note(
                f"{word} is named in the build file, and there is no {directory}. Take it out "
                f"there: torchlink links {plan.libtorch.library_dir} by itself."
            )


def say_cuda_headers(arguments: Sequence[str], plan: LinkPlan) -> None:
    """Name what a source that includes CUDA's headers lacks; nobody else needs to hear of it."""
    from pathlib import PurePath

    from torchlink.libtorch.disk import read_bytes
    from torchlink.remedies.cuda_headers import headers_remedy
    from torchlink.toolchain.arguments import SOURCE_SUFFIXES
    from torchlink.toolchain.cuda import asks_for_cuda

    sources = (word for word in arguments if PurePath(word).suffix in SOURCE_SUFFIXES)
    if plan.libtorch.accelerator != "cuda" or not any(asks_for_cuda(read_bytes(word)) for word in sources):
        return
    remedy = headers_remedy(plan.libtorch)
    if remedy:
        note(f"{remedy.message} What helps: {remedy.text}.")


def say_shadowed(command: Sequence[str], plan: LinkPlan, compiler: Compiler, env: Mapping[str, str]) -> None:
    """Name what a source takes from libtorch's include directory although the compiler's own have it, too."""
    from torchlink.toolchain.shadowed import shadows

    if plan.options.headers != "system":
        return
    for shadow in shadows(compiler, command, plan.include_dirs, env):
        by = f"for {shadow.includer} " if shadow.includer else ""
        note(
            f"{shadow.name} is taken {by}from {shadow.bundled}, libtorch's own copy, and not from {shadow.own}. If "
            "that is what fails: torchlink c++ --headers after ..."
        )


def added_words(plan: LinkPlan | None, step: Step) -> tuple[str, ...]:
    """The flags to put behind the user's own."""
    from torchlink.emit.cxx import flags

    if plan is None:
        return ()
    compile_flags, link_flags = flags(plan, "compile"), flags(plan, "link")
    if not (step.compiles or step.links):  # -show without inputs: what would be added to any
        return (*compile_flags, *link_flags)
    if step.standard is not None and step.standard >= plan.libtorch.cxx_standard_required:
        compile_flags = compile_flags[:-1]  # the standard is the last of them
    return (*(compile_flags if step.compiles else ()), *(link_flags if step.links else ()))


COMMAND = Command(
    CompilerCall,
    cxx,
    EPILOG,
    usage="[TORCHLINK OPTIONS]",
    interspersed=False,
    foreign=True,
    read=read,
)
