"""Target `d`: options of ldc2 and dmd."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.emit import cxx, quoting

if TYPE_CHECKING:
    from torchlink.capi_plan import AnyPlan


def emit(plan: AnyPlan, phase: str = "both") -> str:
    """Return a line for a shell; `-L` passes one argument to the linker. D compiles no header, so that step has none.

    Raises:
        InexpressibleError: a path has a tab or a line break.
    """
    arguments = () if phase == "compile" else cxx.linker_arguments(plan)
    return " ".join(quoting.shell(f"-L{argument}") for argument in arguments)
