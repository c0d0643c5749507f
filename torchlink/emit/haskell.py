"""Target `haskell`: fields of a .cabal file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.emit import cxx, quoting

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torchlink.capi_plan import AnyPlan

PLAIN = re.compile(r"[-+./0-9=A-Za-z_:]+")


def emit(plan: AnyPlan, phase: str = "both") -> str:
    """Return fields for an executable or a library (cabal-version 2.2 and newer).

    Raises:
        InexpressibleError: a path has a control character or is not UTF-8.
    """
    fields: list[tuple[str, list[str]]] = []
    if phase != "link":
        name = "cc-options" if plan.is_c else "cxx-options"
        fields.append((name, list(cxx.flags(plan, "compile"))))
    if phase != "compile":
        named = [library.name for library in plan.libraries if cxx.linked_by_name(plan, library)]
        in_fields = {f"-L{directory}" for directory in plan.library_dirs} | {f"-l{name}" for name in named}
        fields += [
            ("extra-lib-dirs", [str(directory) for directory in plan.library_dirs]),
            ("extra-libraries", [*named, *plan.runtime_libraries]),
            ("ld-options", [flag for flag in cxx.flags(plan, "link") if flag not in in_fields]),
        ]
    return "\n".join(f"{name}: {_tokens(words)}" for name, words in fields if words)


def _tokens(words: Iterable[str]) -> str:
    return " ".join(map(_token, words))


def _token(word: str) -> str:
    """Quote as a Haskell string."""
    quoting.expressible(
        word, r"[\x00-\x1f\x7f\ud800-\udfff]", "in a .cabal file: it has a control character or is not UTF-8"
    )
    if PLAIN.fullmatch(word) and not word.startswith("--"):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
