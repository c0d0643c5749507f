"""Target `make`: a file that a Makefile includes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.emit import cxx, quoting

if TYPE_CHECKING:
    from torchlink.capi_plan import AnyPlan


def emit(plan: AnyPlan, phase: str = "both") -> str:
    """Return variables of its own, and lines that add them to those of make's built-in rules.

    The link flags have the C++ runtime, because make links `app` of `app.o` with $(CC).

    Raises:
        InexpressibleError: a path cannot be written in a Makefile.
    """
    prefix = plan.package.upper()
    used, flags = ("CPPFLAGS", f"{prefix}_CPPFLAGS") if plan.is_c else ("CXXFLAGS", f"{prefix}_CXXFLAGS")
    lines = []
    if phase != "link":
        lines += [f"{flags} := {line(cxx.flags(plan, 'compile'))}", f"{used} += $({flags})"]
    if phase != "compile":
        lines += [f"{prefix}_LDLIBS := {line(cxx.by_c_driver(plan))}", f"LDLIBS += $({prefix}_LDLIBS)"]
    return "\n".join(lines)


def line(flags: tuple[str, ...]) -> str:
    """Return flags for a variable of a Makefile that a shell reads."""
    return " ".join(quoting.makefile(flag) for flag in flags)
