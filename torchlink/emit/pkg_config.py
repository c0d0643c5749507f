"""Target `pkg-config`: a complete `torch.pc`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.emit import cxx, quoting
from torchlink.errors import InexpressibleError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torchlink.capi_plan import AnyPlan, CApiPlan
    from torchlink.plan import LinkPlan

# pkg-config puts a backslash before most special characters, which the shell keeps in $(pkg-config …), but not before
# `$` and `(`, which `eval` would expand; xargs only removes the backslashes.
NEEDS_XARGS = (
    "# A path here has a space or another special character. In a shell or a Makefile: "
    "pkg-config --cflags --libs torch | xargs c++ main.cpp -o app"
)
# The only include option after which pkgconf 1.8 quotes a space is -I.
NOT_SYSTEM = (
    "# A path of libtorch's headers has a space, which pkg-config does not quote after -isystem. With -I instead, the "
    "compiler shows its warnings about these headers."
)
# Meson and others put the flags of a .pc file after their own.
LEFT_OUT = (
    "# No -std= is needed here: the compiler's default is C++{needed} or later.\n"
    "# A project that sets an older standard (Meson: cpp_std, otherwise CXXFLAGS) must be raised to C++{needed}."
)


def emit(plan: AnyPlan, phase: str = "both") -> str:
    """Return the text of a `torch.pc` or, of the C API, a `torchmodel.pc`; `phase` leaves the other step's field empty.

    Raises:
        InexpressibleError: a path has a line break, a comma in a linker argument, or a space after `-idirafter`.
    """
    from torchlink.plan import LinkPlan as OfLibtorch

    if not isinstance(plan, OfLibtorch):
        return _c_api(plan, phase)
    compile_flags = () if phase == "link" else _compile_flags(plan)
    linking = () if phase == "compile" else link_flags(plan)
    _check_commas(linking, plan.libtorch.library_dir)
    for archive in plan.whole_archives:
        if "," in str(archive):
            raise InexpressibleError(
                f"{archive} cannot be written in a .pc file: pkg-config merges the repeated flags that a path with a "
                "comma needs.",
                hint="Reach it through a path without commas.",
            )
    special = any(quoting.pkg_config(flag) != flag for flag in (*compile_flags, *linking))
    needed = plan.libtorch.cxx_standard_required
    silent = plan.shared_standard is None and phase != "link"
    shown = any(re.match(r"-I.*\s", flag, re.DOTALL) for flag in compile_flags)
    return "\n".join(
        (
            *((NEEDS_XARGS,) if special else ()),
            *((NOT_SYSTEM,) if shown else ()),
            "Name: torch",
            f"Description: LibTorch, the C++ distribution of PyTorch; its headers need C++{needed} or later",
            f"Version: {_version(plan.libtorch.version)}",
            f"Cflags: {field(compile_flags)}",
            f"Libs: {field(linking)}",
            *((LEFT_OUT.format(needed=needed),) if silent else ()),
        )
    )


def _c_api(plan: CApiPlan, phase: str) -> str:
    """Return the text of a .pc file for the C API."""
    place = plan.include_dirs[0]
    linking = () if phase == "compile" else cxx.flags(plan, "link")
    _check_commas(linking, place)
    return "\n".join((
        f"Name: {plan.package}",
        "Description: a C API over libtorch, written by torchlink",
        f"Version: {plan.version}",
        f"Cflags: {'' if phase == 'link' else field([f'-I{place}'])}",
        f"Libs: {field(linking)}",
    ))  # fmt: skip


def _check_commas(linking: tuple[str, ...], place: Path) -> None:
    if "-Xlinker" in linking:
        raise InexpressibleError(
            f"{place} cannot be written in a .pc file: pkg-config merges the repeated "
            "-Xlinker that a path with a comma needs.",
            hint="Reach libtorch through a path without commas, or use --rpath none.",
        )


def _version(version: str | None) -> str:
    """Return the public part of a version; 0 if unknown, because the field is required."""
    found = re.match(r"[0-9][A-Za-z0-9._]*", version or "")
    return found[0] if found else "0"


def link_flags(plan: LinkPlan) -> tuple[str, ...]:
    """Return the link flags of `cxx`, arranged so that pkgconf does not join any two.

    pkgconf 1.8 (not 3.0) joins two adjacent flags that begin with -Wl, and prints their spaces unquoted. A -L between
    them prevents that, and pkgconf does not print a repeated -L.
    """
    # How a module is made is for the build tool to know (Meson: py.extension_module).
    making = cxx.module_flags(plan)
    flags = tuple(_by_path(plan, flag) for flag in cxx.flags(plan, "link")[len(making) :])
    if not plan.library_dirs or not any(re.search(r"\s", flag) for flag in flags):
        return flags
    apart: list[str] = []
    for flag in flags:
        if apart and apart[-1].startswith("-Wl,") and flag.startswith("-Wl,"):
            apart.append(f"-L{plan.library_dirs[0]}")
        apart.append(flag)
    return tuple(apart)


def _by_path(plan: LinkPlan, flag: str) -> str:
    """Name a required library by its path: Meson drops every -L, and resolves only the -l that it recognises."""
    for library in plan.libraries:
        if library.keep and "," not in str(library.file):
            flag = flag.replace(f",-l{library.name},", f",{library.file},")
    return flag


def _compile_flags(plan: LinkPlan) -> tuple[str, ...]:
    """Return the compile flags of `cxx`, each option joined with its directory, as pkgconf requires.

    The standard is not the preferred one, and is left out where the compiler's default suffices: Meson and others put
    these flags after their own, which a standard here would override.
    """
    own = f"-std=c++{plan.cxx_standard}"
    flags = iter(flag for flag in cxx.flags(plan, "compile") if flag != own)
    standard = () if plan.shared_standard is None else (f"-std=c++{plan.shared_standard}",)
    return (
        *(_include(flag, next(flags)) if flag in {"-isystem", "-idirafter"} else flag for flag in flags),
        *standard,
    )


def _include(option: str, directory: str) -> str:
    if not re.search(r"\s", directory):
        return f"{option}{directory}"
    # pkgconf 1.8 prints the space after -isystem unquoted (3.0 does not), but not the one after -I.
    if option == "-isystem":
        return f"-I{directory}"
    raise InexpressibleError(
        f"{directory} cannot be written after {option} in a .pc file: pkg-config does not quote its space.",
        hint="Omit --headers after, or reach libtorch through a path without spaces.",
    )


def field(flags: Iterable[object]) -> str:
    """Return the text of a field with flags or paths."""
    return " ".join(quoting.pkg_config(str(flag)) for flag in flags)


def linker_dirs(text: str) -> tuple[Path, ...]:
    """Return the directories of `-rpath-link` in the text of a .pc file that torchlink wrote."""
    quoted = re.findall(r"(?<= )-Wl,-rpath-link,((?:\\.|[^\s\\])+)", text)
    return tuple(Path(re.sub(r"\\(.)", r"\1", each)) for each in quoted)
