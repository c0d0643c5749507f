"""What CMake needs on disk: torchlink's prefix, and the facts about this machine that its text depends on."""

from __future__ import annotations

import os
import re
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink import atomic
from torchlink.bounds import first_bytes, holds
from torchlink.build.project import encoded, write_project
from torchlink.emit import cmake_prefix, cmake_syntax
from torchlink.emit.cmake_project import ProjectTools
from torchlink.errors import FileError
from torchlink.libtorch.disk import read_text
from torchlink.libtorch.packed import check_unpacked
from torchlink.paths import cache_dir, close_to_others, distrust, lasting, working_directory
from torchlink.toolchain.tools import find_tool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torchlink.plan import LinkPlan

LAUNCHERS = ("ccache", "sccache")
HEAD = 1 << 16  # bytes in which it stands
OWN = "# Written by torchlink"  # at the head of every file of the prefix


def project_tools() -> ProjectTools:
    """What is installed here of the tools that a CMake project uses."""
    cmake = find_tool("cmake")
    return ProjectTools(
        cmake_version=cmake.version if cmake else (),
        generator="Ninja" if find_tool("ninja") else "Unix Makefiles",
        launcher=launcher(),
    )


def launcher() -> str | None:
    """The compiler launcher that is installed, by its bare name."""
    return next((name for name in LAUNCHERS if find_tool(name)), None)


def prefix_files(plan: LinkPlan) -> dict[str, str]:
    """The files of torchlink's prefix for a libtorch on this machine, by their name relative to it.

    Raises:
        LibtorchUnusableError: it is not extracted.
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
    """Put the prefix into a directory of the user's, or into the cache under a name made of its content.

    A cached prefix is never changed, so a build directory that names it stays configured.

    Raises:
        WouldOverwriteError: the user's directory holds such files that torchlink has not written, and
            `force` is off; nothing was written.
        FileError: the place cannot be written.
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
    files: Mapping[str, str], plan: LinkPlan, directory: Path, place: str, *, force: bool = False
) -> tuple[Path, ...]:
    """Write a project together with the prefix that it uses: both, or nothing.

    Args:
        files: of the project, by their name relative to `directory`.
        plan: of the prefix.
        directory: the project's.
        place: the prefix's own directory, relative to it.
        force: overwrite what stands there.

    Returns:
        The project's files that were written.

    Raises:
        WouldOverwriteError: something of the user's stands there and `force` is off.
        FileError: the directory cannot be made or written.
        LibtorchUnusableError: libtorch is not extracted.
        InexpressibleError: CMake cannot carry a path of the plan.
    """
    # As CMake will name it: by the way that its user came, without `..`.
    cmake_syntax.check_directory(os.path.normpath(Path(working_directory(), directory)))
    prefix = {f"{place}/{name}": text for name, text in prefix_files(plan).items()}
    beside = frozenset(directory / name for name in prefix)
    return write_project(
        {**files, **prefix}, directory, force=force, is_ours=lambda path: path in beside and _is_own(path)
    )[: len(files)]


def write_initial_cache(text: str) -> Path:
    """Put a script for `cmake -C` into the cache and return its path."""
    return _keep({"initial-cache.cmake": text}, "configure") / "initial-cache.cmake"


def _keep(files: Mapping[str, str], name: str) -> Path:
    """A directory of the cache that holds exactly these files; written beside, so whole or absent."""
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
            # What somebody has changed must not stay.
            atomic.move_in(fresh, directory, stays=is_whole)
    except OSError as error:
        raise FileError(
            f"Cannot write {directory}: {error.strerror}.",
            hint="Name a directory that you may write to with TORCHLINK_CACHE_DIR.",
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
    """Whether nothing of the user's stands there."""
    try:
        return OWN.encode() in first_bytes(file, HEAD)
    except FileNotFoundError:
        return True
    except (OSError, FileError):
        return False
