"""Which C++ standard a libtorch needs and which it prefers: the checks in its headers, and what it declares."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torchlink.libtorch.layout import Layout

# Headers that refuse an older compiler with #error. Which of them does changes with the version.
GUARDS = (
    "ATen/ATen.h",
    "c10/util/C++17.h",
    "torch/csrc/api/include/torch/all.h",
    "c10/macros/Macros.h",
    "torch/headeronly/macros/Macros.h",
)
TOO_OLD = re.compile(r"(?:__cplusplus|_MSVC_LANG)\s*<\s*(\d{4})\d\dL")
DIRECTIVE = re.compile(r"^[ \t]*#[ \t]*(\w+)(.*)$", re.MULTILINE)
CMAKE_STANDARD = re.compile(r"\bCXX_STANDARD\s+(\d\d)\b|\bcxx_std_(\d\d)\b")
# How cpp_extension.py compiles, not what its docstrings show as an example.
EXTENSION_STANDARD = re.compile(r"""['"]-fPIC['"], ['"]-std=c\+\+(\d\d)['"]""")
FALLBACK = 17


@dataclass(frozen=True, slots=True)
class Standard:
    """C++ standards as their two digits."""

    required: int
    preferred: int
    evidence: str


def read_standard(layout: Layout) -> Standard:
    """The least standard that the headers accept, and the one that libtorch's own build files hand on."""
    guard, guard_file = header_standard(layout)
    declared, declared_file = declared_standard(layout)
    if guard is not None:
        required, evidence = guard, f"the check in {guard_file}"
    elif declared is not None:
        return Standard(declared, declared, f"{declared_file}; the headers check nothing")
    else:
        return Standard(FALLBACK, FALLBACK, "an assumption: neither headers nor TorchConfig.cmake tell")
    if declared is not None and declared > required:
        return Standard(required, declared, f"{evidence}; {declared_file} prefers {declared}")
    return Standard(required, required, evidence)


def header_standard(layout: Layout) -> tuple[int | None, str]:
    """The highest standard that some header insists on, and that header."""
    best: tuple[int | None, str] = (None, "")
    for header in GUARDS:
        text = layout.tree.text(f"{layout.include}/{header}")
        standard = guard_in(text) if text else None
        if standard is not None and (best[0] is None or standard > best[0]):
            best = (standard, header)
    return best


def guard_in(text: str) -> int | None:
    """The standard below which a header's text stops with #error, or None.

    A guard is an #if that compares `__cplusplus` (or MSVC's `_MSVC_LANG`) and whose next directive is #error:
    `#if !defined(_MSC_VER) && __cplusplus < 201703L`.
    """
    directives = [
        (match[1], match[2]) for match in DIRECTIVE.finditer(text.replace("\\\n", " ").replace("\\\r\n", " "))
    ]
    found = [
        int(year[-2:])
        for (name, condition), (after, _) in zip(directives, directives[1:], strict=False)
        if name in {"if", "elif"} and after == "error"
        for year in TOO_OLD.findall(condition)
    ]
    return max(found, default=None)


def declared_standard(layout: Layout) -> tuple[int | None, str]:
    """What TorchConfig.cmake or torch's own extension builder compiles with."""
    if layout.cmake_dir is not None:
        text = layout.tree.text(f"{layout.cmake_dir}/TorchConfig.cmake") or ""
        found = [int(one or other) for one, other in CMAKE_STANDARD.findall(text)]
        if found:
            return max(found), "TorchConfig.cmake"
    match = EXTENSION_STANDARD.search(layout.tree.text("utils/cpp_extension.py") or "")
    return (int(match[1]), "utils/cpp_extension.py") if match else (None, "")
