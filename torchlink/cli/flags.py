"""`torchlink flags`: print the flags for one target on stdout, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from torchlink.cli import options
from torchlink.cli.declaration import Command, Option, Positional, command_line
from torchlink.cli.output import answer, note
from torchlink.cli.planning import interpreter, locate, plan_for, print_notes
from torchlink.emit import TARGETS, emit
from torchlink.errors import FileError, UsageError, WouldOverwriteError
from torchlink.plan import DEFAULTS, LinkPlan, PlanOptions
from torchlink.shown import quoted

if TYPE_CHECKING:
    from torchlink.capi_plan import AnyPlan, CApiPlan

EPILOG = """\b
Examples:
  eval c++ main.cpp -o app $(torchlink flags)
  torchlink flags --response-file w.rsp && c++ main.cpp -o app @w.rsp
  c++ -c main.cpp $(torchlink flags --compile)
  torchlink flags --cpu --rpath origin=lib
  eval c++ module.cpp -o module.so $(torchlink flags --python-extension --tensors --rpath origin=torch/lib)
  eval c++ ops.cpp -o libops.so $(torchlink flags --plugin --soname libops.so)
  eval c++ main.cpp -o app $(torchlink flags --whole-archive libops.a)
  torchlink flags --pkg-config > torch.pc
  eval "$(torchlink flags --go)" && go build
  torchlink capi out && cc main.c -o app $(torchlink flags --capi out)
  torchlink flags --embed-python .venv/bin/python
"""
PC_FILE = 1 << 20  # bytes of a .pc file that are read
HEAD = 4096  # bytes of a file that are read to recognise a response file of torchlink's
# How such a file begins; anything else belongs to the user.
OWN_BEGINNINGS = (
    "-D_GLIBCXX_USE_CXX11_ABI=",
    "-isystem",
    "-idirafter",
    "-std=c++",
    "-L",
    "-l",
    "-Wl,",
    "-Xlinker",
    "/MD",
    "/LIBPATH:",
    "-shared",
    "-dynamiclib",
    "/DLL",
    "-fPIC",
)


class FlagsArguments(NamedTuple):
    """The command line of `torchlink flags`."""

    libtorch: options.Libtorch = None
    python: options.Python = None
    cxx: Annotated[bool, Option("--cxx", "Print one shell-quoted line for a C++ compiler (the default).")] = (
        False
    )
    cmake: Annotated[bool, Option("--cmake", "Print a snippet for a CMakeLists.txt.")] = False
    nim: Annotated[bool, Option("--nim", "Print lines for a nim.cfg.")] = False
    pkg_config: Annotated[bool, Option("--pkg-config", "Print a complete torch.pc.")] = False
    json: Annotated[bool, Option("--json", "Print the whole link plan as one JSON object.")] = False
    compile: Annotated[bool, Option("--compile", "Print only the flags for compiling.")] = False
    link: Annotated[bool, Option("--link", "Print only the flags for linking.")] = False
    plan: Annotated[PlanOptions, options.PLAN] = PlanOptions()
    embed_python: Annotated[
        bool,
        Option(
            "--embed-python",
            "For a program that embeds one Python interpreter, EXE or the one that libtorch belongs to: its headers, "
            "libpython (a static one whole), libtorch_python, and exported symbols.",
        ),
    ] = False
    operand: Annotated[
        str | None,
        Positional(
            "[EXE|DIR]",
            "The interpreter of --embed-python; or with --capi where the C API is, by default this directory, else "
            ".torchlink/capi.",
            show_default=False,
        ),
    ] = None
    compiler: options.Compiler = None
    make: Annotated[bool, Option("--make", "Print a file that a Makefile includes.")] = False
    rust: Annotated[bool, Option("--rust", "Print what a build.rs prints for cargo.")] = False
    go: Annotated[bool, Option("--go", "Print cgo's variables, and the same as #cgo lines.")] = False
    d: Annotated[bool, Option("--d", "Print options for ldc2 and dmd.")] = False
    zig: Annotated[bool, Option("--zig", "Print options for zig build-exe.")] = False
    fortran: Annotated[bool, Option("--fortran", "Print options for gfortran.")] = False
    ocaml: Annotated[
        bool, Option("--ocaml", "Print fields for a dune file, and options for ocamlopt in a comment.")
    ] = False
    haskell: Annotated[bool, Option("--haskell", "Print fields for a .cabal file.")] = False
    crystal: Annotated[bool, Option("--crystal", "Print a Link annotation.")] = False
    ada: Annotated[bool, Option("--ada", "Print switches for gprbuild.")] = False
    r: Annotated[bool, Option("--r", "Print lines for an R package's src/Makevars.")] = False
    ruby: Annotated[bool, Option("--ruby", "Print lines for an extconf.rb.")] = False
    node: Annotated[bool, Option("--node", "Print a .gypi file for a target of binding.gyp.")] = False
    qmake: Annotated[bool, Option("--qmake", "Print a .pri file.")] = False
    bazel: Annotated[
        bool, Option("--bazel", "Print the BUILD file of a new_local_repository, and what declares it.")
    ] = False
    nvcc: Annotated[
        bool,
        Option(
            "--nvcc", "Print flags for nvcc, with the architectures of $TORCH_CUDA_ARCH_LIST or of libtorch."
        ),
    ] = False
    julia: Annotated[
        bool, Option("--julia", "Print a constant for a Julia program (nobody has run Julia with it).")
    ] = False
    swift: Annotated[
        bool, Option("--swift", "Print options for swiftc (nobody has run swiftc with them).")
    ] = False
    capi: Annotated[
        bool,
        Option("--capi", "Print the flags of the C API in DIR, which `torchlink capi DIR` wrote, instead."),
    ] = False
    response_file: Annotated[
        Path | None,
        Option("--response-file", "Write the flags to PATH, to be used as `c++ … @PATH`.", metavar="PATH"),
    ] = None
    force: Annotated[bool, Option("--force", "Let --response-file overwrite any file.")] = False


def flags(arguments: FlagsArguments) -> int:
    """Print the flags that compile and link a program against libtorch.

    The flags alone are printed on stdout; notes go to stderr. Put them after sources and objects, at the end of the
    command. For paths with spaces use eval, as below, or --response-file.
    """
    targets = [target for target in TARGETS if getattr(arguments, target.replace("-", "_"))] or ["cxx"]
    if len(targets) > 1:
        raise UsageError(f"--{' and --'.join(targets)} cannot be combined.", hint="Use only one of them.")
    if arguments.response_file and targets != ["cxx"]:
        raise UsageError(
            f"--response-file works only with --cxx, not with --{targets[0]}.", hint="Use only one of them."
        )
    phase = "both" if arguments.compile == arguments.link else "compile" if arguments.compile else "link"
    operand = arguments.operand
    if operand and not (arguments.embed_python or arguments.capi):
        raise UsageError(
            f"Unexpected argument: {operand}.", hint="Only --embed-python and --capi take one; see --help."
        )
    if arguments.capi:
        plan: AnyPlan = c_api(arguments)
        wanted = DEFAULTS
    else:
        wanted = wanted_of(arguments, phase)
        plan = of_libtorch(arguments, wanted)
    if arguments.response_file:
        write_response_file(plan, phase, arguments.response_file, force=arguments.force)
    else:
        answer(emit(plan, targets[0], phase))
    if isinstance(plan, LinkPlan):
        print_notes(plan)
    if wanted.plugin and not wanted.soname and phase != "compile" and targets != ["cmake"]:
        note("the plugin gets no soname, which is its file's name: add --soname libNAME.so.")
    return 0


def wanted_of(arguments: FlagsArguments, phase: str) -> PlanOptions:
    """Return the options of the plan."""
    embedded = (arguments.operand or arguments.python or "") if arguments.embed_python else None
    wanted = arguments.plan._replace(compiles=phase != "link", embed_python=embedded)
    if wanted.python_extension:
        wanted = wanted._replace(python=interpreter(arguments.python))
    if phase == "compile":
        wanted = wanted._replace(whole_archive=())  # they may not be built yet
    return wanted


def of_libtorch(arguments: FlagsArguments, wanted: PlanOptions) -> LinkPlan:
    """Return the plan for the libtorch that the options select."""
    # The torch of an interpreter that is embedded, unless another one is named.
    embedded = arguments.operand if arguments.embed_python and not arguments.libtorch else None
    return plan_for(locate(arguments.libtorch, arguments.python or embedded), wanted, arguments.compiler)


def c_api(arguments: FlagsArguments) -> CApiPlan:
    """Return the plan of a program that uses the C API in a directory.

    Raises:
        FileError: no C API is there.
        UsageError: an option is for C++ programs, or an archive is of another libtorch.
    """
    from torchlink.capi_plan import C_API, c_api_plan

    given = command_line(options.PLAN, arguments.plan._replace(rpath=DEFAULTS.rpath))
    given += ["--embed-python"] if arguments.embed_python else []
    directory = c_api_directory(arguments.operand)
    wanted = PlanOptions(rpath=arguments.plan.rpath)
    if (directory / f"lib{C_API}.a").exists() and not (directory / f"lib{C_API}.so").exists():
        wanted = wanted._replace(cpu_only=arguments.plan.cpu_only, aoti=True, compiles=False)
        given = [option for option in given if option != "--cpu"]
    if given:
        raise UsageError(
            f"{given[0]} is for C++ programs and has no meaning with --capi.", hint=f"Omit {given[0]}."
        )
    from torchlink.bounds import first_bytes
    from torchlink.emit import pkg_config

    described = directory / f"{C_API}.pc"
    text = os.fsdecode(first_bytes(described, PC_FILE)) if described.is_file() else ""
    if not wanted.aoti:
        return c_api_plan(directory, wanted, linker_dirs=pkg_config.linker_dirs(text))
    plan = of_libtorch(arguments, wanted)
    if pkg_config.field(f"-L{place}" for place in plan.library_dirs) not in text:
        raise UsageError(
            f"lib{C_API}.a in {directory} was built for another libtorch than {plan.libtorch.root}.",
            hint="Name that libtorch with --libtorch, or write the C API again with `torchlink capi --static`.",
        )
    return c_api_plan(directory, wanted, plan)


def c_api_directory(given: str | None) -> Path:
    """Return the absolute path of a directory with a C API.

    Raises:
        FileError: there is none.
    """
    from torchlink.capi_plan import C_API

    places = (Path(given),) if given else (Path(), Path(".torchlink", "capi"))
    for place in places:
        files = (place / f"{C_API}.h", place / f"lib{C_API}.so", place / f"lib{C_API}.a")
        if files[0].is_file() and (files[1].exists() or files[2].exists()):
            return place.absolute()
    raise FileError(
        f"No C API in {' or '.join(str(place.absolute()) for place in places)}.",
        hint=f"Write it with `torchlink capi {quoted(given or 'DIR')}`.",
    )


def write_response_file(plan: AnyPlan, phase: str, path: Path, *, force: bool) -> None:
    """Write the flags for `c++ @PATH`; overwrite an older response file, but no other file."""
    from torchlink.atomic import unwritable, write_file
    from torchlink.bounds import first_bytes
    from torchlink.emit import cxx

    try:
        if path.is_file() and not force:  # reading a FIFO would block, and it holds nothing to be lost
            before = first_bytes(path, HEAD).decode("latin-1")
            blank = len(before) < HEAD and not before.strip()
            if not blank and not before.startswith(OWN_BEGINNINGS):
                raise WouldOverwriteError(
                    f"{path} exists and is not a response file of torchlink's.",
                    hint="Name another file, or use --force to overwrite it.",
                )
        write_file(path, os.fsencode(cxx.response_file(plan, phase)))
    except OSError as error:
        raise unwritable(path, error, "Name a file that you can write.") from error


COMMAND = Command(FlagsArguments, flags, EPILOG)
