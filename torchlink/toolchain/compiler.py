"""C++ compilers: finding one, reading what it is, and which C++ standards it implements.

An accepted flag is not enough: g++ 8 accepts `-std=c++2a` and has no `<bit>`. Sources of the tables: 17 from g++ 9
and clang 9 is libtorch's own check (`c10/util/C++17.h`, because the layout of `std::optional` changed in libstdc++ 9);
20 from g++ 11 is the requirement in PyTorch's README, and g++ 11.3, clang 13 and clang 14 compile the headers of 2.15,
which need it.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchlink.errors import ResourcesError, ToolMissingError, ToolUnfitError, TorchlinkError, UsageError
from torchlink.process import run, which
from torchlink.toolchain.tools import identity_of, remembered
from torchlink.toolchain.types import Compiler

if TYPE_CHECKING:
    from collections.abc import Sequence


Version = tuple[int, ...]

PUBLISHED = (98, 3, 11, 14, 17, 20, 23, 26)  # by year; the last is not yet published
COMPILERS: dict[str, tuple[tuple[int, Version], ...]] = {
    "gcc": ((11, (4, 8, 1)), (14, (5,)), (17, (9,)), (20, (11,)), (23, (14,))),
    "clang": ((11, (3, 3)), (14, (3, 4)), (17, (9,)), (20, (13,)), (23, (18,))),
    "apple-clang": ((11, (4, 2)), (14, (6,)), (17, (11,)), (20, (15,)), (23, (17,))),
}
# By _GLIBCXX_RELEASE, which libstdc++ defines since 7; 0: an older one.
LIBSTDCXX: tuple[tuple[int, int], ...] = ((11, 0), (14, 0), (17, 9), (20, 11), (23, 14))
UNKNOWN_COMPILER = (11, 14, 17, 20)
# clang uses the newest libstdc++ here, so a new one changes the compiler without changing its file.
LIBSTDCXX_DIR = "/usr/include/c++"
DEFAULT_COMPILERS = ("c++", "g++", "clang++")
# Programs that precede a compiler on the command line, or replace it through a symlink.
LAUNCHERS = frozenset({"ccache", "sccache", "distcc", "icecc", "buildcache"})
INCLUDE_VARIABLES = frozenset({"CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "OBJC_INCLUDE_PATH"})
C_DRIVERS = {"gcc": "g++", "clang": "clang++", "cc": "c++"}
C_DRIVER = re.compile(r"(?P<target>.+-)?(?P<driver>gcc|clang|cc)(?P<version>-[\d.]+)?")
OWN_PROGRAMS = ("torchlink", "torchlink-c++")
# Set for compilers that torchlink starts: a script that calls torchlink again would otherwise recurse endlessly.
INSIDE = "TORCHLINK_INSIDE"
INSTALL_HINT = "Install g++ or clang++ (Debian, Ubuntu: apt install g++), or name one with CXX or --compiler."


def find_compiler(command: str | None = None) -> Compiler:
    """Return the C++ compiler of a command; by default `$CXX`, then c++, g++ or clang++ on PATH.

    Args:
        command: as a user types it, split as a shell does: `g++-11`, `ccache g++ -m64`.

    Raises:
        ToolMissingError: no such program.
        ToolUnfitError: the program does not behave like GCC or clang.
        UsageError: the command cannot be split into arguments.
    """
    arguments, named_by = _command(command)
    position = _compiler_position(arguments)
    program = which(arguments[position])
    if program is None:
        raise ToolMissingError(
            f"{named_by} names {arguments[position]}, which is not a program on PATH.", hint=INSTALL_HINT
        )
    options = tuple(arguments[position + 1 :])
    identity = identity_of(_without_launcher(program))
    library = identity_of(LIBSTDCXX_DIR) if os.path.isdir(LIBSTDCXX_DIR) else ""  # noqa: PTH112 - on every start
    key = "\0".join((program, identity, library, *options))
    answer: Any = remembered("compiler", key, lambda: _ask(program, options))
    return Compiler(
        command=tuple(arguments),
        path=Path(program),
        kind=answer["kind"],
        version=tuple(answer["version"]),
        target=answer["target"],
        standards=implemented(answer["kind"], tuple(answer["version"]), answer["libstdcxx"]),
        default_cxx11_abi=answer["default_cxx11_abi"],
        identity=identity,
        standard_library=answer["standard_library"],
        dual_abi=answer["dual_abi"],
        include_dirs=tuple(answer["include_dirs"]),
        libstdcxx=answer["libstdcxx"],
        abi_predefined=answer["abi_predefined"],
        default_standard=answer["default_standard"],
    )


def accepts_standard(compiler: Compiler, standard: int) -> bool:
    """Whether a compiler accepts `-std=c++N`, however little of the standard it implements."""
    command = (
        str(compiler.path),
        *options_of(compiler),
        f"-std=c++{standard}",
        "-fsyntax-only",
        "-x",
        "c++",
        "-",
    )

    def ask() -> dict[str, object]:
        try:
            done = run(command, stdin="int main() {}\n", env={**os.environ, INSIDE: "1"})
        except ResourcesError:
            raise
        except TorchlinkError:  # a compiler for another machine
            return {"accepted": False}
        return {"accepted": done.returncode == 0}

    return bool(remembered("standard", "\0".join((compiler.identity, *command)), ask)["accepted"])


def options_of(compiler: Compiler) -> tuple[str, ...]:
    """Return the options after the program in the compiler's command."""
    return compiler.command[_compiler_position(compiler.command) + 1 :]


def has_default_compiler() -> bool:
    """Whether $CXX is set or one of the usual compilers is on PATH."""
    return bool(os.environ.get("CXX", "").strip()) or any(map(which, DEFAULT_COMPILERS))


def cxx_name(program: str) -> str | None:
    """Return the C++ counterpart of a C compiler driver: `g++-12` for `gcc-12`; None for other programs."""
    prefix, slash, name = program.rpartition("/")
    found = C_DRIVER.fullmatch(name)
    if found is None:
        return None
    return f"{prefix}{slash}{found['target'] or ''}{C_DRIVERS[found['driver']]}{found['version'] or ''}"


def _command(command: str | None) -> tuple[list[str], str]:
    """Return the command as arguments, and where it is from."""
    named_by = "The compiler option"
    if command is None:
        command, named_by = os.environ.get("CXX", ""), "$CXX"
    if not command.strip() or (named_by == "$CXX" and (is_torchlink(command) or INSIDE in os.environ)):
        found = next((name for name in DEFAULT_COMPILERS if which(name)), None)
        if found is None:
            raise ToolMissingError(
                f"No C++ compiler: none of {', '.join(DEFAULT_COMPILERS)} is on PATH.", hint=INSTALL_HINT
            )
        return [found], "PATH"
    if which(command):  # an unquoted path with spaces
        return [command], named_by
    try:
        return shlex.split(command), named_by
    except ValueError as error:
        raise UsageError(
            f"{named_by} is {command!r}, which is not a command: {error}.", hint="Check its quotes."
        ) from None


def is_torchlink(command: str) -> bool:
    """Whether a command runs torchlink itself: make passes on `CXX="torchlink c++"`, and CMake its program."""
    return any(word.rpartition("/")[2] in OWN_PROGRAMS for word in command.split())


def has_launcher(compiler: Compiler) -> bool:
    """Return whether the command starts a launcher: `ccache g++`, or a link to one (`/usr/lib/ccache/g++`)."""
    posing = Path(os.path.realpath(compiler.path)).name in LAUNCHERS
    return posing or _compiler_position(compiler.command) > 0


def _compiler_position(arguments: Sequence[str]) -> int:
    """Return the index of the compiler in a command: the first program that is not a launcher."""
    for index, argument in enumerate(arguments[:-1]):
        if os.path.basename(argument) not in LAUNCHERS:  # noqa: PTH119 - an argument, perhaps not a path
            return index
    return len(arguments) - 1


def _without_launcher(program: str) -> str:
    """Return the compiler that a symlink to a launcher (`/usr/lib/ccache/g++`) starts, otherwise `program`."""
    if Path(os.path.realpath(program)).name not in LAUNCHERS:
        return program
    name = Path(program).name
    for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
        other = os.path.join(directory, name)  # noqa: PTH118 - PATH entries are strings
        if os.access(other, os.X_OK) and Path(os.path.realpath(other)).name not in LAUNCHERS:
            return other
    return program


def _ask(program: str, options: Sequence[str]) -> dict[str, object]:
    """Run the compiler on a tiny source and read what it prints."""
    from torchlink.toolchain.probe import PROBE_ARGUMENTS, PROBE_SOURCE, read_probe

    # Directories from the user's environment are not the compiler's own.
    environment = {name: value for name, value in os.environ.items() if name not in INCLUDE_VARIABLES}
    environment[INSIDE] = "1"
    command = (program, *options, *PROBE_ARGUMENTS)
    done = run(command, stdin=PROBE_SOURCE, env={**environment, "LC_ALL": "C"}, timeout=60)
    probe = read_probe(done.stdout, done.stderr) if done.returncode == 0 else None
    if probe is None:
        raise ToolUnfitError(
            f"{shlex.join((program, *options))} does not behave like a C++ compiler (GCC or clang).",
            hint="Name one with CXX or --compiler; a C++ standard library must be installed with it.",
            details=tuple(done.stderr.strip().splitlines()[-3:]),
        )
    return {
        "kind": probe.kind,
        "version": probe.version,
        "target": probe.target,
        "standard_library": probe.standard_library,
        "libstdcxx": probe.libstdcxx,
        "default_cxx11_abi": probe.default_cxx11_abi,
        "abi_predefined": probe.abi_predefined,
        "default_standard": probe.default_standard,
        "dual_abi": probe.dual_abi,
        "include_dirs": [os.path.realpath(directory) for directory in probe.include_dirs],
    }


def library_of(compiler: Compiler, name: str) -> str | None:
    """Return where a compiler finds a library by file name, symlinks of the directory resolved; None if nowhere."""
    command = (str(compiler.path), *options_of(compiler), f"-print-file-name={name}")
    try:
        file = run(command, env={**os.environ, INSIDE: "1"}, timeout=60).stdout.strip()
    except TorchlinkError:  # a compiler for another machine
        return None
    if not file.startswith("/") or not os.path.isfile(file):  # noqa: PTH113 - plain strings
        return None
    directory, _, last = file.rpartition("/")
    return f"{os.path.realpath(directory)}/{last}"


def runtime_libraries(compiler: Compiler) -> dict[str, str]:
    """Return the shared C and C++ libraries that a compiler links with: name → path."""
    key = "\0".join((compiler.identity, str(compiler.path), *options_of(compiler)))
    found = remembered(
        "runtime", key, lambda: {name: library_of(compiler, name) for name in ("libc.so.6", "libstdc++.so.6")}
    )
    return {name: str(file) for name, file in found.items() if file}


def implemented(kind: str, version: Version, libstdcxx: int | None) -> tuple[int, ...]:
    """Return the standards that a compiler implements, ascending.

    Args:
        kind: as in `Compiler.kind`; an unknown one is assumed to implement every standard that libtorch needs.
        version: the compiler's version.
        libstdcxx: the release of the libstdc++ in use; None for another standard library.
    """
    table = COMPILERS.get(kind)
    by_compiler = (
        UNKNOWN_COMPILER if table is None else tuple(std for std, since in table if version >= since)
    )
    if libstdcxx is None:
        return by_compiler
    by_library = {std for std, since in LIBSTDCXX if libstdcxx >= since}
    return tuple(std for std in by_compiler if std in by_library)


def held_back_by_library(kind: str, version: Version, libstdcxx: int | None, standard: int) -> int | None:
    """Return the libstdc++ release that a standard needs, if only libstdc++ is too old for it; otherwise None."""
    since = next((since for std, since in LIBSTDCXX if std == standard), None)
    if since is None or libstdcxx is None or libstdcxx >= since:
        return None
    return since if standard in implemented(kind, version, None) else None


def first_version(kind: str, standard: int) -> str:
    """Return the first version of a kind of compiler with a standard, `11`, for messages; empty if unknown."""
    for std, since in COMPILERS.get(kind, ()):
        if std == standard:
            return ".".join(map(str, since))
    return ""
