"""Commands: what the one that has failed says about files and tools, and whether a fix only repeats it."""

from __future__ import annotations

import os
import shlex
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.explain.expressions import Expression

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LARGEST_CACHE = 1 << 20  # bytes
HOME = Expression(r"(?m)^CMAKE_HOME_DIRECTORY:INTERNAL=(.+)$")
SEPARATOR = "\0"  # between the files of one value
COMPILER = Expression(r"(?:[\w.]+-)*(?:g\+\+|clang\+\+|c\+\+|gcc|clang|cc|nvcc)(?:-\d+)?$")
INTERPRETER = Expression(r"python[\d.]*$")
INPUT = Expression(r"[^-].*\.(?:cpp|cc|cxx|c|cu|o|a)$|[^-]\.(?:c|o|a)$")
SOURCES = (".cpp", ".cc", ".cxx", ".cu")
# Programs that are no program of the user's: their own errors are not those of a run.
TOOLS = Expression(
    r"(?:cmake|c?make|ninja|meson|nim|cargo|rustc|go|ghc|cabal|pip[\d.]*|uv|conda|bash|sh|env|docker|torchlink)$"
)
OPERATORS = Expression(r"[;&|<>`]|\$\(")
GROUPS = frozenset({"cmake", "nim", "new"})  # commands of torchlink that have commands of their own
VALUED = frozenset({"-isystem", "-I", "-L", "-D", "--compiler", "--libtorch", "--target", "--against"})


def tool_of(command: Sequence[str]) -> tuple[str, ...]:
    """Return the name of a command's tool, with the commands of torchlink, Nim and CMake's --build as parts of it."""
    words = list(command)
    if not words:
        return ()
    name = Path(words[0]).name
    if INTERPRETER.match(name) and words[1:2] == ["-m"] and words[2:3] == ["torchlink"]:
        name, words = "torchlink", words[2:]
    rest = [word for word in words[1:] if not word.startswith("-")]
    if name == "torchlink":
        return (name, *rest[: 2 if rest[:1] and rest[0] in GROUPS else 1])
    if name == "nim":
        return (name, *rest[:1])
    if name == "cmake" and words[1:2] == ["--build"]:
        return (name, "--build")
    return (name,)


def repeats(failed: Sequence[str], fix: str) -> bool:
    """Whether a fix is the command that has just failed: the same tool, and no option that it did not have."""
    try:
        words = shlex.split(fix)
    except ValueError:
        return False
    if not failed or not words:
        return False
    if OPERATORS.search(fix):
        return words == list(failed)
    tool = tool_of(words)
    if tool != tool_of(failed):
        return False
    if not (tool[0] in {"torchlink", "nim", "cmake"} or COMPILER.match(tool[0])):
        return words[1:] == list(failed)[1:]
    return all(word in failed for word in _deciding(words[1:]))


def _deciding(words: Sequence[str]) -> Iterator[str]:
    """Yield the arguments of a command that are more than its files: options, and values of some."""
    before = ""
    for word in words:
        if before == "--":
            return
        if before in VALUED or (word.startswith("-") and word not in {"-c", "-o", "--", "-S", "-B"}):
            yield word
        before = word if word == "--" or word.startswith("-") else ""


def values_of(command: Sequence[str]) -> Mapping[str, str]:
    """Return values for the samples in fixes that the command which has failed shows."""
    tool = tool_of(command)
    if not tool:
        return {}
    found: dict[str, str] = {}
    name, words = tool[0], list(command[1:])
    if tool in {("torchlink", "cmake", "configure"), ("cmake",)}:
        found |= _of_cmake(
            [word for word in words if word not in {"cmake", "configure", "--", "torchlink", "-m"}]
        )
    elif tool == ("cmake", "--build") and words[1:]:
        found |= {"build_dir": words[1]} | _configured(Path(words[1]))
    elif COMPILER.match(name) or tool == ("torchlink", "c++"):
        output = next((each for before, each in pairwise(words) if before == "-o"), "")
        inputs = [word for word in words if INPUT.match(word) and word != output]
        if inputs:
            found["inputs"] = SEPARATOR.join(inputs)
        if output:
            found["output"] = output
    elif name == "nim":
        nim = [word for word in words if word.endswith(".nim")]
        found |= {"nim": nim[-1]} if nim else {}
    elif INTERPRETER.match(name):
        found["interpreter"] = command[0]
        found["program"] = SEPARATOR.join(command)
    elif not TOOLS.match(name):
        found["program"] = SEPARATOR.join(command)
    return found


def _of_cmake(words: Sequence[str]) -> Mapping[str, str]:
    """Return the directories of sources and build of CMake's command line, as it reads it."""
    source = build = ""
    before = ""
    for word in words:
        if before in {"-S", "-H"}:
            source = word
        elif before == "-B":
            build = word
        elif word[:2] in {"-S", "-H", "-B"} and word[2:]:
            source, build = (source, word[2:]) if word[:2] == "-B" else (word[2:], build)
        elif not word.startswith("-") and before not in {"-D", "-G", "-C", "-U", "-A", "-T", "--preset"}:
            source = word
        before = word
    if not source and not build:
        return {}
    return {"source_dir": source or ".", "build_dir": build or "."}


def _configured(build: Path) -> dict[str, str]:
    """Return the directory of the sources that CMake has made a build directory for."""
    from torchlink.bounds import first_bytes
    from torchlink.errors import TorchlinkError

    try:
        cache = first_bytes(build / "CMakeCache.txt", LARGEST_CACHE).decode(errors="replace")
    except (OSError, TorchlinkError):
        return {}
    found = HOME.search(cache)
    return {"source_dir": os.path.relpath(found[1])} if found else {}


def source_of(file: str) -> str:
    """Return the source that an object was compiled from, where it lies beside it; a source is its own; none: ""."""
    path = Path(file)
    if path.suffix in SOURCES:
        return file
    found = (str(path.with_suffix(suffix)) for suffix in SOURCES)
    return next(filter(os.path.isfile, found), "")


def source_of_module(file: str) -> str:
    """Return the source of a Python extension, beside it or in the current directory; none: ""."""
    path = Path(file)
    stem = path.name.partition(".")[0]
    found = (str(place / (stem + suffix)) for place in (path.parent, Path()) for suffix in SOURCES)
    return next(filter(os.path.isfile, found), "")
