"""`torchlink c++`: the compiler with libtorch's words added where they belong, as MPI's wrappers do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from torchlink.cli.output import answer, note, say
from torchlink.cli.planning import locate, say_notes
from torchlink.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torchlink.plan import LinkPlan
    from torchlink.toolchain.arguments import Step
    from torchlink.toolchain.facts import Compiler

app = typer.Typer(add_completion=False, rich_markup_mode=None)

EPILOG = """\b
Examples:
  torchlink c++ main.cpp -o app
  torchlink c++ -O2 -c main.cpp && torchlink c++ main.o -o app
  torchlink c++ --libtorch /opt/libtorch --cpu main.cpp
  torchlink c++ -show main.cpp         # the command that would run
  torchlink c++ -show:compile          # the words that compile; -show:link: those that link
  CXX="ccache clang++" torchlink c++ main.cpp
  CXX=torchlink-c++ python setup.py build_ext     # the same in one word
"""
SHOW = {"-show": "command", "--show": "command", "-show:compile": "compile", "-show:link": "link"}
VALUES = {
    "--libtorch": "libtorch",
    "--python": "python",
    "--compiler": "compiler",
    "--rpath": "rpath",
    "--headers": "headers",
}
SIGNALLED = (
    128  # exit codes from here on are of a compiler that a signal has stopped: its source is not at fault
)
SWITCHES = {"--cpu": "cpu_only", "--aoti": "aoti"}


class Untouched(TyperCommand):
    """A command whose words are the compiler's: click reads none of them but a `--help` that stands alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Leave the words where the command finds them: in `ctx.args`."""
        if args in (["--help"], ["-h"]):
            return super().parse_args(ctx, args)
        ctx.args = args
        return args


@dataclass(frozen=True, slots=True)
class Order:
    """What a command line asks of torchlink, and what it leaves to the compiler."""

    options: dict[str, str]  # by the names of `VALUES` and `SWITCHES`
    show: str | None  # "command" | "compile" | "link": print instead of running
    arguments: tuple[str, ...]


@app.command(cls=Untouched, epilog=EPILOG, options_metavar="[TORCHLINK OPTIONS] [COMPILER ARGUMENTS]...")
def cxx(ctx: typer.Context) -> None:
    """Run the C++ compiler with libtorch's words added.

    The compiler is that of --compiler, else $CXX, else c++. Compile words are added where something is compiled,
    link words where something is linked: none of those with -c, -S, -E or -fsyntax-only. Your own -std stays
    where libtorch's headers compile with it. The exit code is the compiler's.

    Options of torchlink's own stand in front: --libtorch PATH, --python EXE, --compiler EXE, --cpu, --aoti,
    --rpath absolute|origin=DIR|none, --headers system|after. TORCHLINK_LIBTORCH names the libtorch, too.
    """
    import os
    import shlex

    from torchlink.emit.cxx import words
    from torchlink.process import replace
    from torchlink.toolchain.arguments import read_arguments
    from torchlink.toolchain.compiler import INSIDE

    order = read_order(ctx.args)
    step = read_arguments(order.arguments)
    compiler, plan = prepare(order, step)
    command = [*compiler.command, *order.arguments, *added_words(plan, step)]
    if order.show is None:
        environment = {**os.environ, INSIDE: "1"}
        code = replace(command, env=environment)
        if 0 < code < SIGNALLED and plan is not None:
            say_gone(order.arguments, plan)
            say_cuda_headers(order.arguments, plan)
            if step.compiles:
                say_shadowed(command[len(compiler.command) :], plan, compiler, environment)
        raise typer.Exit(code)
    shown = command if order.show == "command" else words(plan, order.show) if plan else ()
    answer(shlex.join(shown))


def read_order(arguments: Sequence[str]) -> Order:
    """Take torchlink's options from the front, and `-show` from anywhere.

    Raises:
        UsageError: an option's value is missing.
    """
    rest = [word for word in arguments if word not in SHOW]
    show = next((SHOW[word] for word in arguments if word in SHOW), None)
    options: dict[str, str] = {}
    while rest:
        name, equals, value = rest[0].partition("=")
        if name in SWITCHES and not equals:
            options[SWITCHES[name]] = "yes"
        elif name in VALUES:
            if not equals and len(rest) == 1:
                raise UsageError(f"{name} needs a value.", hint="See 'torchlink c++ --help'.")
            options[VALUES[name]] = value if equals else rest.pop(1)
        else:
            break
        rest.pop(0)
    return Order(options=options, show=show, arguments=tuple(rest))


def prepare(order: Order, step: Step) -> tuple[Compiler, LinkPlan | None]:
    """The compiler to run, and the plan where the command line or `-show` has a use for one.

    Raises:
        ToolMissingError: there is no compiler.
        ToolUnfitError: it cannot build against this libtorch, by its command or by an option on this line.
        LibtorchNotFoundError, LibtorchUnusableError: nothing to build against.
    """
    import shlex
    from pathlib import Path

    from torchlink.libtorch.machine import is_foreign
    from torchlink.plan import Wishes, make_plan
    from torchlink.toolchain.compiler import find_compiler
    from torchlink.toolchain.cross import compiler_for, named_by_user

    command = order.options.get("compiler")
    if not (step.compiles or step.links or order.show):
        return find_compiler(command), None
    named = order.options.get("libtorch")
    libtorch = locate(Path(named) if named else None, order.options.get("python"))
    # Who names a compiler, or a target on this line, means it.
    named_target = any(option.lstrip("-").startswith("target") for option in step.target_options)
    means_it = command or named_target or named_by_user() or not is_foreign(libtorch)
    compiler = as_used = find_compiler(command) if means_it else compiler_for(libtorch, None)
    if step.target_options:
        as_used = find_compiler(shlex.join((*compiler.command, *step.target_options)))
    wishes = Wishes(
        cpu_only="cpu_only" in order.options,
        rpath=order.options.get("rpath", "absolute"),
        headers=order.options.get("headers", "system"),
        aoti="aoti" in order.options,
    )
    plan = make_plan(libtorch, wishes, as_used)
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
    from torchlink.toolchain.arguments import SOURCE_SUFFIXES
    from torchlink.toolchain.cuda import asks_for_cuda, missing_headers

    sources = (word for word in arguments if PurePath(word).suffix in SOURCE_SUFFIXES)
    if plan.libtorch.accelerator != "cuda" or not any(asks_for_cuda(read_bytes(word)) for word in sources):
        return
    lacking = missing_headers(plan.libtorch)
    if lacking:
        note(f"{lacking.what} What helps: {lacking.help}.")


def say_shadowed(command: Sequence[str], plan: LinkPlan, compiler: Compiler, env: Mapping[str, str]) -> None:
    """Name what a source takes from libtorch's include directory although the compiler's own have it, too."""
    from torchlink.toolchain.shadowed import shadows

    if plan.wishes.headers != "system":
        return
    for shadow in shadows(compiler, command, plan.include_dirs, env):
        by = f"for {shadow.includer} " if shadow.includer else ""
        note(
            f"{shadow.name} is taken {by}from {shadow.bundled}, libtorch's own copy, and not from {shadow.own}. If "
            "that is what fails: torchlink c++ --headers after ..."
        )


def added_words(plan: LinkPlan | None, step: Step) -> tuple[str, ...]:
    """The words to put behind the user's own."""
    from torchlink.emit.cxx import words

    if plan is None:
        return ()
    compile_words, link_words = words(plan, "compile"), words(plan, "link")
    if not (step.compiles or step.links):  # -show without inputs: what would be added to any
        return (*compile_words, *link_words)
    if step.standard is not None and step.standard >= plan.libtorch.cxx_standard_required:
        compile_words = compile_words[:-1]  # the standard is the last of them
    return (*(compile_words if step.compiles else ()), *(link_words if step.links else ()))
