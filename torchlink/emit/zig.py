"""Target `zig`: options of `zig build-exe` and `zig build-lib`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.emit import quoting
from torchlink.errors import InexpressibleError

if TYPE_CHECKING:
    from torchlink.capi_plan import AnyPlan
    from torchlink.plan import PlanLibrary

GNU_RUNTIME = ("libstdc++.so.6", "libgcc_s.so.1")


def emit(plan: AnyPlan, phase: str = "both") -> str:
    """Return a line for a shell.

    zig compiles C++ with its own libc++, so C++ that uses libtorch itself is compiled by another compiler, and its
    object is linked with these options.

    Raises:
        InexpressibleError: a path has a tab or a line break, or a flag has no form in zig.
    """
    words: list[str] = []
    if phase != "link":
        words += [f"-D{name}={value}" for name, value in plan.defines]
        words += [word for directory in plan.all_include_dirs for word in ("-isystem", str(directory))]
    if phase != "compile":
        if plan.whole_archives:
            raise InexpressibleError(
                "zig has no flag that links one archive whole.",
                hint="Link the objects of the archive themselves.",
            )
        if plan.runtime_as_rpath:
            raise InexpressibleError(
                "zig cannot write the search path that this libtorch needs: it has no --disable-new-dtags.",
                hint="Use --rpath none and `torchlink run`.",
            )
        words += ["-lc", "-fno-each-lib-rpath", *(f"-L{directory}" for directory in plan.library_dirs)]
        words += [word for entry in plan.runtime_dirs for word in ("-rpath", entry)]
        words += [_library(library) for library in plan.libraries]
        words += [word for name in plan.runtime_libraries for word in _runtime(plan, name)]
    return " ".join(quoting.shell(word) for word in words)


def _library(library: PlanLibrary) -> str:
    if library.file.name not in {f"lib{library.name}.so", f"lib{library.name}.dylib"}:
        return str(library.file)
    return f"-needed-l{library.name}" if library.keep else f"-l{library.name}"


def _runtime(plan: AnyPlan, name: str) -> list[str]:
    """Return the files of GNU's C++ runtime: `-lstdc++` would be zig's own libc++, which has another ABI."""
    if name != "stdc++":
        return [f"-l{name}"]
    from torchlink.toolchain.compiler import library_of

    return [(plan.compiler and library_of(plan.compiler, file)) or file for file in GNU_RUNTIME]
