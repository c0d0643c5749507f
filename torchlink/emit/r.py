"""Target `r`: lines for the src/Makevars of an R package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.emit import cxx
from torchlink.emit.make import line

if TYPE_CHECKING:
    from torchlink.capi_plan import AnyPlan


def emit(plan: AnyPlan, phase: str = "both") -> str:
    """Return R's own variables; `CXX_STD` sets the standard, because `R CMD check` complains of a flag that does.

    Raises:
        InexpressibleError: a path cannot be written in a Makefile.
    """
    lines = []
    if phase != "link":
        flags = cxx.flags(plan, "compile")
        if plan.cxx_standard:
            lines.append(f"CXX_STD = CXX{plan.cxx_standard}")
            flags = flags[:-1]  # the standard
        lines.append(f"PKG_CPPFLAGS = {line(flags)}")
    if phase != "compile":
        lines.append(f"PKG_LIBS = {line(cxx.by_c_driver(plan))}")
    return "\n".join(lines)
