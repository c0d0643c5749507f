"""The directories that path configuration files (`.pth`) in a site directory add to sys.path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.libtorch.disk import absolute, is_dir, names_in, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def directories_in(path: Path) -> Iterator[Path]:
    """The directories that one file names, relative ones below its own; lines that import are not run.

    An `.egg-link`, as setuptools wrote them, names one directory, in its first line.
    """
    lines = read_text(path).splitlines()
    for line in lines[:1] if path.suffix == ".egg-link" else lines:
        entry = line.strip()
        if entry and not entry.startswith(("#", "import ", "import\t")) and is_dir(path.parent / entry):
            yield absolute(path.parent / entry)


def added_sites(site: Path) -> Iterator[Path]:
    """The directories that all `.pth` files in a site directory add, in the order in which Python reads them."""
    for name in names_in(site):
        if name.endswith(".pth") and not name.startswith("."):
            yield from directories_in(site / name)
