"""Target `crystal`: the annotation of a `lib`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.emit import cxx, quoting

if TYPE_CHECKING:
    from torchlink.capi_plan import AnyPlan


def emit(plan: AnyPlan, phase: str = "both") -> str:
    """Return a line to put above `lib NAME`; crystal gives its text to a shell, that of the last line first.

    Crystal compiles no header, so that step has no flags.

    Raises:
        InexpressibleError: a path has a tab or a line break.
    """
    if phase == "compile":
        return ""
    line = " ".join(quoting.shell(flag) for flag in cxx.by_c_driver(plan))
    escaped = line.replace("\\", "\\\\").replace('"', '\\"').replace("#{", "\\#{")
    return f'@[Link(ldflags: "{escaped}")]'
