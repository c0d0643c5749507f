"""The torch packages that one site-packages directory brings: installed, by a .pth file, or editable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def torch_in(site: Path) -> Iterator[Path]:
    """The directories that `import torch` may mean through this entry of sys.path, in Python's order."""
    if (site / "torch").is_dir():
        yield site / "torch"
        if (site / "torch" / "__init__.py").is_file():
            return
    try:
        names = sorted(path.name for path in site.iterdir())
    except OSError:
        return
    for name in names:
        if name.endswith((".pth", ".egg-link")):
            yield from from_path_file(site, name)
        elif name.startswith(("__editable___torch_", "_torch_editable")) and name.endswith(".py"):
            yield from from_finder(site / name)
        elif name.startswith("torch-") and name.endswith(".dist-info"):
            yield from from_direct_url(site / name / "direct_url.json")


def from_path_file(site: Path, name: str) -> Iterator[Path]:
    """The torchs below the directories that a .pth file adds to sys.path; its `import` lines are not run."""
    for line in read(site / name).splitlines():
        entry = line.strip()
        if entry and not entry.startswith(("#", "import ", "import\t", ".")):
            directory = site / entry
            if (directory / "torch").is_dir():
                yield directory / "torch"


def from_finder(path: Path) -> Iterator[Path]:
    """The directory to which the finder of an editable install maps torch."""
    import re

    # setuptools maps packages to directories in a dict literal, scikit-build-core to __init__.py files.
    for match in re.finditer(r"""['"]torch['"]\s*:\s*['"]([^'"\n]+)['"]""", read(path)):
        directory = Path(match[1])
        directory = directory.parent if directory.suffix == ".py" else directory
        if directory.is_dir():
            yield directory
            return


def from_direct_url(path: Path) -> Iterator[Path]:
    """The source tree that pip recorded for an editable install (PEP 610)."""
    import json
    from urllib.parse import unquote, urlparse

    try:
        record = json.loads(read(path) or "{}")
    except ValueError:
        return
    if (
        isinstance(record, dict)
        and isinstance(record.get("dir_info"), dict)
        and record["dir_info"].get("editable")
    ):
        source = Path(unquote(urlparse(str(record.get("url", ""))).path)) / "torch"
        if source.is_dir():
            yield source


def read(path: Path) -> str:
    """A small text file, empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
