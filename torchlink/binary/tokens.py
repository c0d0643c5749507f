"""`$ORIGIN`, `$LIB` and `$PLATFORM` in search paths and names, expanded as glibc and musl do."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torchlink.binary.system import LoaderSystem

TOKEN = re.compile(r"\$(?:\{(ORIGIN|PLATFORM|LIB)\}|(ORIGIN|PLATFORM|LIB)(?![A-Za-z0-9_]))")
MUSL_TOKEN = re.compile(r"\$(?:ORIGIN|\{ORIGIN\})")


def expand(
    text: str, origin: str, system: LoaderSystem, *, secure: bool = False, program: bool = False
) -> str | None:
    """One entry with its tokens replaced, as glibc does; None when the loader throws the entry away.

    Args:
        text: one entry of a search path, or a NEEDED name.
        origin: what `$ORIGIN` stands for.
        system: says what `$LIB` and `$PLATFORM` stand for.
        secure: the program runs set-uid: `$ORIGIN` serves only as the first component.
        program: the entry is the program's own: set-uid, it must lead into a default directory.
    """
    if "$" not in text:
        return text
    values = {"ORIGIN": origin, "LIB": system.lib, "PLATFORM": system.platform}
    used = False
    for found in TOKEN.finditer(text):
        token = found.group(1) or found.group(2)
        if not values[token]:
            return None
        if token == "ORIGIN":  # noqa: S105 - a token of paths
            used = True
            if secure and (found.start() or text[found.end() : found.end() + 1] not in {"", "/"}):
                return None
    expanded = TOKEN.sub(lambda found: values[found.group(1) or found.group(2)], text)
    if used and secure and program:
        inside = posixpath.normpath(expanded) + "/"
        if not any(inside.startswith(f"{directory}/") for directory in system.default_dirs):
            return None
    return expanded


def expand_musl(text: str, origin: str) -> str | None:
    """A whole search path with `$ORIGIN` replaced, as musl does; None when it holds another token."""
    expanded = MUSL_TOKEN.sub(lambda _: origin, text)
    return None if "$" in MUSL_TOKEN.sub("", text) else expanded
