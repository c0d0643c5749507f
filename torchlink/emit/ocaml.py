"""Target `ocaml`: fields for a dune file, and the same for a command line of ocamlopt."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from torchlink.emit import cxx, quoting

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torchlink.capi_plan import AnyPlan

PLAIN = re.compile(r"[-+.,/0-9=A-Za-z_:@~^]+")  # atoms that dune reads without quotes


def emit(plan: AnyPlan, phase: str = "both") -> str:
    """Return fields for an `(executable …)`; of one step, the list alone, for `(:include FILE)`.

    Raises:
        InexpressibleError: a path has a line break, or the name of a library a space.
    """
    if phase == "compile":
        return _list(cxx.flags(plan, "compile"))
    if phase == "link":
        return _list(link_options(plan))
    return "\n".join((
        f"; ocamlopt: {quoting.comment(' '.join(map(shlex.quote, link_options(plan))))}",
        "(foreign_stubs",
        f" (language {'c' if plan.is_c else 'cxx'})",
        " (names stubs)",
        f" (flags (:standard {' '.join(map(_atom, cxx.flags(plan, 'compile')))})))",
        f"(link_flags {_list(link_options(plan))})",
    ))  # fmt: skip


def link_options(plan: AnyPlan) -> list[str]:
    """Return options of ocamlopt: what comes before the objects in `-ccopt`, libraries after them in `-cclib`.

    ocamlopt gives `-ccopt` to a shell as it is, and splits `-cclib` at blanks.
    """
    words: list[str] = []
    before = ""
    for flag in cxx.by_c_driver(plan):
        quoting.expressible(flag, r"[\n\r]", "in a dune file: it has a line break")
        is_library = before != "-Xlinker" and flag.startswith(
            ("-l", "/", "-Wl,--push-state", "-Wl,--pop-state")
        )
        before = flag
        if is_library:
            quoting.expressible(flag, r"\s", "in -cclib, which ocamlopt splits at blanks")
        words += ["-cclib", flag] if is_library else ["-ccopt", shlex.quote(flag)]
    return words


def _list(words: Iterable[str]) -> str:
    return f"({' '.join(map(_atom, words))})"


def _atom(word: str) -> str:
    """Quote for dune: a string has escapes, and `%{` begins a variable."""
    quoting.expressible(word, r"[\n\r]", "in a dune file: it has a line break")
    if PLAIN.fullmatch(word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%{", "\\%{")
    return f'"{escaped}"'
