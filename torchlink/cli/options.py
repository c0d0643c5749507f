"""Options that several commands share, each declared once: see `cli.declaration`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from torchlink.cli.declaration import Option
from torchlink.cli.output import note

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def offering(*values: str) -> Callable[[str], list[str]]:
    """For `complete`: a shell offers these values, and any other may be typed all the same."""

    def complete(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return complete


def cxx_standard(text: str) -> int:
    """The number of a C++ standard as people and compilers write it: 20, c++20, gnu++20, c++2a.

    Raises:
        ValueError: it is not one.
    """
    name = text.lower()
    extended = name.startswith("gnu++")
    name = name.removeprefix("gnu++" if extended else "c++")
    from torchlink.toolchain.arguments import STANDARD_NAMES

    if not name.isdecimal() and name not in STANDARD_NAMES:
        raise ValueError(f"{text} is not a C++ standard: write 17, 20, 23 or c++17, c++20, c++23.")
    if extended:
        note(
            f"--std {text} is taken as c++{name}: for GNU's extensions put -std={text} behind the printed flags, "
            "the last one counts."
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
    """The variables of an --env that takes NAME=VALUE.

    Raises:
        UsageError: a setting has no value.
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
        "--libtorch", "The libtorch to use: its root, its lib directory, a wheel or a zip.", metavar="PATH"
    ),
]
Python = Annotated[
    str | None,
    Option("--python", "Use the torch that this Python interpreter would import.", metavar="EXE"),
]
Json = Annotated[bool, Option("--json", "One JSON object on stdout.")]
COMPILER = Option("--compiler", "The C++ compiler to use; otherwise $CXX, else c++.", metavar="EXE")
Compiler = Annotated[str | None, COMPILER]
VIA = Option(
    "--via",
    "cxx: by the compiler with the flags of `torchlink flags`; cmake, nim: through the project that "
    "`torchlink cmake init` or `torchlink nim init` writes.",
    metavar="cxx|cmake|nim",
    complete=offering("cxx", "cmake", "nim"),
)

# What a plan can be asked for, by the fields of `plan.PlanOptions`.
PLAN = {
    "cpu_only": Option(
        "--cpu", "On a CUDA build, link only what a CPU program needs; changes nothing on a CPU build."
    ),
    "rpath": Option(
        "--rpath",
        "Where the program looks for libtorch when it starts: where it is now, in DIR beside the "
        "program (for programs that are shipped), or nowhere.",
        metavar="absolute|origin=DIR|none",
        complete=offering("absolute", "origin=", "none"),
    ),
    "headers": Option(
        "--headers",
        "system: -isystem. after: -idirafter, behind the system's own fmt, protobuf, pybind11, "
        "which libtorch's include directory has, too.",
        metavar="system|after",
        complete=offering("system", "after"),
    ),
    "aoti": Option("--aoti", "The program loads AOTInductor packages (.pt2): keep libtorch.so linked."),
    "cxx_standard": Option(
        "--std",
        "C++ standard: 17, 20, … or c++20; at least what libtorch's headers need.",
        metavar="N",
        parse=cxx_standard,
        complete=offering("17", "20", "23", "c++17", "c++20", "c++23"),
    ),
}
# Of these what a project for CMake or Nim is asked for; the rest is the build tool's own business.
PROJECT = {name: PLAN[name] for name in ("cpu_only", "headers", "aoti")}

# What a verification can be asked for, by the fields of `verify.options.VerifyOptions`.
VERIFY = {
    "inputs": Option(
        "--input",
        "One argument of forward, in order or as NAME=VALUE; repeat it for each. Without any, they are worked out.",
        metavar="VALUE",
    ),
    "inputs_file": Option(
        "--inputs",
        "All arguments of forward from one file: .pt, .json, .npz or .safetensors.",
        metavar="FILE",
    ),
    "method": Option("--method", "The method to call in place of forward.", metavar="NAME"),
    "save_outputs": Option(
        "--save-outputs",
        "Write all that forward returns to a file: .npz, .pt, .json or .safetensors.",
        metavar="FILE",
    ),
    "force": Option(
        "--force", "Let --save-outputs overwrite its file, and --record what DIR holds of a model."
    ),
    "expect": Option(
        "--expect", "What forward should return, as .pt, .npy, .npz, .safetensors or .json.", metavar="FILE"
    ),
    "atol": Option(
        "--atol",
        "Absolute tolerance of comparisons; by default that of torch.testing.assert_close for the dtype.",
    ),
    "rtol": Option("--rtol", "Relative tolerance of comparisons; by default likewise."),
    "against": Option(
        "--against",
        "Compare with what another run returns for the same inputs: of the Python that libtorch belongs to (or "
        "python=EXE), of the GPU, or of another libtorch.",
        metavar="python[=EXE]|cuda|PATH",
        complete=offering("python", "python=", "cuda"),
    ),
    "record": Option("--record", "Keep each model's inputs and outputs in DIR, for --golden.", metavar="DIR"),
    "golden": Option(
        "--golden", "Compare with what --record has kept in DIR, with the same inputs.", metavar="DIR"
    ),
    "timeout": Option(
        "--timeout", "Stop a model that has not finished by then; no limit otherwise.", metavar="SECONDS"
    ),
    "memory_limit": Option(
        "--memory-limit",
        "The most memory of its own that a loader process may have, such as 500M or 2G; what it maps of libtorch's "
        "libraries does not count.",
        metavar="SIZE",
        parse=size,
        complete=offering("1G", "2G", "4G", "8G"),
    ),
    "libraries": Option(
        "--library",
        "A library of operators that the model uses, loaded before it; may be repeated.",
        metavar="LIB.so",
    ),
    "model": Option(
        "--model",
        "The model to run in an AOTInductor package (.pt2) of several.",
        metavar="NAME",
    ),
    "device": Option(
        "--device",
        "Where to run; auto: CUDA where it is usable.",
        metavar="cpu|cuda|auto",
        complete=offering("cpu", "cuda", "auto"),
    ),
    "env": Option(
        "--env",
        "An environment variable that the loader is given besides PATH, HOME, the locale and those of OpenMP, "
        "MKL, CUDA and torch; may be repeated.",
        metavar="NAME[=VALUE]",
    ),
    "via": VIA,
    "plan": {name: PLAN[name] for name in ("cpu_only", "headers", "cxx_standard")},
    "compiler": COMPILER,
    "verbose": Option("-v --verbose", "Show all lines of what a failing model's libtorch says."),
}
