"""Target `fortran`: options of gfortran, which links with the C++ runtime only if it is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.emit import cxx, quoting

if TYPE_CHECKING:
    from torchlink.capi_plan import AnyPlan


def emit(plan: AnyPlan, phase: str = "both") -> str:
    """Return a line for a shell. Fortran compiles no header, so that step has no flags.

    Raises:
        InexpressibleError: a path has a tab or a line break.
    """
    flags = () if phase == "compile" else cxx.by_c_driver(plan)
    return " ".join(quoting.shell(flag) for flag in flags)
