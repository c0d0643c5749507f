"""The torch packages that one site-packages directory brings: installed, by a .pth file, or editable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.bounds import LONGEST_JSON, load_json
from torchlink.libtorch.disk import is_dir, is_file, names_in, read_bytes, read_text
from torchlink.libtorch.path_files import directories_in

if TYPE_CHECKING:
    from collections.abc import Iterator


def torch_in(site: Path) -> Iterator[Path]:
    """The directories that `import torch` may mean through this entry of sys.path, in Python's order."""
    if is_dir(site / "torch"):
        yield site / "torch"
        if is_file(site / "torch" / "__init__.py"):
            return
    for name in names_in(site):
        if name.endswith((".pth", ".egg-link")):
            yield from (path / "torch" for path in directories_in(site / name) if is_dir(path / "torch"))
        elif name.startswith(("__editable___torch_", "_torch_editable")) and name.endswith(".py"):
            yield from from_finder(site / name)
        elif name.startswith("torch-") and name.endswith(".dist-info"):
            yield from from_direct_url(site / name / "direct_url.json")


def from_finder(path: Path) -> Iterator[Path]:
    """The directory to which the finder of an editable install maps torch."""
    import re

    # setuptools maps packages to directories in a dict literal, scikit-build-core to __init__.py files.
    for match in re.finditer(r"""['"]torch['"]\s*:\s*['"]([^'"\n]+)['"]""", read_text(path)):
        directory = Path(match[1])
        directory = directory.parent if directory.suffix == ".py" else directory
        if is_dir(directory):
            yield directory
            return


def from_direct_url(path: Path) -> Iterator[Path]:
    """The source tree that pip recorded for an editable install (PEP 610)."""
    from urllib.parse import unquote, urlparse

    try:
        record = load_json(read_bytes(path, LONGEST_JSON + 1) or b"{}")
    except ValueError:
        return
    if (
        isinstance(record, dict)
        and isinstance(record.get("dir_info"), dict)
        and record["dir_info"].get("editable")
    ):
        source = Path(unquote(urlparse(str(record.get("url", ""))).path)) / "torch"
        if is_dir(source):
            yield source


def unread(site: Path) -> str | None:
    """The record of an editable install in a site-packages directory that is too large to be read, as a sentence."""
    for name in names_in(site):
        if name.startswith("torch-") and name.endswith(".dist-info"):
            path = site / name / "direct_url.json"
            if len(read_bytes(path, LONGEST_JSON + 1)) > LONGEST_JSON:
                return f"{path} is larger than {LONGEST_JSON >> 20} MB and is not read"
    return None
