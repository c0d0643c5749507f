"""Targets: the syntaxes a link plan is written in.

One module each, with `emit(plan, half) -> str`, a pure function.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from torchlink.errors import UsageError

if TYPE_CHECKING:
    from torchlink.plan import LinkPlan

# Target -> the module below torchlink.emit that writes it; the order is the order of messages and help.
TARGETS = {
    "cxx": "cxx",
    "cmake": "cmake",
    "nim": "nim",
    "pkg-config": "pkg_config",
    "json": "json_plan",
}
HALVES = ("both", "compile", "link")


def emit(plan: LinkPlan, target: str, half: str = "both") -> str:
    """The text of a plan in one syntax, without a final newline.

    Args:
        plan: what to write.
        target: a key of `TARGETS`.
        half: "both", or only what a compile or a link step needs.

    Raises:
        InexpressibleError: a path of the plan cannot be written in this syntax.
        UsageError: there is no such target or half.
    """
    if target not in TARGETS or half not in HALVES:
        raise UsageError(
            f"There is no target {target!r} with half {half!r}.",
            hint=f"Targets: {', '.join(TARGETS)}; halves: {', '.join(HALVES)}.",
        )
    text: str = importlib.import_module(f"torchlink.emit.{TARGETS[target]}").emit(plan, half)
    return text
