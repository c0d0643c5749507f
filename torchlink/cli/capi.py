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
    from torchlink.compilation.capi import CApi

EPILOG = """\b
Examples:
  torchlink capi out && cc main.c -o app $(PKG_CONFIG_PATH=out pkg-config --cflags --libs torchmodel)
  torchlink capi out --static
  torchlink capi out --libtorch /opt/libtorch --rpath none
"""


class CApiArguments(NamedTuple):
    """The command line of `torchlink capi`."""

    directory: Annotated[Path, Positional("[DIR]", "Where to write; it is created if missing.")] = Path()
    static: Annotated[
        bool, Option("--static", "Write the archive libtorchmodel.a instead of a shared library.")
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
    """
    from torchlink import atomic
    from torchlink.compilation.capi import c_api
    from torchlink.libtorch.tree import check_unpacked
    from torchlink.plan import make_plan
    from torchlink.projects.writing import write_project
    from torchlink.toolchain.compiler import find_compiler
    from torchlink.toolchain.cross import default_compiler

    found = locate(arguments.libtorch, arguments.python)
    check_unpacked(found)
    compiler = (
        find_compiler(arguments.compiler)
        if arguments.compiler
        else default_compiler(found) or find_compiler()
    )
    plan = make_plan(found, arguments.plan._replace(aoti=True), compiler)
    directory = arguments.directory
    made = c_api(
        plan,
        compiler,
        directory.absolute(),
        static=arguments.static,
        started=lambda: note("compiling the C API (once for each libtorch) …"),
    )
    files = {**made.files, made.file_name: made.library.path.read_bytes()}
    written = [*write_project(files, directory, force=arguments.force)]
    if made.link_name != made.file_name:
        link = directory / made.link_name
        try:
            atomic.write_link(link, made.file_name)
        except OSError as error:
            raise atomic.unwritable(link, error) from error
        written.append(link)
    print_result(made, directory, written, json=arguments.json)
    print_notes(plan)
    return 0


def print_result(made: CApi, directory: Path, written: list[Path], *, json: bool) -> None:
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
