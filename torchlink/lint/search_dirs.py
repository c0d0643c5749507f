"""The entries of an object's RPATH or RUNPATH, each with its most severe flaw."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, NamedTuple

from torchlink.lint.context import directories_of, holds_torch, is_unseen
from torchlink.lint.torch_symbols import undefined_torch_symbols
from torchlink.status import exists, is_dir, not_about_the_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torchlink.binary.closure import LoadedObject
    from torchlink.lint.context import LintContext


HOME = r"/(?:root|(?:home|Users)/[^/]+)(?:/|$)"
# Directories that build tools and CI services create for every build.
BUILD = (
    r"/(?:_?build|builddir|cmake-build-[^/]*|bazel-out|_skbuild|\.tox|\.nox|conda-bld|_h_env_placehold[^/]*"
    r"|nimcache|pip-(?:build|install|req|ephem|modern)[^/]*)(?:/|$)"
    r"|^/(?:tmp|var/tmp|builds|builddir|__w|workspace|github/workspace|var/lib/jenkins|var/lib/buildkite-agent|drone/src)/"
)
BUILD_FILES = ("CMakeCache.txt", "build.ninja", ".ninja_log", "meson-private")
LOST_ORIGIN = r"/\.\.(?:/|$)|O?RIGIN\b|\{ORIGIN"  # what is left of `$ORIGIN/..` after a shell or make


class SearchDir(NamedTuple):
    """An entry of a search path."""

    owner: LoadedObject
    kind: str  # "rpath" | "runpath"
    text: str  # as written
    directory: str  # as the loader sees it, tokens expanded; "" is the current directory
    host: Path  # where that is on this machine
    flaw: str | None  # the id of the most severe rule that it breaks

    @property
    def portable(self) -> bool:
        """Whether it moves with the binary."""
        return "ORIGIN" in self.text


def all_entries(context: LintContext) -> tuple[SearchDir, ...]:
    """Return the search path entries of the user's own objects."""
    return tuple(entry for each in context.own for entry in entries_of(each, context))


def entries_of(each: LoadedObject, context: LintContext) -> Iterator[SearchDir]:
    """Return the entries of one object that the loader uses, each with its flaw."""
    kind = "rpath" if each.elf.dynamic.runpath is None else "runpath"
    for text, directory, host in directories_of(each, context):
        plain = SearchDir(each, kind, text, directory, host, None)
        yield plain._replace(flaw=flaw(plain, context))


def flaw(entry: SearchDir, context: LintContext) -> str | None:
    """Return the id of the most severe rule that an entry breaks, so that one entry gives one finding."""
    if not entry.directory.startswith("/") or re.match(LOST_ORIGIN, entry.directory):
        return "rpath-relative"
    allowed = any(begins(path, prefix) for prefix in context.options.allowed_rpath for path in names(entry))
    # The directories of a file that only a text describes are on another machine.
    exists = is_directory(entry.host) or is_unseen(entry.owner)
    if not entry.portable and world_writable(entry.host, exists=exists):
        return "rpath-world-writable"
    if context.options.allowed_rpath and not allowed:
        return "rpath-not-allowed"
    if not entry.portable and not allowed and is_of_build(entry):
        return "rpath-build-tree"
    # The entries of libtorch and its companions cover several layouts of the packages: unused ones do no harm.
    if entry.portable and context.came_with_torch:
        return None
    # While a library is missing, the entry may be meant for it, and the missing library is the finding.
    if not exists:
        return "rpath-missing-directory" if context.complete and not is_for_torch(entry, context) else None
    if context.complete and not is_used(entry, context):
        return "rpath-unused"
    system = any(begins(entry.directory, directory) for directory in context.system.default_dirs)
    return None if entry.portable or allowed or system else "rpath-absolute"


def is_for_torch(entry: SearchDir, context: LintContext) -> bool:
    """Whether an extension's entry leads to the torch beside its package, which is not there before it is installed."""
    return (
        context.imported is not None
        and entry.portable
        and components(entry.directory)[-2:] == ["torch", "lib"]
    )


def is_padding(entry: SearchDir) -> bool:
    """Whether an empty entry is CMake's, which pads a build tree's search path to the length of the installed one."""
    text = (entry.owner.elf.dynamic.runpath or entry.owner.elf.dynamic.rpath or "").rstrip(":")
    padded = not entry.text and "" not in text.split(":")
    return padded and any(is_there(place / BUILD_FILES[0]) for place in entry.owner.file.parents)


def names(entry: SearchDir) -> tuple[str, str]:
    """Return what an allowed prefix may match: the entry as written, and expanded."""
    return entry.text, entry.directory


def begins(path: str, prefix: str) -> bool:
    """Whether a path equals a directory or is below it, `..` resolved.

    `$ORIGIN/../lib` and `$ORIGIN/lib` are below `$ORIGIN/..`, but `$ORIGIN/../..` is not; `/opt/library` is not below
    `/opt/lib`.
    """
    inside, top = components(path), components(prefix)
    if set(top[1:]) == {".."} and inside[0] == top[0] and inside.count("..") < top.count(".."):
        return True
    return inside[: len(top)] == top and ".." not in inside[len(top) :]


def components(path: str) -> list[str]:
    """Return a path's start (`/`, `$ORIGIN` or "") and its normalized components."""
    path = path.replace("${ORIGIN}", "$ORIGIN")
    start = "/" if path.startswith("/") else "$ORIGIN" if f"{path}/".startswith("$ORIGIN/") else ""
    rest = path.removeprefix(start).lstrip("/")
    plain = os.path.normpath(f"/{rest}" if start == "/" else rest)
    return [start, *(part for part in plain.split("/") if part not in {"", "."})]


def world_writable(host: Path, *, exists: bool) -> bool:
    """Whether anyone may put a library there, possibly by creating or replacing the directory."""
    nearest = host
    while not exists and nearest != nearest.parent:
        nearest = nearest.parent
        exists = is_directory(nearest)
    try:
        return bool(nearest.stat().st_mode & stat.S_IWOTH) or open_to_all(host) is not None
    except OSError as error:
        not_about_the_file(nearest, error)
        return False


def open_to_all(host: Path) -> Path | None:
    """Return the first world-writable directory without the sticky bit, this one or one above it.

    Anyone may rename the entries of such a directory, unlike those of /tmp.
    """
    for each in filter(is_directory, (host, *host.parents)):
        mode = each.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return each
    return None


def is_of_build(entry: SearchDir) -> bool:
    """Whether an absolute entry leads into a home directory or a build tree."""
    if re.match(HOME, entry.directory) or re.search(BUILD, f"{entry.directory}/"):
        return True
    return any(
        is_there(place / file) for place in (entry.host, *entry.host.parents[:3]) for file in BUILD_FILES
    )


def is_used(entry: SearchDir, context: LintContext) -> bool:
    """Whether the directory holds any library that is searched for through it, or that may be opened by name."""
    # An RPATH is also searched for the dependencies of what its owner loads.
    edges = context.closure.edges
    needed = entry.owner.elf.dynamic.needed if entry.kind == "runpath" else {edge.name for edge in edges}
    if any(is_there(entry.host / name) for name in ("glibc-hwcaps", *needed)):
        return True
    # A library in a subdirectory for some processors.
    if any(
        (each.found_via.owner, each.found_via.entry) == (entry.owner.path, entry.text)
        for each in context.closure.objects
    ):
        return True
    if not os.access(entry.host, os.X_OK) or b"dlopen" in context.imports(entry.owner):
        return True
    # The linker drops a libtorch that defines none of the symbols, as one of another ABI or version.
    return holds_torch(entry.host) and any(
        symbol.object == entry.owner.path for symbol in undefined_torch_symbols(context)
    )


def is_there(path: Path) -> bool:
    """Whether a file exists; a name that is invalid in the file system does not."""
    return exists(path)


def is_directory(path: Path) -> bool:
    """Whether a directory exists."""
    return is_dir(path)
