"""Quoting of one argument in each syntax; what a syntax cannot express is refused."""

from __future__ import annotations

import re
import shlex

from torchlink.errors import InexpressibleError
from torchlink.shown import visible

# Patterns as text, so that they are compiled only when used: start-up counts.
RESPONSE_FILE_SPECIAL = r"([\s'\"\\])"
# What is special to the shell-like splitting of a field, to `${variable}` and to comments.
PKG_CONFIG_SPECIAL = r"([^\w@%+=:,./^-])"


def comment(text: str) -> str:
    """Return a text on one line, for a comment in CMake, Nim, pkg-config or shell syntax."""
    return visible(text)


def shell(word: str) -> str:
    """Quote for a POSIX shell so that `eval c++ $(torchlink flags)` works.

    The shell splits the line at blanks and `eval` joins it with single spaces, so there must be no two adjacent
    blanks, not even between quotes.

    Raises:
        InexpressibleError: it has a tab or a line break, which would become a space.
    """
    if re.search(r"[\t\n]", word):
        raise InexpressibleError(
            f"{word!r} cannot be written on a shell line: its tab or line break would become a space.",
            hint="Use --response-file, or reach libtorch through a path without it.",
        )
    return re.sub(r" (?= )", " ''", shlex.quote(word))


def response_file(word: str) -> str:
    """Quote for a GCC or clang response file (`@PATH`), where a backslash makes any character literal."""
    return re.sub(RESPONSE_FILE_SPECIAL, r"\\\1", word)


def windows(word: str) -> str:
    """Quote for cmd.exe and for the response files of MSVC.

    Raises:
        InexpressibleError: it has a quote or a percent sign, which cannot be quoted there.
    """
    if '"' in word or "%" in word:
        raise InexpressibleError(
            f"{word} cannot be written on a Windows command line: it has a quote or a percent sign.",
            hint="Reach libtorch through a path without them.",
        )
    return f'"{word}"' if re.search(r"[\s&|<>^;,()]", word) else word


def pkg_config(word: str) -> str:
    """Quote for a field of a `.pc` file, where a backslash makes any character literal.

    Raises:
        InexpressibleError: it has a line break, which ends a field.
    """
    if "\n" in word or "\r" in word:
        raise InexpressibleError(
            f"{word!r} cannot be written in a .pc file: it has a line break.",
            hint="Reach libtorch through a path without it.",
        )
    return re.sub(PKG_CONFIG_SPECIAL, r"\\\1", word, flags=re.ASCII)


def makefile(word: str) -> str:
    """Quote for a variable of a Makefile that is used in a recipe, which a shell reads.

    Raises:
        InexpressibleError: it has a tab or a line break.
    """
    return re.sub(r"(\\*)#", r"\1\1\#", shell(word)).replace("$", "$$")


def expressible(word: str, unsafe: str, where: str) -> str:
    """Return a word if it has nothing that a syntax cannot express.

    Args:
        word: what will be written.
        unsafe: a pattern of what cannot be.
        where: continues "PATH cannot be written …", with the reason.

    Raises:
        InexpressibleError: the pattern matches.
    """
    if re.search(unsafe, word):
        raise InexpressibleError(
            f"{word!a} cannot be written {where}.",
            hint="Reach it through a path without that, such as a symlink.",
        )
    return word
