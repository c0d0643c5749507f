"""Quoting for CMake's language, and for text that CMake passes on without quoting it again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.errors import InexpressibleError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torchlink.plan import PlanLibrary

# CMake splits lists at ';' unless a square bracket is open before it, turns '\' in paths into '/',
# evaluates '$<' in properties, writes search paths as -Wl,-rpath,PATH, and leaves '|' as it is for Ninja or
# Make.
UNSAFE_IN_PATH = re.compile(r"[;\\\[\],|\x00-\x1f\x7f\ud800-\udfff]|\$<")
# A flag among the libraries reaches the shell unchanged. These are special there even between double quotes, and '$' is
# special to Ninja and Make too.
UNSAFE_IN_FLAG = re.compile(r"[$`\"]")
# Directories that CMake 3.25 does not configure or build in (Makefiles), found by trying, as for unbalanced brackets.
UNSAFE_DIRECTORY = re.compile(r'[;\\"|\n\r]')
SYMLINK_HINT = "Make a symlink to libtorch without these characters, and name it with --libtorch."


def quote(text: str) -> str:
    """Return a quoted argument that CMake reads as exactly this text."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"'


def path(file: Path | str) -> str:
    """Check a path that goes into a list and a target's property, and return it unquoted.

    Raises:
        InexpressibleError: CMake would split or rewrite it, or it is not text.
    """
    text = str(file)
    if UNSAFE_IN_PATH.search(text):
        raise InexpressibleError(
            f"CMake cannot pass the path {text!a} to the compiler: CMake splits a path at a semicolon, comma, bar, "
            "backslash or square bracket, at '$<' or a control character, and takes only UTF-8.",
            hint=SYMLINK_HINT,
        )
    return text


def check_directory(directory: Path | str) -> None:
    """Check that CMake can work in a directory, or read a config file there.

    Raises:
        InexpressibleError: CMake would split the path.
    """
    text = str(directory)
    if UNSAFE_DIRECTORY.search(text) or text.count("[") != text.count("]"):
        raise InexpressibleError(
            f"CMake cannot work in {text!a}: it splits a path at a semicolon, backslash, double quote, bar, line "
            "break or unbalanced square bracket.",
            hint="Name a directory without them.",
        )


def path_list(files: Iterable[Path | str]) -> str:
    """Return a quoted list of paths."""
    return quote(";".join(path(file) for file in files))


def kept(library: PlanLibrary) -> str:
    """Return one item for `target_link_libraries` that links a library even if no symbol references it.

    It is a single item because CMake merges repeated flags, and a library rather than a link option because only
    libraries pass through a static library that uses libtorch privately.
    """
    return f"-Wl,--push-state,--no-as-needed,{_in_flag(library.file)},--pop-state"


def whole(archive: Path, platform: str) -> str:
    """Return one item for `target_link_libraries` that links all objects of a static library."""
    if platform == "windows":
        return f"-WHOLEARCHIVE:{_in_flag(archive)}"
    if platform == "macos":
        return linker_flag("-force_load", str(archive))
    return f"-Wl,--push-state,--whole-archive,{_in_flag(archive)},--pop-state"


def linker_flag(option: str, value: str) -> str:
    """Return one item for `target_link_libraries` that passes an option with a value to the linker."""
    return f"-Wl,{option},{_in_flag(value)}"


def unlisted(library: PlanLibrary) -> str:
    """Return one item for `target_link_libraries` that links a library without CMake recognising its directory."""
    return f"-Wl,{_in_flag(library.file)}"


def _in_flag(value: Path | str) -> str:
    text = path(value)
    if UNSAFE_IN_FLAG.search(text):
        raise InexpressibleError(
            f"CMake cannot pass the path {text} in a linker flag: a dollar sign, a double quote and a backquote are "
            "special there.",
            hint=SYMLINK_HINT,
        )
    return f'"{text}"'
