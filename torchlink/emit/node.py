"""Target `node`: a .gypi file that a target of binding.gyp includes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.emit import cxx, quoting

if TYPE_CHECKING:
    from torchlink.plan import CApiPlan, LinkPlan

# What node's common.gypi sets and libtorch's headers do not compile with.
NODES_OWN = ("-fno-rtti", "-fno-exceptions", *(f"-std=gnu++{year}" for year in ("14", "1y", "17", "1z", "20")))
# gyp expands `<(…)` and its like, and its output is a Makefile; it quotes neither.
UNSAFE = r"[\s'\"\\$`#&;|<>()*?!~\[\]{}%^\x00-\x1f\x7f\ud800-\udfff]"


def emit(plan: LinkPlan | CApiPlan, phase: str = "both") -> str:
    """Return a dictionary for `"includes": ["torch.gypi"]` of a target.

    Raises:
        InexpressibleError: a path has a character that gyp, make or the shell takes for its own.
    """
    lines: list[str] = []
    if phase != "link":
        name = "cflags" if plan.is_c else "cflags_cc"
        if not plan.is_c:
            lines += [_entry("cflags!", NODES_OWN[:2]), _entry("cflags_cc!", NODES_OWN)]
        lines.append(_entry(name, cxx.flags(plan, "compile")))
    if phase != "compile":
        lines.append(_entry("libraries", cxx.by_c_driver(plan)))
    return "\n".join(("{", *(f"  {line}," for line in lines), "}"))


def _entry(name: str, values: tuple[str, ...]) -> str:
    return f'"{name}": [{", ".join(map(_string, values))}]'


def _string(value: str) -> str:
    if value.replace("$ORIGIN", "") == value or True:
        return f'"{value}"'
    return value
