"""`torchlink capi`: build the C API over libtorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from torchlink.cli import options
from torchlink.cli.declaration import Command, Option, Positional, only
from torchlink.cli.output import answer, note, say
from torchlink.cli.planning import locate, print_notes
from torchlink.plan import PlanOptions
from torchlink.shown import quoted, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchlink.compilation.capi import CApi
    from torchlink.libtorch.facts import Libtorch
    from torchlink.plan import LinkPlan

EPILOG = """\b
Examples:
  torchlink capi out && cc main.c -o app $(PKG_CONFIG_PATH=out pkg-config --cflags --libs torchmodel)
  torchlink capi out --static
  torchlink capi out --aoti-only
  torchlink capi out --libtorch /opt/libtorch --rpath none
"""


class CApiArguments(NamedTuple):
    """The command line of `torchlink capi`."""

    directory: Annotated[Path, Positional("[DIR]", "Where to write; it is created if missing.")] = Path()
    static: Annotated[
        bool, Option("--static", "Write the archive libtorchmodel.a instead of a shared library.")
    ] = False
    aoti_only: Annotated[
        bool,
        Option("--aoti-only", "For AOTInductor packages alone, in C: it takes no C++ compiler."),
    ] = False
    force: Annotated[bool, Option("--force", "Overwrite existing files.")] = False
    libtorch: options.Libtorch = None
    python: options.Python = None
    compiler: options.Compiler = None
    plan: Annotated[PlanOptions, only(options.PLAN, "cpu_only", "rpath")] = PlanOptions()
    json: options.Json = False


def capi(arguments: CApiArguments) -> int:
    """Build a C API over libtorch: a library, its header and a pkg-config file.

    DIR gets torchmodel.h (C99), libtorchmodel.so and torchmodel.pc. Through them a program in any language loads
    TorchScript models and AOTInductor packages, without a C++ compiler or libtorch's headers. The library is compiled
    once for each libtorch, and cached.

    With --aoti-only the same header is served by one C file over the C functions of libtorch_cpu.so: a C compiler
    builds it in a second, and DIR gets that file, too (torchmodel.c). It runs AOTInductor packages (.pt2) on the CPU.
    """
    from torchlink.compilation.capi import write
    from torchlink.libtorch.tree import check_unpacked

    found = locate(arguments.libtorch, arguments.python)
    check_unpacked(found)
    if arguments.aoti_only:
        made = build_for_packages(found, arguments)
        written = write(made, arguments.directory, force=arguments.force)
        print_result(made, arguments.directory, written, json=arguments.json)
        return 0
    made, plan = build(
        found, arguments.plan, arguments.compiler, arguments.directory, static=arguments.static
    )
    written = write(made, arguments.directory, force=arguments.force)
    print_result(made, arguments.directory, written, json=arguments.json)
    print_notes(plan)
    return 0


def build_for_packages(found: Libtorch, arguments: CApiArguments) -> CApi:
    """Build the C API in C, or take it from the cache."""
    from torchlink.compilation.capi_c import c_api_for_packages
    from torchlink.errors import UsageError

    rpath = arguments.plan.rpath
    if rpath not in ("absolute", "none"):
        raise UsageError(
            f"--rpath {rpath} is not for --aoti-only.", hint="Use --rpath absolute or --rpath none."
        )
    return c_api_for_packages(
        found,
        arguments.compiler,
        arguments.directory.absolute(),
        rpath=rpath,
        static=arguments.static,
        started=lambda: note("compiling the C API for packages, once for each libtorch …"),
    )


def build(
    found: Libtorch, wanted: PlanOptions, command: str | None, directory: Path, *, static: bool = False
) -> tuple[CApi, LinkPlan]:
    """Build the C API for a directory, or take it from the cache; return the plan that it was built with, too.

    Args:
        found: the libtorch.
        wanted: options of the plan.
        command: the compiler's; None: the default one.
        directory: where it will be.
        static: an archive instead of a shared library.
    """
    from torchlink.compilation.capi import c_api
    from torchlink.plan import make_plan
    from torchlink.toolchain.compiler import find_compiler
    from torchlink.toolchain.cross import default_compiler

    compiler = find_compiler(command) if command else default_compiler(found) or find_compiler()
    plan = make_plan(found, wanted._replace(aoti=True), compiler)
    made = c_api(
        plan,
        compiler,
        directory.absolute(),
        static=static,
        started=lambda: note("compiling the C API, once for each libtorch …"),
    )
    return made, plan


def print_result(made: CApi, directory: Path, written: Sequence[Path], *, json: bool) -> None:
    """Print what was written, and a command that uses it."""
    if json:
        import json as json_format

        fields = {
            "schema": 1,
            "directory": str(directory),
            "files": [str(path) for path in written],
            "cached": made.library.cached,
            "compile_seconds": made.library.compile_seconds,
        }
        answer(json_format.dumps(fields, indent=2))
        return
    for path in written:
        say(visible(str(path)))
    flags = f"$(PKG_CONFIG_PATH={quoted(str(directory))} pkg-config --cflags --libs torchmodel)"
    say(visible(f"torchlink: next: cc main.c -o app {flags}"), err=True)


COMMAND = Command(CApiArguments, capi, EPILOG)
