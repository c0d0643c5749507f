"""What a named path may mean: a root, its `lib`, a directory around it, an archive."""

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
    "a Debian package, not extracted; unpack it and those that it depends on into one directory, `dpkg -x FILE DIR`, "
    "and name that"
)
INNER = {"lib", "lib64", "include", "bin", "share"}


def resolve(path: Path) -> Layout | NoLibtorch:
    """The libtorch at a path, else the reason of the place that came nearest to one.

    Understood are a root, its `lib` or `include`, a directory that contains `libtorch/` or `torch/`, a
    site-packages, a virtual environment or conda prefix, `share/cmake/Torch` and what is on the way to it,
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
            found = behind_links(libraries, beyond=package) or found
        if isinstance(found, Layout):
            return found
        if number == 0 or found.nearness > nearest.nearness:
            nearest = found
    return nearest


def in_file(path: Path) -> Layout | NoLibtorch | None:
    """What a file is known for; None for one of libtorch's own, whose directory counts."""
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


def behind_links(libraries: Layout, *, beyond: bool) -> Layout | None:
    """The libtorch to which the libraries of a tree are links, or None where they are none.

    conda-forge lays torch out so: `<env>/lib` and `<env>/include` hold libtorch, and the Python package's
    `torch/lib` holds links to it. In Debian's package `torch/include` holds links as well; but what the libraries
    need is next to the real ones.

    Args:
        libraries: the tree's.
        beyond: links to any place count, not only those to a system's `lib/<triple>`: the tree is a Python package
            without headers. A plain directory of links was meant as it is.
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
    """The roots that a directory may stand for, the likeliest first; only directories that exist."""
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
    """The site-packages and dist-packages directories of an installation prefix, platform ones first."""
    found: list[Path] = []
    platform_dir = () if os.path.islink(prefix / "lib64") else ("lib64",)  # noqa: PTH114 - in a venv, to lib
    for library in (*platform_dir, "lib", "local/lib"):
        pythons = [name for name in names_in(prefix / library) if name.startswith(("python3", "pypy3"))]
        for name in sorted(pythons, key=newest_first):
            found += [prefix / library / name / kind for kind in ("site-packages", "dist-packages")]
    found.append(prefix / "Lib" / "site-packages")  # Windows
    return unique([site for site in found if is_dir(site)])


def newest_first(name: str) -> tuple[int, str]:
    """A sort key for `python3.9` and `python3.12`."""
    minor = name.partition(".")[2].rstrip("t")
    return -whole_number(minor) if minor.isdigit() else 0, name


def unique(paths: list[Path]) -> list[Path]:
    """Without those that lead to a directory seen before (`lib64` is often a link to `lib`)."""
    seen: set[str] = set()
    kept = []
    for path in paths:
        real = os.path.realpath(path)
        if real not in seen:
            seen.add(real)
            kept.append(path)
    return kept
