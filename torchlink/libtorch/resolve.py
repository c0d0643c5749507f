"""From a path to a libtorch: the path may be its root, its `lib`, a directory around it, or an archive."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.bounds import whole_number
from torchlink.errors import FileError
from torchlink.libtorch.disk import absolute, is_dir, is_file, names_in, read_bytes, special_kind
from torchlink.libtorch.layout import NOTHING, Layout, NoLibtorch, is_triple, lay_out

if TYPE_CHECKING:
    from collections.abc import Iterator

ARCHIVES = {".whl", ".zip"}
DEBIAN_START = b"!<arch>\ndebian-binary"
DEBIAN_PACKAGE = (
    "a Debian package, not extracted; unpack it and its dependencies into one directory (`dpkg -x FILE DIR`) and name "
    "that directory"
)
INNER = {"lib", "lib64", "include", "bin", "share"}


def resolve(path: Path) -> Layout | NoLibtorch:
    """Return the libtorch at a path, or the reason of the place that comes closest to one.

    Accepted are a root, its `lib` or `include`, a directory that contains `libtorch/` or `torch/`, a
    site-packages, a virtual environment or conda prefix, `share/cmake/Torch` and its parents,
    a TorchConfig.cmake or library file, an unpacked system root, a wheel and a zip.
    """
    from torchlink.libtorch.tree import DirectoryTree

    nearest = NoLibtorch("no such file or directory", NOTHING)
    if is_file(path):
        found = in_file(path)
        if found:
            return found
        path = path.parent
    elif not is_dir(path):
        return NoLibtorch(f"{kind}, not a directory", NOTHING) if (kind := special_kind(path)) else nearest
    for number, root in enumerate(roots_of(path)):
        found = lay_out(DirectoryTree(root))
        libraries = found if isinstance(found, Layout) else found.libraries
        if libraries:
            package = found is not libraries and libraries.kind == "pip"
            found = link_targets(libraries, beyond=package) or found
        if isinstance(found, Layout):
            return found
        if number == 0 or found.nearness > nearest.nearness:
            nearest = found
    return nearest


def in_file(path: Path) -> Layout | NoLibtorch | None:
    """Return what a file is; None for a file of libtorch's own, whose directory counts instead."""
    from torchlink.libtorch.tree import ZIP_START, ArchiveTree

    start = read_bytes(path, len(DEBIAN_START))
    if path.suffix in ARCHIVES or start.startswith(ZIP_START):
        try:
            return lay_out(ArchiveTree(path))
        except FileError as error:
            return NoLibtorch(error.message.rstrip("."), NOTHING)
    if start == DEBIAN_START:
        return NoLibtorch(DEBIAN_PACKAGE, NOTHING)
    if "torch" in path.name.lower() or "c10" in path.name:
        return None
    return NoLibtorch("a file, but neither a wheel nor a zip", NOTHING)


def link_targets(libraries: Layout, *, beyond: bool) -> Layout | None:
    """Return the libtorch that the libraries of a tree are links to; None if they are not links.

    conda-forge does this: `<env>/lib` and `<env>/include` hold libtorch, and the Python package's `torch/lib` holds
    links to it. In Debian's package `torch/include` has links as well, but the dependencies are next to the real
    libraries.

    Args:
        libraries: the layout of the tree with the links.
        beyond: follow links to any place, not only to a system's `lib/<triple>`; for a Python package without
            headers. A plain directory of links is used as it is.
    """
    from torchlink.libtorch.libraries import library_file
    from torchlink.libtorch.tree import DirectoryTree

    core = library_file(libraries, "c10")
    real = Path(os.path.realpath(libraries.tree.path(core))) if core else None
    if real is None or real.parent == Path(os.path.realpath(libraries.tree.path(libraries.library_dir))):
        return None
    triple = is_triple(real.parent.name)
    if not triple and not beyond:
        return None
    found = lay_out(DirectoryTree(real.parents[2 if triple else 1]))
    return found if isinstance(found, Layout) else None


def roots_of(path: Path) -> Iterator[Path]:
    """Yield the roots that a directory may refer to, the most likely first; only directories that exist."""
    path = absolute(path)
    if path.name in INNER:
        yield path.parent
    if is_triple(path.name):
        yield path.parent.parent
    yield path
    for inner in ("libtorch", "torch"):
        if is_dir(path / inner):
            yield path / inner
    if "cmake" in path.parts:
        above = path.parents[len(path.parts) - path.parts.index("cmake") - 1]  # share, lib or lib/<triple>
        yield above.parent.parent if is_triple(above.name) else above.parent
    for site in site_dirs(path):
        if is_dir(site / "torch"):
            yield site / "torch"
    if is_dir(path / "usr" / "include"):
        yield path / "usr"


def site_dirs(prefix: Path) -> list[Path]:
    """Return the site-packages and dist-packages directories of a prefix, platform-specific ones first."""
    found: list[Path] = []
    platform_dir = () if os.path.islink(prefix / "lib64") else ("lib64",)  # noqa: PTH114 - a link to lib in a venv
    for library in (*platform_dir, "lib", "local/lib"):
        pythons = [name for name in names_in(prefix / library) if name.startswith(("python3", "pypy3"))]
        for name in sorted(pythons, key=newest_first):
            found += [prefix / library / name / kind for kind in ("site-packages", "dist-packages")]
    found.append(prefix / "Lib" / "site-packages")  # Windows
    return unique([site for site in found if is_dir(site)])


def newest_first(name: str) -> tuple[int, str]:
    """Sort key that puts `python3.12` before `python3.9`."""
    minor = name.partition(".")[2].rstrip("t")
    return -whole_number(minor) if minor.isdigit() else 0, name


def unique(paths: list[Path]) -> list[Path]:
    """Return the paths without those that resolve to an earlier one (`lib64` is often a link to `lib`)."""
    seen: set[str] = set()
    kept = []
    for path in paths:
        real = os.path.realpath(path)
        if real not in seen:
            seen.add(real)
            kept.append(path)
    return kept
