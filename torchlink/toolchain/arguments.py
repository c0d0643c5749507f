"""What a GCC or clang command line does: whether it compiles, whether it links, and with which standard.

The lists of options are from GCC's and clang's manuals; `@file` is read as GCC does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from torchlink.bounds import read_whole, whole_number
from torchlink.errors import FileError
from torchlink.status import exists, not_about_the_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Options that stop before linking.
NO_LINK = frozenset({
    "-c", "-S", "-E", "-M", "-MM", "-r", "-fsyntax-only", "-emit-ast",
    "--compile", "--assemble", "--preprocess", "--precompile", "--analyze",
})  # fmt: skip
# Options whose value is the next argument, which is not an input.
WITH_ARGUMENT = frozenset({
    "-o", "-x", "-I", "-D", "-U", "-L", "-F", "-T", "-u", "-z", "-e", "-A", "-B", "-G", "-MF", "-MT",
    "-MQ", "-MJ", "-Xlinker", "-Xassembler", "-Xpreprocessor", "-Xclang", "-Xarch_host", "-Xarch_device",
    "-mllvm", "-arch", "-target", "-include", "-imacros", "-include-pch", "-isystem", "-idirafter",
    "-iquote", "-iprefix", "-iwithprefix", "-iwithprefixbefore", "-isysroot", "-iframework", "-imultilib",
    "-imultiarch", "-aux-info", "-dumpbase", "-dumpbase-ext", "-dumpdir", "-wrapper", "-framework",
    "-weak_framework", "-install_name", "-current_version", "-compatibility_version", "-rpath", "-soname",
    "-serialize-diagnostics", "-ccc-gcc-name", "--param", "--sysroot", "--output", "--language",
    "--include", "--imacros", "--define-macro", "--undefine-macro", "--include-directory",
    "--library-directory",
})  # fmt: skip
# Options that change the ABI or the machine that a compiler compiles for.
TARGET_OPTION = re.compile(r"-stdlib=.+|-m(32|64|x32)|--target=.+|--gcc-toolchain=.+")
SOURCE_SUFFIXES = frozenset({
    ".c", ".cc", ".cp", ".cxx", ".cpp", ".CPP", ".c++", ".C", ".i", ".ii", ".m", ".mm", ".M", ".mi", ".mii",
    ".cppm", ".ccm", ".ixx", ".cu", ".hip",
})  # fmt: skip
HEADER_SUFFIXES = frozenset({".h", ".hh", ".hp", ".hpp", ".HPP", ".hxx", ".h++", ".H", ".tcc"})
STANDARD = re.compile(r"-(?:-)?std=(?:c|gnu)\+\+(\w+)")
ABI = re.compile(r"-([DU])_GLIBCXX_USE_CXX11_ABI(?:=(.*))?")
STANDARD_NAMES = {"0x": 11, "1y": 14, "1z": 17, "2a": 20, "2b": 23, "2c": 26, "98": 3, "03": 3}
MOST_RESPONSES = 8 << 20  # bytes of response files read for one command line
DEEPEST = 100  # nesting of response files
RESPONSE_ARGUMENT = re.compile(r"""(?:[^\s'"\\]|\\.|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")+""", re.DOTALL)
RESPONSE_PART = re.compile(r"""\\(.)|'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^'"\\]+)""", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Step:
    """What a command line does."""

    compiles: bool  # at least one input is source text
    links: bool  # the linker runs, with at least one input
    standard: int | None  # the last C++ standard set, 3 for C++98 and C++03; None: the compiler's default
    target_options: tuple[str, ...]  # those that choose the machine or the standard library
    cxx11_abi: str | None = None  # the last value of _GLIBCXX_USE_CXX11_ABI; None: the compiler's default
    output: str | None = None  # the file of -o


def read_arguments(arguments: Sequence[str]) -> Step:
    """Read the arguments after the compiler's name."""
    language = ""
    standard = None
    stops = False
    inputs: set[str] = set()
    target_options: list[str] = []
    abi = None
    output = None
    rest = expand(arguments)
    for argument in rest:
        if argument in WITH_ARGUMENT:
            value = next(rest, "")
            if argument in {"-x", "--language"}:
                language = value
            elif argument in {"-o", "--output"}:
                output = value
            elif argument == "-target":
                target_options += [argument, value]
            elif argument in {"-D", "-U", "--define-macro", "--undefine-macro"}:
                abi = _abi(f"-{argument.lstrip('-')[0].upper()}{value}", abi)
        elif argument.startswith("-x"):
            language = argument[2:]
        elif argument.startswith("-") and argument != "-" and not argument.startswith("-l"):
            stops = stops or argument in NO_LINK
            standard = _standard(argument, standard)
            abi = _abi(argument, abi)
            if argument.startswith(("-o", "--output=")):
                output = argument.removeprefix("--output=").removeprefix("-o")
            target_options += [argument] if TARGET_OPTION.fullmatch(argument) else []
        else:
            inputs.add(_kind(argument, language))
    # Headers alone become a precompiled header, which is not linked.
    return Step(
        compiles=bool(inputs & {"source", "header"}),
        links=bool(inputs & {"source", "object"}) and not stops,
        standard=standard,
        target_options=tuple(target_options),
        cxx11_abi=abi,
        output=output,
    )


def _abi(argument: str, before: str | None) -> str | None:
    """Return the value of the C++ ABI macro in a `-D` or `-U`; otherwise the one before."""
    found = ABI.fullmatch(argument)
    if not found:
        return before
    return None if found[1] == "U" else (found[2] or "1")


def _kind(argument: str, language: str) -> str:
    """Return what an input is: "source", "header" or "object" (also for libraries and assembler text)."""
    if argument.startswith("-l"):
        return "object"
    if argument.startswith("@") and exists(argument[1:]):  # not expanded: it may name a source
        return "source"
    if language not in {"", "none"}:
        if language.endswith("-header"):
            return "header"
        return "object" if language.startswith("assembler") else "source"
    suffix = PurePath(argument).suffix
    if suffix in HEADER_SUFFIXES:
        return "header"
    return "source" if argument == "-" or suffix in SOURCE_SUFFIXES else "object"


def _standard(argument: str, before: int | None) -> int | None:
    found = STANDARD.fullmatch(argument)
    if not found:
        return before
    name = found.group(1)
    return STANDARD_NAMES.get(name, whole_number(name) if name.isdigit() else before)


def expand(arguments: Sequence[str]) -> Iterator[str]:
    """Replace `@file` by the arguments in the file, recursively.

    The argument is left unchanged if the file does not exist, includes itself, is not a regular file (a FIFO can be
    read only once, by the compiler), or brings the total above `MOST_RESPONSES`.
    """
    return _expanded(arguments, frozenset(), [MOST_RESPONSES])


def _expanded(arguments: Sequence[str], within: frozenset[str], left: list[int]) -> Iterator[str]:
    """Expand arguments that are in the files `within`; `left` is the number of bytes that may still be read."""
    for argument in arguments:
        if not argument.startswith("@") or argument in within or len(within) == DEEPEST:
            yield argument
            continue
        try:
            data = read_whole(argument[1:], left[0])
        except (OSError, ValueError, FileError) as error:
            not_about_the_file(argument[1:], error)
            yield argument
            continue
        left[0] -= len(data)
        text = data.decode("utf-8", "surrogateescape")
        yield from _expanded(
            [_unquoted(found) for found in RESPONSE_ARGUMENT.findall(text)], within | {argument}, left
        )


def _unquoted(argument: str) -> str:
    """Return an argument of a response file without its quotes and backslashes."""
    parts = (
        escaped or re.sub(r"\\(.)", r"\1", single or double, flags=re.DOTALL) or plain
        for escaped, single, double, plain in RESPONSE_PART.findall(argument)
    )
    return "".join(parts)
