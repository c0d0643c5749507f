"""What a named path may mean: a root, its `lib`, a directory around it, an archive."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.errors import FileError
from torchlink.libtorch.layout import NOTHING, Layout, NoLibtorch, is_triple, lay_out

if TYPE_CHECKING:
    from collections.abc import Iterator

ARCHIVES = {".whl", ".zip"}
INNER = {"lib", "lib64", "include", "bin", "share"}


def resolve(path: Path) -> Layout | NoLibtorch:
    """The libtorch at a path, else the reason of the place that came nearest to one.

    Understood are a root, its `lib` or `include`, a directory that contains `libtorch/` or `torch/`, a
    site-packages, a virtual environment or conda prefix, `share/cmake/Torch` and what lies on the way to it,
    a TorchConfig.cmake or library file, an unpacked system root, a wheel and a zip.
    """
    from torchlink.libtorch.tree import ArchiveTree, DirectoryTree

    if path.suffix in ARCHIVES and path.is_file():
        try:
            return lay_out(ArchiveTree(path))
        except FileError as error:
            return NoLibtorch(error.message.rstrip("."), NOTHING)
    nearest = NoLibtorch("no such file or directory", NOTHING)
    if not path.exists():
        return nearest
    if path.is_file():
        if not ("torch" in path.name.lower() or "c10" in path.name):
            return NoLibtorch("a file, but neither a wheel nor a zip", NOTHING)
        path = path.parent
    for number, root in enumerate(roots_of(path)):
        found = lay_out(DirectoryTree(root))
        if isinstance(found, Layout):
            return found
        if number == 0 or found.nearness > nearest.nearness:
            nearest = found
    return nearest


def roots_of(path: Path) -> Iterator[Path]:
    """The roots that a directory may stand for, the likeliest first; only directories that exist."""
    path = Path(os.path.abspath(path))  # noqa: PTH100 - links stay: $ORIGIN is the path taken
    if path.name in INNER:
        yield path.parent
    if is_triple(path.name):
        yield path.parent.parent
    yield path
    for inner in ("libtorch", "torch"):
        if (path / inner).is_dir():
            yield path / inner
    if "cmake" in path.parts:
        above = path.parents[len(path.parts) - path.parts.index("cmake") - 1]  # share, lib or lib/<triple>
        yield above.parent.parent if is_triple(above.name) else above.parent
    for site in site_dirs(path):
        if (site / "torch").is_dir():
            yield site / "torch"
    if (path / "usr" / "include").is_dir():
        yield path / "usr"


def site_dirs(prefix: Path) -> list[Path]:
    """The site-packages and dist-packages directories of an installation prefix, platform ones first."""
    found: list[Path] = []
    platform_dir = () if (prefix / "lib64").is_symlink() else ("lib64",)  # a link to lib in a venv
    for library in (*platform_dir, "lib", "local/lib"):
        try:
            names = sorted(os.listdir(prefix / library), reverse=True)  # noqa: PTH208 - names are all it takes
        except OSError:
            continue
        for name in names:
            if name.startswith(("python3", "pypy3")):
                found += [prefix / library / name / kind for kind in ("site-packages", "dist-packages")]
    found.append(prefix / "Lib" / "site-packages")  # Windows
    return unique([site for site in found if site.is_dir()])


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
