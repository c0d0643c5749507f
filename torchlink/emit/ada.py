"""Target `ada`: switches of gprbuild and gnatmake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.emit import cxx, quoting

if TYPE_CHECKING:
    from torchlink.plan import CApiPlan, LinkPlan


def emit(plan: LinkPlan | CApiPlan, phase: str = "both") -> str:
    """Return a line for a shell, to put at the end of `gprbuild -P …`: `-cargs` for its C or C++ sources, `-largs`.

    gnatmake has no C++ sources, and takes what `--link` prints.

    Raises:
        InexpressibleError: a path has a tab or a line break.
    """
    words: list[str] = []
    if phase != "link":
        words += [f"-cargs:{'C' if plan.is_c else 'C++'}", *cxx.flags(plan, "compile")]
    if phase != "compile":
        words += ["-largs", *cxx.by_c_driver(plan)]
    return " ".join(quoting.shell(word) for word in words)
