"""Target `ada`: switches of gprbuild and gnatmake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.emit import cxx, quoting

if TYPE_CHECKING:
    from torchlink.capi_plan import AnyPlan

WHERE = "in switches of gprbuild, which adds the directory of -L to -rpath without quotes"


def emit(plan: AnyPlan, phase: str = "both") -> str:
    """Return a line for a shell, to put at the end of `gprbuild -P …`: `-cargs` for its C or C++ sources, `-largs`.

    gnatmake has no C++ sources, and takes what `--link` prints.

    Raises:
        InexpressibleError: a path has a tab or a line break, or libtorch's a comma or a backslash.
    """
    for directory in plan.library_dirs:
        quoting.expressible(str(directory), r"[,\\]", WHERE)
    words: list[str] = []
    if phase != "link":
        words += [f"-cargs:{'C' if plan.is_c else 'C++'}", *cxx.flags(plan, "compile")]
    if phase != "compile":
        words += ["-largs", *cxx.by_c_driver(plan)]
    return " ".join(quoting.shell(word) for word in words)
