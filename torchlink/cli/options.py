"""Options that several commands share, each declared once: see `cli.declaration`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from torchlink.cli.declaration import Option
from torchlink.cli.output import note

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def offering(*values: str) -> Callable[[str], list[str]]:
    """Return a `complete` function that offers these values; other values are still accepted."""

    def complete(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return complete


def cxx_standard(text: str) -> int:
    """Parse a C++ standard as people and compilers write it: 20, c++20, gnu++20, c++2a.

    Raises:
        ValueError: it is not a C++ standard.
    """
    name = text.lower()
    extended = name.startswith("gnu++")
    name = name.removeprefix("gnu++" if extended else "c++")
    from torchlink.toolchain.arguments import STANDARD_NAMES

    if not name.isdecimal() and name not in STANDARD_NAMES:
        raise ValueError(f"{text} is not a C++ standard: write 17, 20, 23 or c++17, c++20, c++23.")
    if extended:
        note(
            f"--std {text} means c++{name} here. For GNU's extensions put -std={text} after the printed flags: "
            "the last -std wins."
        )
    return int(name) if name.isdecimal() else STANDARD_NAMES[name]


def size(text: str) -> int:
    """Bytes of a number with a unit, of which each is 1024 of the smaller: 500M, 1.5G, 2GiB; megabytes without one.

    Raises:
        ValueError: it is none.
    """
    number, unit = text.strip().upper().removesuffix("IB").removesuffix("B"), 2
    if number[-1:] in "KMGT" and number:
        number, unit = number[:-1], "KMGT".index(number[-1]) + 1
    try:
        value = float(number) if len(number) < 20 else 0.0
    except ValueError:
        value = 0.0
    bytes_ = int(value * 1024**unit) if 0 < value < 1e12 else 0
    if not 0 < bytes_ < 1 << 62:
        raise ValueError(f"{text} is not a size: write 500M or 2G.")
    return bytes_


def variables(settings: Sequence[str]) -> dict[str, str]:
    """Parse the NAME=VALUE settings of --env.

    Raises:
        UsageError: a setting is not NAME=VALUE.
    """
    from torchlink.errors import UsageError

    found = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not (name and equals):
            raise UsageError(
                f"--env {setting} is not NAME=VALUE.", hint="For example --env LD_LIBRARY_PATH=/opt/lib"
            )
        found[name] = value
    return found


Libtorch = Annotated[
    Path | None,
    Option(
        "--libtorch",
        "The libtorch to use: its root directory or its lib directory.",
        metavar="PATH",
    ),
]
Python = Annotated[
    str | None,
    Option(
        "--python",
        "Use the torch that this Python interpreter would import. front-end: the one that runs pip, build or uv, in "
        "a package's isolated build.",
        metavar="EXE",
    ),
]
Json = Annotated[bool, Option("--json", "Print one JSON object on stdout.")]
COMPILER = Option("--compiler", "The C++ compiler to use. [default: $CXX, else c++]", metavar="EXE")
Compiler = Annotated[str | None, COMPILER]
VIA = Option(
    "--via",
    "How to build the loader. cxx: the compiler, with the flags of `torchlink flags`; cmake, nim: the project that "
    "`torchlink cmake init` or `torchlink nim init` writes.",
    metavar="cxx|cmake|nim",
    complete=offering("cxx", "cmake", "nim"),
)

# The options of a link plan, by the fields of `plan.PlanOptions`.
PLAN = {
    "cpu_only": Option(
        "--cpu", "On a CUDA build, link only what a CPU program needs; changes nothing on a CPU build."
    ),
    "rpath": Option(
        "--rpath",
        "Where the program searches for libtorch at run time. absolute: where libtorch is now; origin=DIR: in DIR, "
        "relative to the program, for programs that are shipped; none: no search path.",
        metavar="absolute|origin=DIR|none",
        complete=offering("absolute", "origin=", "none"),
    ),
    "headers": Option(
        "--headers",
        "How to add libtorch's include directory. system: -isystem; after: -idirafter, so that the system's fmt, "
        "protobuf and pybind11 are preferred to the copies in it.",
        metavar="system|after",
        complete=offering("system", "after"),
    ),
    "aoti": Option("--aoti", "Keep libtorch.so linked: the program loads AOTInductor packages (.pt2)."),
    "cxx_standard": Option(
        "--std",
        "The C++ standard, as 20 or c++20; at least the one that libtorch's headers need. [default: the newest that "
        "libtorch prefers and the compiler supports]",
        metavar="N",
        parse=cxx_standard,
        complete=offering("17", "20", "23", "c++17", "c++20", "c++23"),
    ),
    "python_extension": Option(
        "--python-extension",
        "Build an extension module of Python, that of --python or the one that torch is installed for: with its "
        "headers, without libpython, and with the libraries of libtorch that it uses. CMake: "
        "torchlink_add_python_module().",
    ),
    "tensors": Option(
        "--tensors",
        "torch.Tensor crosses between Python and the --python-extension: libtorch_python is linked.",
    ),
    "plugin": Option(
        "--plugin",
        "Build a shared library that a program opens with dlopen: -fPIC, -shared, and an undefined symbol is an error "
        "of the linker. In CMake, use torchlink_add_plugin().",
    ),
    "soname": Option(
        "--soname",
        "The soname of the --plugin, which is its file's name. [default: none; torchlink c++: the name after -o]",
        metavar="libNAME.so",
    ),
    "whole_archive": Option(
        "--whole-archive",
        "Link all objects of a static library, also those that nothing references because they only register "
        "operators; may be repeated.",
        metavar="LIB",
    ),
}
# Those that a CMake or Nim project has; the others are set in the build tool.
PROJECT = {name: PLAN[name] for name in ("cpu_only", "headers", "aoti")}

# The options of a verification, by the fields of `verify.options.VerifyOptions`.
VERIFY = {
    "exclude": Option(
        "--exclude",
        "Leave out models of directories and globs whose path matches; may be repeated.",
        metavar="GLOB",
    ),
    "inputs": Option(
        "--input",
        "One argument of forward, in order or as NAME=VALUE; repeat it for each. [default: worked out]",
        metavar="VALUE",
    ),
    "inputs_file": Option(
        "--inputs",
        "All arguments of forward from one file: .pt, .json, .npz or .safetensors.",
        metavar="FILE",
    ),
    "method": Option("--method", "The method to call instead of forward.", metavar="NAME"),
    "save_outputs": Option(
        "--save-outputs",
        "Write everything that forward returns to a file: .npz, .pt, .json or .safetensors.",
        metavar="FILE",
    ),
    "force": Option(
        "--force", "Let --save-outputs and --html overwrite their files, and --record a recording in DIR."
    ),
    "expect": Option(
        "--expect",
        "A file with the expected outputs: .pt, .npy, .npz, .safetensors or .json.",
        metavar="FILE",
    ),
    "atol": Option(
        "--atol",
        "Absolute tolerance of comparisons. [default: that of torch.testing.assert_close for the dtype]",
    ),
    "rtol": Option("--rtol", "Relative tolerance of comparisons. [default: as for --atol]"),
    "against": Option(
        "--against",
        "Compare with another run on the same inputs: in the Python that libtorch belongs to (or the one at EXE), on "
        "the GPU, or with the libtorch at PATH.",
        metavar="python[=EXE]|cuda[:N]|PATH",
        complete=offering("python", "python=", "cuda", "mps", "xpu"),
    ),
    "record": Option("--record", "Save each model's inputs and outputs in DIR, for --golden.", metavar="DIR"),
    "golden": Option(
        "--golden", "Run with the inputs that --record saved in DIR, and compare the outputs.", metavar="DIR"
    ),
    "timeout": Option(
        "--timeout", "Stop a model that takes longer than this. [default: no limit]", metavar="SECONDS"
    ),
    "memory_limit": Option(
        "--memory-limit",
        "Limit the private memory of a loader process: 500M, 2G, …; mapped libraries do not count.",
        metavar="SIZE",
        parse=size,
        complete=offering("1G", "2G", "4G", "8G"),
    ),
    "libraries": Option(
        "--library",
        "A library to load before the model, for custom operators that the model uses; may be repeated.",
        metavar="LIB.so",
    ),
    "model": Option(
        "--model",
        "The model to run in an AOTInductor package (.pt2) that contains several.",
        metavar="NAME",
    ),
    "bench": {
        "bench": Option(
            "--bench",
            "Time calls: the first one, p50, p90, p99, throughput and peak memory; also in the run of --against.",
        ),
        "runs": Option(
            "--bench-runs",
            "The number of timed calls. [default: 100, or as many as are done in 5 s]",
            metavar="N",
        ),
        "warmup": Option("--bench-warmup", "The number of calls before them. [default: 10]", metavar="N"),
        "threads": Option(
            "--bench-threads", "libtorch's number of threads. [default: libtorch's own]", metavar="N"
        ),
        "batch": Option(
            "--bench-batch",
            "Time these sizes of a dimension of an argument (of several: x,mask:0=1,8; of all that have it: *:0=1,8).",
            metavar="ARGUMENT:DIMENSION=SIZE,...",
        ),
    },
    "device": Option(
        "--device",
        "Where to run the model. auto: on the first GPU if one is usable, else on the CPU.",
        metavar="cpu|cuda[:N]|mps|xpu|auto",
        complete=offering("cpu", "cuda", "cuda:1", "mps", "xpu", "auto"),
    ),
    "env": Option(
        "--env",
        "An environment variable to pass to the loader, which otherwise gets only PATH, HOME, the locale and those of "
        "OpenMP, MKL, CUDA and torch; may be repeated.",
        metavar="NAME[=VALUE]",
    ),
    "via": VIA,
    "plan": {name: PLAN[name] for name in ("cpu_only", "headers", "cxx_standard")},
    "compiler": COMPILER,
    "verbose": Option("-v --verbose", "Show libtorch's whole error message when a model fails."),
}
