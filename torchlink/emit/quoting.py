"""Quoting of one word, per syntax; each refuses what its syntax cannot express."""

from __future__ import annotations

import re
import shlex

from torchlink.errors import InexpressibleError
from torchlink.shown import visible

# Patterns as text, compiled by the first word that needs one: the start-up of `flags` does not.
RESPONSE_FILE_SPECIAL = r"([\s'\"\\])"
# Whatever the shell-like splitting of a field, `${variable}` or a comment could take for itself.
PKG_CONFIG_SPECIAL = r"([^\w@%+=:,./^-])"


def comment(text: str) -> str:
    """A text for a comment that ends with its line, as those of CMake, Nim, pkg-config and shells do."""
    return visible(text)


def shell(word: str) -> str:
    """A word for a POSIX shell that survives `eval c++ $(torchlink flags)`.

    There the shell splits the line at blanks and `eval` joins it again with one space each, so that no two
    blanks may stand side by side, not even between quotes.

    Raises:
        InexpressibleError: it holds a tab or a line break, which would come back as a space.
    """
    if re.search(r"[\t\n]", word):
        raise InexpressibleError(
            f"{word!r} cannot be written on a shell line: its tab or line break would become a space.",
            hint="Use --response-file, or reach libtorch through a path without it.",
        )
    return re.sub(r" (?= )", " ''", shlex.quote(word))


def response_file(word: str) -> str:
    """A word for a GCC or clang response file (`@PATH`), where a backslash makes any character literal."""
    return re.sub(RESPONSE_FILE_SPECIAL, r"\\\1", word)


def windows(word: str) -> str:
    """A word for cmd.exe and for the response files of MSVC.

    Raises:
        InexpressibleError: it holds a quote or a percent sign, which no quoting there makes literal.
    """
    if '"' in word or "%" in word:
        raise InexpressibleError(
            f"{word} cannot be written on a Windows command line: it holds a quote or a percent sign.",
            hint="Reach libtorch through a path without them.",
        )
    return f'"{word}"' if re.search(r"[\s&|<>^;,()]", word) else word


def pkg_config(word: str) -> str:
    """A word for a field of a `.pc` file, where a backslash makes any character literal.

    Raises:
        InexpressibleError: it holds a line break, which ends a field.
    """
    if "\n" in word or "\r" in word:
        raise InexpressibleError(
            f"{word!r} cannot be written in a .pc file: it holds a line break.",
            hint="Reach libtorch through a path without it.",
        )
    return re.sub(PKG_CONFIG_SPECIAL, r"\\\1", word, flags=re.ASCII)
