"""Targets: the syntaxes that a link plan is written in.

Each is a module with the function `emit(plan, phase) -> str`, which writes nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from torchlink.errors import UsageError

if TYPE_CHECKING:
    from torchlink.plan import CApiPlan, LinkPlan

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
}
PHASES = ("both", "compile", "link")


def emit(plan: LinkPlan | CApiPlan, target: str, phase: str = "both") -> str:
    """Return the text of a plan in one syntax, without a final newline.

    Args:
        plan: what to write.
        target: a key of `TARGETS`.
        phase: "both", or only what a compile or a link step needs.

    Raises:
        InexpressibleError: a path of the plan cannot be written in this syntax.
        UsageError: no such target or phase.
    """
    if target not in TARGETS or phase not in PHASES:
        raise UsageError(
            f"No such target or phase: {target!r}, {phase!r}.",
            hint=f"Targets: {', '.join(TARGETS)}; phases: {', '.join(PHASES)}.",
        )
    text: str = importlib.import_module(f"torchlink.emit.{TARGETS[target]}").emit(plan, phase)
    return text
