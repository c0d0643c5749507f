"""`torchlink cmake`: start a CMake project, or build an existing one unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from torchlink.cli import options
from torchlink.cli.declaration import Command, CommandGroup, Option, Positional
from torchlink.cli.output import answer as print_answer
from torchlink.cli.output import say
from torchlink.cli.planning import locate, plan_for, print_notes
from torchlink.plan import PlanOptions, make_plan
from torchlink.shown import quoted, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchlink.libtorch.facts import Libtorch

OLDEST_FOR_EXAMPLE = (1, 5, 0)  # in older releases torch::jit::Module has other names and members
EPILOG_INIT = """\b
Examples:
  torchlink cmake init app
  cmake --preset default -S app && cmake --build app/build
  app/build/app model.pt
  cmake --preset pch -S app && cmake --build app/build-pch   # precompiles <torch/script.h>

\b
Without presets, with CMake 3.18 or newer:
  cmake -S app -B app/build && cmake --build app/build

\b
In a fresh clone, and after libtorch was upgraded or replaced:
  torchlink cmake prefix --output app/.torchlink
"""
EPILOG_PREFIX = """\b
Examples:
  cmake -S . -B build -DCMAKE_PREFIX_PATH="$(torchlink cmake prefix)"
  torchlink cmake prefix --cpu --libtorch /opt/libtorch
  torchlink cmake prefix --output .torchlink
"""
EPILOG_DIR = """\b
Examples:
  cmake -S . -B build -DTorch_DIR="$(torchlink cmake dir)"
"""
EPILOG_CONFIGURE = """\b
Examples:
  torchlink cmake configure -S . -B build -G Ninja
  torchlink cmake configure --libtorch /opt/libtorch --preset release
  torchlink cmake configure --show -B build
"""


class CMakeInitArguments(NamedTuple):
    """The command line of `torchlink cmake init`."""

    directory: Annotated[Path, Positional("[DIR]", "The project's directory; it is created if missing.")] = (
        Path()
    )
    name: Annotated[str, Option("--name", "The name of the project and of its program.", metavar="NAME")] = (
        "app"
    )
    force: Annotated[bool, Option("--force", "Overwrite existing files.")] = False
    libtorch: options.Libtorch = None
    python: options.Python = None
    plan: Annotated[PlanOptions, options.PROJECT] = PlanOptions()
    json: options.Json = False


def init(arguments: CMakeInitArguments) -> int:
    """Write a CMake project that builds: CMakeLists.txt, presets, and a program that runs a model.

    Only DIR/.torchlink and CMakeUserPresets.json are specific to this machine, and git ignores them; commit the
    rest. In a fresh clone, run `torchlink cmake prefix --output DIR/.torchlink` once.
    """
    from torchlink.compilation.cmake import project_tools, write_with_prefix
    from torchlink.projects.cmake import BUILD_DIR, PREFIX_DIR, project

    # The plan for the compiler that CMake will use, because the project sets the C++ standard.
    plan = plan_for(locate(arguments.libtorch, arguments.python), arguments.plan, None)
    tools = project_tools()
    main = program_for(plan.libtorch).read_text(encoding="utf-8")
    files = project(plan, tools, {"main.cpp": main}, arguments.name)
    directory = arguments.directory
    written = write_with_prefix(files, plan, directory, PREFIX_DIR, force=arguments.force)
    prefix = directory / PREFIX_DIR
    if arguments.json:
        print_json(
            {"directory": str(directory), "files": [str(path) for path in written], "prefix": str(prefix)}
        )
    else:
        for path in (*written, prefix):
            say(visible(str(path)))
    print_notes(plan)
    there, build = quoted(str(directory)), quoted(str(directory / BUILD_DIR))
    program = quoted(str(directory.absolute() / BUILD_DIR / arguments.name))
    cross, run = cross_arguments(plan.libtorch)
    program = f" && {run}{program} model.pt" if run is not None else ""
    how = f"--preset default -S {there}" if tools.cmake_version >= (3, 21) else f"-S {there} -B {build}"
    say(visible(f"torchlink: next: cmake {how}{cross} && cmake --build {build}{program}"), err=True)
    return 0


def cross_arguments(libtorch: Libtorch) -> tuple[str, str | None]:
    """Return the arguments of cmake to cross-compile for a libtorch, and the prefix of a command that runs the result.

    Both are empty for a libtorch of this machine; the prefix is None if nothing here can run the program.
    """
    import shlex

    from torchlink.libtorch.machine import is_foreign

    if not is_foreign(libtorch):
        return "", ""
    if libtorch.platform != "linux":
        return "", None
    from torchlink.emit.cross import cmake_arguments
    from torchlink.toolchain.cross import default_compiler
    from torchlink.toolchain.emulator import command_for

    compiler = default_compiler(libtorch)
    run = command_for(libtorch.arch, compiler) if compiler else None
    return f" {shlex.join(cmake_arguments(libtorch, compiler))}", f"{run} " if run else None


class PrefixArguments(NamedTuple):
    """The command line of `torchlink cmake prefix`."""

    output: Annotated[
        Path | None,
        Option("--output -o", "Write the prefix to DIR instead of torchlink's cache.", metavar="DIR"),
    ] = None
    force: Annotated[bool, Option("--force", "Let --output overwrite any files.")] = False
    libtorch: options.Libtorch = None
    python: options.Python = None
    plan: Annotated[PlanOptions, options.PROJECT] = PlanOptions()
    json: options.Json = False


def prefix(arguments: PrefixArguments) -> int:
    """Print a directory for CMAKE_PREFIX_PATH in which find_package(Torch) succeeds.

    It contains torchlink's own TorchConfig.cmake, with the variables and targets of
    upstream's. It requires no CUDA toolkit, MKL or NVTX, and its targets carry the
    C++ standard and the C++ ABI that libtorch needs. Without --output, each libtorch
    has its own directory in the cache, which never changes: after libtorch is
    upgraded, run this command again and use the new directory.
    """
    from torchlink.compilation.cmake import write_prefix
    from torchlink.paths import working_directory

    # A prefix works with any compiler, so the plan is made without one.
    plan = make_plan(locate(arguments.libtorch, arguments.python), arguments.plan)
    output = Path(working_directory(), arguments.output) if arguments.output else None
    answer(write_prefix(plan, output, force=arguments.force), json=arguments.json, torch_dir=False)
    print_notes(plan)
    return 0


class DirArguments(NamedTuple):
    """The command line of `torchlink cmake dir`."""

    libtorch: options.Libtorch = None
    python: options.Python = None
    plan: Annotated[PlanOptions, options.PROJECT] = PlanOptions()
    json: options.Json = False


def config_dir(arguments: DirArguments) -> int:
    """Print the directory for -DTorch_DIR=, for projects that set CMAKE_PREFIX_PATH.

    It is the directory of TorchConfig.cmake inside the prefix that `torchlink cmake
    prefix` prints. If Torch_DIR is set, CMake searches no prefix.
    """
    from torchlink.compilation.cmake import write_prefix

    plan = make_plan(locate(arguments.libtorch, arguments.python), arguments.plan)
    answer(write_prefix(plan), json=arguments.json, torch_dir=True)
    print_notes(plan)
    return 0


class ConfigureArguments(NamedTuple):
    """The command line of `torchlink cmake configure`."""

    cmake_arguments: Annotated[tuple[str, ...], Positional("ARGS…", "Passed to cmake unchanged.")] = ()
    show: Annotated[bool, Option("--show", "Print the command instead of running it.")] = False
    libtorch: options.Libtorch = None
    python: options.Python = None
    plan: Annotated[PlanOptions, options.PROJECT] = PlanOptions()


def configure(arguments: ConfigureArguments) -> int:
    """Run cmake on an existing project so that it uses this libtorch.

    It sets Torch_DIR and CMAKE_PREFIX_PATH; for projects that look for Python, the
    interpreter that torch is installed in; for projects that download libtorch with
    FetchContent, the directory to use instead; and a compiler launcher (ccache or
    sccache) if one is installed. With CMake 3.24 or newer it also overrides a
    Torch_DIR that the project sets itself. Your own -D settings are kept. The settings
    are passed as an initial cache (cmake -C), so that CMake does not warn about those
    that a project does not use.
    """
    import shlex

    from torchlink.compilation.cmake import write_initial_cache, write_prefix
    from torchlink.compilation.launcher import launcher
    from torchlink.emit.cmake_configure import check_arguments, given_variables, initial_cache
    from torchlink.errors import ToolMissingError
    from torchlink.paths import working_directory
    from torchlink.process import copied
    from torchlink.toolchain.tools import find_tool

    given = arguments.cmake_arguments
    check_arguments(given, working_directory())
    cmake = find_tool("cmake")
    if cmake is None:
        raise ToolMissingError(
            "cmake is not on PATH.", hint="Install it, for example with `pip install cmake`."
        )
    plan = make_plan(locate(arguments.libtorch, arguments.python), arguments.plan)
    script = initial_cache(
        plan.libtorch,
        write_prefix(plan),
        launcher(),
        given_variables(given),
        cross_variables(plan.libtorch, given),
    )
    command = [str(cmake.path), *given, "-C", str(write_initial_cache(script))]
    print_notes(plan)
    if arguments.show:
        print_answer(shlex.join(command))
        return 0
    code, output = copied(command)
    if code:
        from torchlink.cli.causes import explain_output

        explain_output(output, plan.libtorch.root, "cmake", ("torchlink", "cmake", "configure", *given))
    return code


def cross_variables(libtorch: Libtorch, given: Sequence[str]) -> dict[str, str]:
    """Return the CMake variables to cross-compile for a libtorch; empty if the user already gives a toolchain."""
    from torchlink.emit.cmake_configure import has_toolchain
    from torchlink.libtorch.machine import is_foreign

    if not is_foreign(libtorch) or libtorch.platform != "linux" or has_toolchain(given):
        return {}
    from torchlink.emit.cross import cmake_variables
    from torchlink.toolchain.cross import default_compiler

    compiler = default_compiler(libtorch)
    return cmake_variables(libtorch, compiler) if compiler else {}


def program_for(libtorch: Libtorch) -> Path:
    """Return the source file of the project's program: the example, or a version of it for an old libtorch."""
    from torchlink.libtorch.version import release
    from torchlink.paths import data_dir

    number = release(libtorch.version) if libtorch.version else None
    if number is not None and number < OLDEST_FOR_EXAMPLE:
        return data_dir("templates") / "cmake" / "project" / "main-before-1.5.cpp"
    return data_dir("examples") / "cpp" / "main.cpp"


def answer(prefix: Path, *, json: bool, torch_dir: bool) -> None:
    """Print one of the two directories, or both as JSON."""
    from torchlink.emit.cmake_prefix import CONFIG_DIR

    if json:
        print_json({"prefix": str(prefix), "torch_dir": str(prefix / CONFIG_DIR)})
    else:
        print_answer(str(prefix / CONFIG_DIR if torch_dir else prefix), line=True)


def print_json(fields: dict[str, object]) -> None:
    """Print one JSON object on stdout."""
    import json

    print_answer(json.dumps({"schema": 1, **fields}, indent=2))


COMMAND = CommandGroup(
    {
        "init": Command(CMakeInitArguments, init, EPILOG_INIT),
        "prefix": Command(PrefixArguments, prefix, EPILOG_PREFIX),
        "dir": Command(DirArguments, config_dir, EPILOG_DIR),
        "configure": Command(ConfigureArguments, configure, EPILOG_CONFIGURE, wraps_program=True),
    },
    help="Start a CMake project, or build an existing one unchanged.",
)
