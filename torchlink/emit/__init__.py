"""Targets: the syntaxes that a link plan is written in.

Each is a module with the function `emit(plan, phase) -> str`, which writes nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from torchlink.errors import InexpressibleError, UsageError

if TYPE_CHECKING:
    from torchlink.capi_plan import AnyPlan

# Target -> the module below torchlink.emit that writes it; the order is the order of messages and help.
TARGETS = {
    "cxx": "cxx",
    "cmake": "cmake",
    "nim": "nim",
    "pkg-config": "pkg_config",
    "json": "json_plan",
    "make": "make",
    "rust": "rust",
    "go": "go",
    "d": "d",
    "zig": "zig",
    "fortran": "fortran",
    "ocaml": "ocaml",
    "haskell": "haskell",
    "crystal": "crystal",
    "ada": "ada",
    "r": "r",
    "ruby": "ruby",
    "node": "node",
    "qmake": "qmake",
    "bazel": "bazel",
    "nvcc": "nvcc",
    "julia": "julia",
    "swift": "swift",
}
# Those that know Microsoft's compiler and linker.
FOR_WINDOWS = ("cxx", "cmake", "nim", "pkg-config", "json", "rust")
CXX_TARGETS = ("cxx", "cmake", "nim", "pkg-config", "json")  # for whatever is made of C++
PHASES = ("both", "compile", "link")


def emit(plan: AnyPlan, target: str, phase: str = "both") -> str:
    """Return the text of a plan in one syntax, without a final newline.

    Args:
        plan: what to write.
        target: a key of `TARGETS`.
        phase: "both", or only what a compile or a link step needs.

    Raises:
        InexpressibleError: a path of the plan, or the platform, cannot be written in this syntax.
        UsageError: no such target or phase.
    """
    if target not in TARGETS or phase not in PHASES:
        raise UsageError(
            f"No such target or phase: {target!r}, {phase!r}.",
            hint=f"Targets: {', '.join(TARGETS)}; phases: {', '.join(PHASES)}.",
        )
    if plan.platform == "windows" and target not in FOR_WINDOWS:
        raise InexpressibleError(
            f"{target} has no flags for a libtorch for Windows.", hint=f"Use --{' or --'.join(FOR_WINDOWS)}."
        )
    made = plan.options
    if target not in CXX_TARGETS and (made.plugin or made.python_extension or made.embed_python is not None):
        raise InexpressibleError(
            f"{target} has flags for programs, not for plugins, Python extensions and programs that embed Python.",
            hint=f"Use --{' or --'.join(CXX_TARGETS)}.",
        )
    text: str = importlib.import_module(f"torchlink.emit.{TARGETS[target]}").emit(plan, phase)
    return text
