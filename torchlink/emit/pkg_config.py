"""Target `pkg-config`: a complete `torch.pc`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.emit import cxx, quoting
from torchlink.errors import InexpressibleError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchlink.plan import LinkPlan

# pkg-config prints most special characters of a path behind a backslash, which the shell keeps in $(pkg-config …), but
# not `$` and `(`, which `eval` would take for its own: xargs takes away the backslashes and nothing else.
NEEDS_XARGS = (
    "# A path here holds a space or another special character. In a shell or a Makefile: "
    "pkg-config --cflags --libs torch | xargs c++ main.cpp -o app"
)
# The only word for a directory of headers in which pkgconf 1.8 quotes a space is -I.
NOT_SYSTEM = (
    "# A path of libtorch's headers holds a space, which pkg-config does not quote after -isystem: they are named by "
    "-I, and the compiler shows its warnings about them."
)
# Meson and others put the flags of a .pc file behind their own.
LEFT_OUT = (
    "# No -std= is needed here: the compiler's default is C++{needed} or later.\n"
    "# A project that sets an older standard (Meson: cpp_std, otherwise CXXFLAGS) must be raised to C++{needed}."
)


def emit(plan: LinkPlan, phase: str = "both") -> str:
    """The text of a `torch.pc`; `half` leaves the other step's field empty.

    Raises:
        InexpressibleError: a path holds a line break, a comma in what is meant for the linker, or a space in
            what `-idirafter` names.
    """
    compile_words = () if phase == "link" else _compile_words(plan)
    link_words = () if phase == "compile" else _link_words(plan)
    if "-Xlinker" in link_words:
        raise InexpressibleError(
            f"{plan.libtorch.library_dir} cannot be written in a .pc file: pkg-config folds the repeated "
            "-Xlinker together that a path with a comma needs.",
            hint="Reach libtorch through a path without commas, or say --rpath none.",
        )
    special = any(quoting.pkg_config(word) != word for word in (*compile_words, *link_words))
    needed = plan.libtorch.cxx_standard_required
    silent = plan.shared_standard is None and phase != "link"
    shown = any(re.match(r"-I.*\s", word, re.DOTALL) for word in compile_words)
    return "\n".join(
        (
            *((NEEDS_XARGS,) if special else ()),
            *((NOT_SYSTEM,) if shown else ()),
            "Name: torch",
            f"Description: LibTorch, the C++ distribution of PyTorch; its headers need C++{needed} or later",
            f"Version: {_version(plan.libtorch.version)}",
            f"Cflags: {_field(compile_words)}",
            f"Libs: {_field(link_words)}",
            *((LEFT_OUT.format(needed=needed),) if silent else ()),
        )
    )


def _version(version: str | None) -> str:
    """The public part of a version; 0 for none, because the field may not be missing."""
    found = re.match(r"[0-9][A-Za-z0-9._]*", version or "")
    return found[0] if found else "0"


def _link_words(plan: LinkPlan) -> tuple[str, ...]:
    """The flags of `cxx`, with nothing side by side that pkgconf would take for one word in two parts.

    pkgconf 1.8 (not 3.0) joins two words that begin with -Wl, and prints their spaces unquoted; a -L between them
    keeps them apart, and a repeated -L is dropped from what it prints.
    """
    words = tuple(_by_path(plan, word) for word in cxx.words(plan, "link"))
    if not plan.library_dirs or not any(re.search(r"\s", word) for word in words):
        return words
    apart: list[str] = []
    for word in words:
        if apart and apart[-1].startswith("-Wl,") and word.startswith("-Wl,"):
            apart.append(f"-L{plan.library_dirs[0]}")
        apart.append(word)
    return tuple(apart)


def _by_path(plan: LinkPlan, word: str) -> str:
    """A word that keeps a library, with that by its path: Meson drops every -L, for it resolves the -l it sees."""
    for library in plan.libraries:
        if library.keep and "," not in str(library.file):
            word = word.replace(f",-l{library.name},", f",{library.file},")
    return word


def _compile_words(plan: LinkPlan) -> tuple[str, ...]:
    """The flags of `cxx`, an option and its directory as one word: pkgconf keeps only those together.

    The standard is not the preferred one, and left out where the compiler's default suffices: Meson and others put
    these flags behind their own, which they would overrule.
    """
    own = f"-std=c++{plan.cxx_standard}"
    words = iter(word for word in cxx.words(plan, "compile") if word != own)
    standard = () if plan.shared_standard is None else (f"-std=c++{plan.shared_standard}",)
    return (
        *(_include(word, next(words)) if word in {"-isystem", "-idirafter"} else word for word in words),
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
        hint="Leave --headers after away, or reach libtorch through a path without spaces.",
    )


def _field(words: Sequence[str]) -> str:
    return " ".join(quoting.pkg_config(word) for word in words)
