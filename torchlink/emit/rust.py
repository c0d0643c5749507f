"""Target `rust`: the lines that a build.rs prints for cargo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.emit import cxx, quoting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.capi_plan import AnyPlan


def emit(plan: AnyPlan, phase: str = "both") -> str:
    """Return one instruction a line.

    The crate's own programs are linked by `rustc-link-arg`, whose flags come after all objects and libraries. Crates
    that depend on it get `rustc-link-lib` and `rustc-link-search`, the only ones that cargo hands on. `cxxflags` or
    `cflags` is for the build.rs of a crate that depends on one with a `links` key, as DEP_NAME_CXXFLAGS.

    Raises:
        InexpressibleError: a flag ends with a space, which cargo removes, or has a line break.
    """
    return "\n".join(f"cargo:{_checked(line)}" for line in _lines(plan, phase))


def _lines(plan: AnyPlan, phase: str) -> Iterator[str]:
    if phase != "link":
        name = "cflags" if plan.is_c else "cxxflags"
        yield f"{name}={' '.join(quoting.shell(flag) for flag in cxx.flags(plan, 'compile'))}"
    if phase == "compile":
        return
    yield from (f"rustc-link-search=native={directory}" for directory in plan.library_dirs)
    named = [library.name for library in plan.libraries if cxx.linked_by_name(plan, library)]
    runtime = plan.runtime_libraries if plan.platform != "windows" else ()
    yield from (f"rustc-link-lib=dylib={name}" for name in (*named, *runtime))
    yield from (f"rustc-link-arg={flag}" for flag in cxx.by_c_driver(plan))


def _checked(line: str) -> str:
    return quoting.expressible(
        line, r"[\n\r]|\s$", "in the output of a build.rs: cargo removes a space at its end"
    )
