"""CMake's prefix on disk, and running the commands of a build.

The prefix is written to a directory of the user's or to the cache. `run_steps` runs any build's commands and reports
the lines of the output that name the error.
"""

from __future__ import annotations

import os
import re
import shlex
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink import atomic
from torchlink.bounds import first_bytes, holds
from torchlink.compilation.cache import keep_log
from torchlink.compilation.launcher import launcher
from torchlink.emit import cmake_prefix, cmake_syntax
from torchlink.errors import BuildFailedError, FileError
from torchlink.libtorch.disk import read_text
from torchlink.libtorch.tree import check_unpacked
from torchlink.paths import cache_dir, close_to_others, distrust, lasting, working_directory
from torchlink.process import run
from torchlink.projects.cmake import ProjectTools
from torchlink.projects.writing import encoded, write_project
from torchlink.toolchain.tools import find_tool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torchlink.plan import LinkPlan


# Strongest first: a compiler's own errors, then those of linkers, CMake and Nim.
DECISIVE = (
    re.compile(r"\b(fatal error|internal compiler error): "),
    re.compile(r"\berror: |\bError: |CMake Error"),
    re.compile(r"undefined reference to|undefined symbol|cannot find -l|multiple definition of"),
    re.compile(r"cannot find|No such file or directory|[Kk]illed|No space left|out of memory|not found"),
)
# collect2, ninja and make only repeat that something failed.
UNINFORMATIVE = re.compile(r"ld returned \d+ exit status|build stopped|^make.*\*\*\*")
LONGEST = 300  # characters of a line that are shown
OWN = "# Written by torchlink"  # near the beginning of every file of the prefix
HEAD = 1 << 16  # bytes that are searched for it


def decisive_lines(output: str, most: int = 5) -> tuple[str, ...]:
    """Return the first lines that name an error, at most `most`; the last lines where none does."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    informative = [line for line in lines if not UNINFORMATIVE.search(line)]
    for pattern in DECISIVE:
        found = list(dict.fromkeys(line for line in informative if pattern.search(line)))
        if found:
            return tuple(line[:LONGEST] for line in found[:most])
    return tuple(line[:LONGEST] for line in lines[-most:])


def project_tools() -> ProjectTools:
    """Return which of the tools that a CMake project uses are installed."""
    cmake = find_tool("cmake")
    return ProjectTools(
        cmake_version=cmake.version if cmake else (),
        generator="Ninja" if find_tool("ninja") else "Unix Makefiles",
        launcher=launcher(),
    )


def prefix_files(plan: LinkPlan) -> dict[str, str]:
    """Return the files of the prefix for a libtorch, by their name relative to it.

    Raises:
        LibtorchUnusableError: libtorch is not extracted.
        InexpressibleError: CMake cannot carry a path of the plan.
    """
    check_unpacked(plan.libtorch)
    targets = (
        place / "Caffe2" / "Caffe2Targets.cmake"
        for place in (plan.libtorch.root / "share" / "cmake", plan.libtorch.library_dir / "cmake")
    )
    upstream = next((read_text(file) for file in targets if file.is_file()), "")
    return cmake_prefix.files(
        plan,
        cmake_prefix.upstream_definitions(upstream, cpu_only=plan.options.cpu_only),
        cmake_prefix.main_library(plan).file.stat().st_size,
    )


def write_prefix(plan: LinkPlan, directory: Path | None = None, *, force: bool = False) -> Path:
    """Write the prefix to the user's directory, or to the cache under a name derived from its content.

    A cached prefix is never changed, so a build directory that uses it stays configured.

    Raises:
        WouldOverwriteError: the user's directory has files of these names that torchlink has not written, and
            `force` is off; nothing was written.
        FileError: the directory cannot be written.
        LibtorchUnusableError: libtorch is not extracted.
        InexpressibleError: CMake cannot carry a path of the plan.
    """
    cmake_syntax.check_directory(os.path.normpath(directory) if directory else cache_dir())
    files = prefix_files(plan)
    if directory is None:
        version = re.sub(r"[^\w.+-]", "_", plan.libtorch.version or "unknown")
        return _keep(files, f"libtorch-{version}")
    write_project(files, directory, force=force, is_ours=_is_own)
    return directory


def write_with_prefix(
    files: Mapping[str, str | bytes], plan: LinkPlan, directory: Path, place: str, *, force: bool = False
) -> tuple[Path, ...]:
    """Write a project and the prefix that it uses: both, or nothing.

    Args:
        files: the project's, by their name relative to `directory`.
        plan: the prefix's.
        directory: the project's.
        place: the prefix's own directory, relative to it.
        force: overwrite existing files.

    Returns:
        The project's files that were written.

    Raises:
        WouldOverwriteError: a file of the user's exists and `force` is off.
        FileError: the directory cannot be created or written.
        LibtorchUnusableError: libtorch is not extracted.
        InexpressibleError: CMake cannot carry a path of the plan.
    """
    # As CMake will name it: through the links in $PWD, without `..`.
    cmake_syntax.check_directory(os.path.normpath(Path(working_directory(), directory)))
    prefix = {f"{place}/{name}": text for name, text in prefix_files(plan).items()}
    beside = frozenset(directory / name for name in prefix)
    return write_project(
        {**files, **prefix}, directory, force=force, is_ours=lambda path: path in beside and _is_own(path)
    )[: len(files)]


def write_initial_cache(text: str) -> Path:
    """Write a script for `cmake -C` to the cache and return its path."""
    return _keep({"initial-cache.cmake": text}, "configure") / "initial-cache.cmake"


def _keep(files: Mapping[str, str], name: str) -> Path:
    """Return a directory of the cache with exactly these files, complete or absent."""
    key = sha256("\0".join(f"{file}\0{text}" for file, text in files.items()).encode())
    directory = cache_dir() / "cmake" / f"{name}-{key.hexdigest()[:16]}"

    def is_whole() -> bool:
        return distrust(directory) is None and _holds(directory, files)

    try:
        directory = lasting("cmake") / directory.name
        if is_whole():
            return directory
        with atomic.beside(directory) as work:
            fresh = work / "whole"
            atomic.fill(fresh, {file: encoded(text) for file, text in files.items()})
            close_to_others(fresh)
            # A directory that somebody has changed is replaced.
            atomic.move_in(fresh, directory, stays=is_whole)
    except OSError as error:
        raise FileError(
            f"Cannot write {directory}: {error.strerror}.",
            hint="Set TORCHLINK_CACHE_DIR to a writable directory.",
        ) from error
    return directory


def _holds(directory: Path, files: Mapping[str, str]) -> bool:
    try:
        return all(
            distrust(directory / name) is None and holds(directory / name, encoded(text))
            for name, text in files.items()
        )
    except OSError:
        return False


def _is_own(file: Path) -> bool:
    """Whether there is no file, or one that torchlink has written."""
    try:
        return OWN.encode() in first_bytes(file, HEAD)
    except FileNotFoundError:
        return True
    except (OSError, FileError):
        return False


def run_steps(steps: Sequence[Sequence[str]], directory: Path, *, log_name: str) -> float:
    """Run commands in a directory, one after the other, and return the seconds that it took.

    Raises:
        BuildFailedError: one failed; the details are its decisive lines, the command, and the path of the full log.
        FileError: that log cannot be written.
    """
    seconds = 0.0
    log = ""
    for step in steps:
        done = run(step, cwd=directory)
        seconds += done.seconds
        output = f"{done.stdout}{done.stderr}"
        command = shlex.join(step)
        log += f"$ {command}\n{output}\nexit status {done.returncode}\n\n"
        if done.returncode != 0:
            path = keep_log(log_name, log)
            killed = f" (killed by signal {-done.returncode})" if done.returncode < 0 else ""
            error = BuildFailedError(
                f"The reference loader could not be built{killed}.",
                hint="Your own program would fail in the same way; check the libtorch with `torchlink find`.",
                details=(*decisive_lines(output), f"command: {command}", f"full log: {path}"),
            )
            error.log = path
            raise error
    return seconds
