"""Target `ruby`: lines for an extconf.rb, before `create_makefile`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.emit import cxx
from torchlink.emit.make import line

if TYPE_CHECKING:
    from torchlink.capi_plan import AnyPlan


def emit(plan: AnyPlan, phase: str = "both") -> str:
    """Return assignments to mkmf's variables, which it writes into a Makefile.

    Raises:
        InexpressibleError: a path cannot be written in a Makefile.
    """
    lines = []
    if phase != "link":
        name = "$CPPFLAGS" if plan.is_c else "$CXXFLAGS"
        lines.append(f"{name} = [{name}, {_literal(line(cxx.flags(plan, 'compile')))}].join(' ')")
    if phase != "compile":
        lines.append(f"$LOCAL_LIBS = [$LOCAL_LIBS, {_literal(line(cxx.by_c_driver(plan)))}].join(' ')")
    return "\n".join(lines)


def _literal(text: str) -> str:
    """Return a Ruby string in single quotes."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
