"""The C++ standard that a libtorch's headers require, and the one that its build files prefer."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from torchlink.bounds import whole_number
from torchlink.libtorch.version import release

if TYPE_CHECKING:
    from torchlink.libtorch.layout import Layout

# Headers that reject an older standard with #error; which of them does so varies by version.
GUARDS = (
    "ATen/ATen.h",
    "c10/util/C++17.h",
    "torch/csrc/api/include/torch/all.h",
    "c10/macros/Macros.h",
    "torch/headeronly/macros/Macros.h",
)
FALLBACK = 17
# Without headers: (first version, the standard its headers require, the one its build files prefer).
BY_VERSION = (((2, 14), 20, 20), ((2, 12), 17, 20), ((2, 1), 17, 17), ((1, 5), 14, 14), ((0, 0), 11, 11))


class Standard(NamedTuple):
    """C++ standards, as two digits."""

    required: int
    preferred: int
    evidence: str


def read_standard(layout: Layout, version: str | None) -> Standard:
    """Return the lowest standard that the headers accept, and the one that libtorch's build files set.

    Args:
        layout: where the headers are; without headers, the standards of this version are used.
        version: libtorch's, where it is known.
    """
    if not layout.tree.is_dir(layout.include):
        return standard_of(version)
    guard, guard_file = header_standard(layout)
    declared, declared_file = declared_standard(layout)
    if guard is None:
        if declared is None:
            return Standard(
                FALLBACK, FALLBACK, "assumed: neither the headers nor TorchConfig.cmake name a standard"
            )
        return Standard(declared, declared, f"{declared_file}; the headers check nothing")
    evidence = f"the check in {guard_file}"
    if declared is not None and declared > guard:
        return Standard(guard, declared, f"{evidence}; {declared_file} prefers {declared}")
    return Standard(guard, guard, evidence)


def standard_of(version: str | None) -> Standard:
    """Return the standards of a version."""
    number = release(version) if version else None
    if number is None:
        return Standard(FALLBACK, FALLBACK, "assumed: there are neither headers nor a version")
    required, preferred = next(asked for since, *asked in BY_VERSION if number >= since)
    return Standard(required, preferred, f"the version, {version}, because the headers are missing")


def header_standard(layout: Layout) -> tuple[int | None, str]:
    """Return the highest standard that a header requires, and that header."""
    best: tuple[int | None, str] = (None, "")
    for header in GUARDS:
        text = layout.tree.text(f"{layout.include}/{header}")
        standard = guard_in(text) if text else None
        if standard is not None and (best[0] is None or standard > best[0]):
            best = (standard, header)
    return best


def guard_in(text: str) -> int | None:
    """Return the standard below which a header stops with #error, or None.

    A guard is an #if that compares `__cplusplus` (or MSVC's `_MSVC_LANG`) and whose next directive is #error:
    `#if !defined(_MSC_VER) && __cplusplus < 201703L`.
    """
    joined = text.replace("\r\n", "\n").replace("\\\n", " ")
    directives = [line.lstrip("# \t") for line in joined.split("\n") if line.lstrip().startswith("#")]
    found = [
        whole_number(year[2:4])
        for condition, after in pairwise(directives)
        if after.startswith("error") and condition.startswith(("if", "elif"))
        for macro in ("__cplusplus", "_MSVC_LANG")
        for part in condition.split(macro)[1:]
        if (year := part.lstrip().removeprefix("<").strip()[:6]).isdigit() and part.lstrip().startswith("<")
    ]
    return max(found, default=None)


def declared_standard(layout: Layout) -> tuple[int | None, str]:
    """Return the standard that TorchConfig.cmake or torch's extension builder compiles with, and that file."""
    if layout.cmake_dir is not None:
        text = layout.tree.text(f"{layout.cmake_dir}/TorchConfig.cmake") or ""
        # CXX_STANDARD up to 2.14, a compile feature from 2.15 on.
        found = [*numbers_after(text, "CXX_STANDARD "), *numbers_after(text, "cxx_std_")]
        if found:
            return max(found), "TorchConfig.cmake"
    # How the extension builder compiles, not what its docstrings show as an example.
    text = layout.tree.text("utils/cpp_extension.py") or ""
    found = numbers_after(text, "'-fPIC', '-std=c++")
    return (max(found), "utils/cpp_extension.py") if found else (None, "")


def numbers_after(text: str, prefix: str) -> list[int]:
    """Return the two-digit numbers that follow a prefix."""
    return [whole_number(rest[:2]) for rest in text.split(prefix)[1:] if rest[:2].isdigit()]
