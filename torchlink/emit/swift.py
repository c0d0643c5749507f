"""Target `swift`: options of swiftc."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.emit import cxx, quoting

if TYPE_CHECKING:
    from torchlink.capi_plan import AnyPlan


def emit(plan: AnyPlan, phase: str = "both") -> str:
    """Return a line for a shell. Swift reads the header of the C API; C++ is a shim's, so that step has no flags.

    Every argument goes to the linker behind `-Xlinker`: swiftc would move its own `-l` and `-L` in front of them.

    Raises:
        InexpressibleError: a path has a tab or a line break.
    """
    words: list[str] = []
    if plan.is_c and phase != "link":
        words += ["-import-objc-header", str(plan.include_dirs[0] / f"{plan.package}.h")]
    if phase != "compile":
        words += [word for argument in cxx.linker_arguments(plan) for word in ("-Xlinker", argument)]
    return " ".join(quoting.shell(word) for word in words)
