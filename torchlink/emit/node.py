"""Target `node`: a .gypi file that a target of binding.gyp includes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from torchlink.emit import cxx, quoting

if TYPE_CHECKING:
    from torchlink.capi_plan import AnyPlan

# What node's common.gypi sets and libtorch's headers do not compile with.
NODES_OWN = (
    "-fno-rtti",
    "-fno-exceptions",
    *(f"-std=gnu++{year}" for year in ("14", "1y", "17", "1z", "20")),
)
# gyp expands `<(…)` and its like, merges repeated flags, and quotes a double quote once more.
UNSAFE = r"[<>^][|!@(]|[\"\x00-\x1f\x7f\ud800-\udfff]|^-Xlinker$"
WHERE = "in a .gyp file: gyp expands or merges a comma, a double quote, `<(` and its like"


def emit(plan: AnyPlan, phase: str = "both") -> str:
    """Return a dictionary for `"includes": ["torch.gypi"]` of a target; gyp writes its text into a Makefile as it is.

    Raises:
        InexpressibleError: gyp would change a path.
    """
    lines: list[str] = []
    if phase != "link":
        flags = cxx.flags(plan, "compile")
        if plan.platform == "macos":
            lines.append(_for_xcode(flags))
        elif plan.is_c:
            lines.append(_entry("cflags", flags))
        else:
            lines += [_entry("cflags!", NODES_OWN[:2]), _entry("cflags_cc!", NODES_OWN)]
            lines.append(_entry("cflags_cc", flags))
    if phase != "compile":
        lines.append(_entry("libraries", cxx.by_c_driver(plan)))
    return "\n".join(("{", *(f"  {line}," for line in lines), "}"))


def _for_xcode(flags: tuple[str, ...]) -> str:
    """Return the same for macOS, where gyp ignores `cflags` and takes the settings of an Xcode project."""
    on = ", ".join(f'"GCC_ENABLE_CPP_{name}": "YES"' for name in ("EXCEPTIONS", "RTTI"))
    return f'"xcode_settings": {{{on}, {_entry("OTHER_CPLUSPLUSFLAGS", flags)}}}'


def _entry(name: str, values: tuple[str, ...]) -> str:
    return f'"{name}": [{", ".join(map(_string, values))}]'


def _string(flag: str) -> str:
    text = quoting.makefile(quoting.expressible(flag, UNSAFE, WHERE))
    return json.dumps(quoting.expressible(text, UNSAFE, WHERE), ensure_ascii=False)
