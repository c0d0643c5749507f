"""Quoting for CMake's language, and for what CMake passes on without quoting it again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.errors import InexpressibleError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torchlink.plan import PlanLibrary

# CMake splits lists at ';' unless square brackets stand open before it, turns '\' in paths into '/',
# evaluates '$<' in properties, writes search paths as -Wl,-rpath,PATH, and leaves '|' as it is for Ninja or
# Make.
UNSAFE_IN_PATH = re.compile(r"[;\\\[\],|\x00-\x1f\x7f\ud800-\udfff]|\$<")
# A flag among the libraries reaches the shell as it is; between double quotes these still have a meaning
# there, and '$' has one for Ninja and Make, too.
UNSAFE_IN_FLAG = re.compile(r"[$`\"]")
# Directories that CMake 3.25 does not configure or build in (Makefiles): tried, and so are unbalanced brackets.
UNSAFE_DIRECTORY = re.compile(r'[;\\"|\n\r]')
SYMLINK_HINT = "Reach libtorch through a symlink without them, and name that with --libtorch."


def quote(text: str) -> str:
    """A quoted argument that CMake reads back as exactly this text."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"'


def path(file: Path | str) -> str:
    """A path that may stand in a list and in a target's property, not yet quoted.

    Raises:
        InexpressibleError: CMake would take it apart or rewrite it, or it is no text.
    """
    text = str(file)
    if UNSAFE_IN_PATH.search(text):
        raise InexpressibleError(
            f"CMake cannot carry the path {text!a} down to the compiler: it takes it apart at a semicolon, "
            "comma, bar, backslash or square bracket, at '$<' or a control character, or it is no UTF-8.",
            hint=SYMLINK_HINT,
        )
    return text


def check_directory(directory: Path | str) -> None:
    """See whether CMake can work in a directory, or read a config file there.

    Raises:
        InexpressibleError: it takes the path apart.
    """
    text = str(directory)
    if UNSAFE_DIRECTORY.search(text) or text.count("[") != text.count("]"):
        raise InexpressibleError(
            f"CMake cannot work in {text!a}: it takes a path apart at a semicolon, backslash, double quote, bar, line "
            "break or unbalanced square bracket.",
            hint="Name a directory without them.",
        )


def path_list(files: Iterable[Path | str]) -> str:
    """A quoted list of paths."""
    return quote(";".join(path(file) for file in files))


def kept(library: PlanLibrary) -> str:
    """One item for a target's libraries that links a library even where no symbol names it.

    One item, because CMake folds repeated flags together; among the libraries and not the link options,
    because only libraries pass through a static library that uses libtorch privately.
    """
    return f"-Wl,--push-state,--no-as-needed,{_in_flag(library.file)},--pop-state"


def linker_flag(option: str, value: str) -> str:
    """One item for a target's libraries that hands the linker an option with a value, as `-rpath`."""
    return f"-Wl,{option},{_in_flag(value)}"


def unlisted(library: PlanLibrary) -> str:
    """One item for a target's libraries that links a library without CMake knowing its directory."""
    return f"-Wl,{_in_flag(library.file)}"


def _in_flag(value: Path | str) -> str:
    text = path(value)
    if UNSAFE_IN_FLAG.search(text):
        raise InexpressibleError(
            f"CMake cannot carry the path {text} in a linker flag: a dollar sign, a double quote and a "
            "backquote have a meaning of their own there.",
            hint=SYMLINK_HINT,
        )
    return f'"{text}"'
