"""Target `julia`: a constant for a Julia program."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.emit import cxx
from torchlink.errors import InexpressibleError

if TYPE_CHECKING:
    from torchlink.capi_plan import AnyPlan

ORIGIN = "$ORIGIN/"


def emit(plan: AnyPlan, phase: str = "both") -> str:
    """Return the library that `@ccall` opens, or for C++ the flags of a shim, which `run` takes as they are.

    Raises:
        InexpressibleError: the C API is an archive.
    """
    if not plan.is_c:
        words = ", ".join(map(_string, cxx.flags(plan, phase)))
        return f"const {plan.package}_flags = String[{words}]"
    if phase == "compile":
        return ""
    library = plan.libraries[0]
    if library.file.suffix == ".a":
        raise InexpressibleError(
            "Julia opens shared libraries, and this C API is an archive.",
            hint="Write the C API again without --static.",
        )
    return f"const lib{plan.package} = {_place(plan, library.file.name)}"


def _place(plan: AnyPlan, name: str) -> str:
    directory = next(iter(plan.runtime_dirs), None)
    if directory is None:
        return _string(name)  # LD_LIBRARY_PATH has the directory
    if not f"{directory}/".startswith(ORIGIN):
        return _string(f"{directory}/{name}")
    words = (directory[len(ORIGIN) :], name)
    return f"joinpath(@__DIR__, {', '.join(_string(word) for word in words if word)})"


def _string(text: str) -> str:
    escaped = re.sub(r'[\\"$]', r"\\\g<0>", text)
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\x{ord(found[0]):02x}", escaped) + '"'
