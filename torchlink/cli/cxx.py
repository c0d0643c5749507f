"""`torchlink c++`: run the compiler with libtorch's flags added, as MPI's compiler wrappers do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

from torchlink.cli import options, plain
from torchlink.cli.declaration import Command, Positional, command_line, fields_of, make
from torchlink.cli.output import answer, note
from torchlink.cli.planning import interpreter, locate, print_notes
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
  torchlink c++ -show main.cpp         # print the command instead of running it
  torchlink c++ -show:compile          # print the compile flags; -show:link: the link flags
  CXX="ccache clang++" torchlink c++ main.cpp
  CXX=torchlink-c++ python setup.py build_ext     # for tools that accept only one word as CXX
"""
SHOW = {"-show": "command", "--show": "command", "-show:compile": "compile", "-show:link": "link"}
SIGNALLED = 128  # a higher exit code means that a signal ended the compiler: the source is not at fault
OF_TORCH = rb"(?i)torch|c10|caffe2|\bat::|\baten\b|cudn|cuda"  # nothing else that a compiler prints has a known cause
# All options of a plan but the C++ standard, which is set with the compiler's own -std.
PLAN = {name: option for name, option in options.PLAN.items() if name != "cxx_standard"}


class CompilerCall(NamedTuple):
    """The command line of `torchlink c++`: torchlink's options, and the arguments of the compiler."""

    libtorch: options.Libtorch = None
    python: options.Python = None
    compiler: options.Compiler = None
    plan: Annotated[PlanOptions, PLAN] = PlanOptions()
    compiler_arguments: Annotated[
        tuple[str, ...],
        Positional(
            "[COMPILER ARGUMENTS]...",
            "Passed to the compiler; -show among them prints the command instead of running it.",
        ),
    ] = ()


def cxx(call: CompilerCall) -> int:
    """Run the C++ compiler with libtorch's flags added.

    The compiler is that of --compiler, else $CXX, else c++. Compile flags are added if the command compiles, link
    flags if it links (not with -c, -S, -E or -fsyntax-only). Your own -std is kept if libtorch's headers compile
    with it. The exit code is the compiler's.

    torchlink's own options come before the compiler's arguments. The variable TORCHLINK_LIBTORCH can replace
    --libtorch.
    """
    import os
    import re
    import shlex

    from torchlink.emit.cxx import flags
    from torchlink.process import copied
    from torchlink.toolchain.arguments import read_arguments
    from torchlink.toolchain.compiler import INSIDE

    show = next((SHOW[each] for each in call.compiler_arguments if each in SHOW), None)
    arguments = tuple(each for each in call.compiler_arguments if each not in SHOW)
    step = read_arguments(arguments)
    compiler, plan = prepare(call, step, needed=show is not None)
    command = [*compiler.command, *arguments, *added_flags(plan, step)]
    if show is None:
        environment = {**os.environ, INSIDE: "1"}
        code, output = copied(command, env=environment, streams=(2,))
        if 0 < code < SIGNALLED and plan is not None:
            note_missing_libraries(arguments, plan)
            note_missing_cuda_headers(arguments, plan)
            if step.compiles:
                note_shadowing_headers(command[len(compiler.command) :], plan, compiler, environment)
            if re.search(OF_TORCH, output):  # configure scripts compile much that is meant to fail
                from torchlink.cli.causes import explain_output

                typed = ("torchlink", "c++", *command_line(PLAN, call.plan), *call.compiler_arguments)
                explain_output(output, plan.libtorch.root, "c++", typed)
        return code
    shown = command if show == "command" else flags(plan, show) if plan else ()
    answer(shlex.join(shown))
    return 0


def read(words: Sequence[str]) -> CompilerCall | None:
    """Take torchlink's options from the front, and `-show` from anywhere; return None for a lone `--help`.

    Raises:
        UsageError: an option's value is missing or empty.
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
            raise UsageError(
                f"{name} {value!r}: an empty argument names nothing.", hint="See 'torchlink c++ --help'."
            )
        rest.pop(0)
    shown = (word for word in words if word in SHOW)
    call: CompilerCall = make(CompilerCall, values)
    return call._replace(compiler_arguments=(*rest, *shown))


def prepare(call: CompilerCall, step: Step, *, needed: bool) -> tuple[Compiler, LinkPlan | None]:
    """Return the compiler to run, and the plan if the command compiles or links, or if `-show` needs it.

    Raises:
        ToolMissingError: there is no compiler.
        ToolUnfitError: it cannot build against this libtorch, or not with an option on this command line.
        LibtorchNotFoundError, LibtorchUnusableError: there is no libtorch to build against.
    """
    import shlex

    from torchlink.libtorch.machine import is_foreign
    from torchlink.toolchain.compiler import find_compiler
    from torchlink.toolchain.cross import compiler_for, cxx_variable

    if not (step.compiles or step.links or needed):
        return find_compiler(call.compiler), None
    libtorch = locate(call.libtorch, call.python)
    # A compiler or a target that the user names is used even if it does not fit libtorch.
    named_target = any(option.lstrip("-").startswith("target") for option in step.target_options)
    explicit = call.compiler or named_target or cxx_variable() or not is_foreign(libtorch)
    compiler = as_used = find_compiler(call.compiler) if explicit else compiler_for(libtorch, None)
    if step.target_options:
        as_used = find_compiler(shlex.join((*compiler.command, *step.target_options)))
    python = interpreter(call.python) if call.plan.python_extension else None
    plan = make_plan(libtorch, suited(call.plan, step)._replace(python=python), as_used)
    print_notes(plan)
    return compiler, with_abi(plan, step)


def suited(wanted: PlanOptions, step: Step) -> PlanOptions:
    """Return the options for this command line: a plugin's soname is its file's name."""
    from pathlib import PurePath

    if not step.links:
        wanted = wanted._replace(whole_archive=())  # they may not be built yet
    if wanted.plugin and wanted.soname is None and step.links and step.output:
        wanted = wanted._replace(soname=PurePath(step.output).name)
    return wanted


def with_abi(plan: LinkPlan, step: Step) -> LinkPlan:
    """Return the plan with a -U for a different C++ ABI on the command line: a second -D alone would cause warnings."""
    other = next((name for name, value in plan.defines if step.cxx11_abi not in {None, value}), None)
    if other is None or not step.compiles:
        return plan
    value = dict(plan.defines)[other]
    note(
        f"the command line sets {other}={step.cxx11_abi}, but {plan.libtorch.root} is built with "
        f"{value}: {value} is used. Remove the setting, or use a libtorch with the other C++ ABI."
    )
    return plan._replace(undefines=tuple(dict.fromkeys((*plan.undefines, other))))


def note_missing_libraries(arguments: Sequence[str], plan: LinkPlan) -> None:
    """Print a note for each path of a libtorch library on the command line that does not exist.

    torchlink's flags cannot replace it: the project itself has to drop it.
    """
    import os

    from torchlink.libtorch.libraries import is_own
    from torchlink.libtorch.names import library_name

    for word in arguments:
        _, slash, name = word.rpartition("/")
        bare = library_name(name) if slash and not word.startswith("-") else None
        if bare is not None and is_own(bare) and not os.path.exists(word):  # noqa: PTH110 - a word
            note(
                f"{word} does not exist, but the build file names it. Remove it "
                f"there: torchlink already links the libraries in {plan.libtorch.library_dir}."
            )


def note_missing_cuda_headers(arguments: Sequence[str], plan: LinkPlan) -> None:
    """Print a note about missing CUDA headers if a source includes any."""
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


def note_shadowing_headers(
    command: Sequence[str], plan: LinkPlan, compiler: Compiler, env: Mapping[str, str]
) -> None:
    """Print a note for each header that comes from libtorch's include directory although the system has it, too."""
    from torchlink.toolchain.shadowed import shadows

    if plan.options.headers != "system":
        return
    for shadow in shadows(compiler, command, plan.include_dirs, env):
        by = f" (included by {shadow.includer})" if shadow.includer else ""
        note(
            f"{shadow.name}{by} is libtorch's own copy in {shadow.bundled}, not that in {shadow.own}. If "
            "that causes the error, use: torchlink c++ --headers after ..."
        )


def added_flags(plan: LinkPlan | None, step: Step) -> tuple[str, ...]:
    """Return the flags to append to the user's arguments."""
    from torchlink.emit.cxx import flags

    if plan is None:
        return ()
    compile_flags, link_flags = flags(plan, "compile"), flags(plan, "link")
    if not (step.compiles or step.links):  # -show without inputs: all that could be added
        return (*compile_flags, *link_flags)
    if step.standard is not None and step.standard >= plan.libtorch.cxx_standard_required:
        compile_flags = compile_flags[:-1]  # the last one is -std
    return (*(compile_flags if step.compiles else ()), *(link_flags if step.links else ()))


COMMAND = Command(
    CompilerCall,
    cxx,
    EPILOG,
    usage="[TORCHLINK OPTIONS]",
    interspersed=False,
    wraps_program=True,
    read=read,
)
