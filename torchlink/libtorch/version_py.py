"""torch's own statement of what it is: `torch/version.py`, parsed as text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torchlink.libtorch.layout import Layout

# `cuda = '12.1'` up to 2.1, `cuda: Optional[str] = '12.4'` from 2.2 on.
ASSIGNMENT = re.compile(r"""^(\w+)(?:\s*:\s*[^=\n]+)?\s*=\s*(?:['"]([^'"\n]*)['"]|None)\s*$""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class VersionPy:
    """The fields of version.py; None where it says None or nothing."""

    file: str  # its name in the tree
    version: str | None
    cuda: str | None
    rocm: str | None
    xpu: str | None


def read_version_py(layout: Layout) -> VersionPy | None:
    """The version.py that belongs to a libtorch, or None."""
    for file in candidates(layout):
        text = layout.tree.text(file)
        if text is not None:
            return parse_version_py(text, file)
    return None


def candidates(layout: Layout) -> list[str]:
    """Where it may lie: in the root, or where a prefix (conda, Debian) keeps the Python package."""
    found = ["version.py"]
    if layout.kind in {"conda", "system", "unknown"}:
        for python in layout.tree.names("lib"):
            if python.startswith("python3"):
                found += [
                    f"lib/{python}/{site}/torch/version.py" for site in ("site-packages", "dist-packages")
                ]
    return found


def parse_version_py(text: str, file: str = "version.py") -> VersionPy:
    """Parse the module's simple assignments; nothing is executed."""
    fields = {match[1]: match[2] or None for match in ASSIGNMENT.finditer(text)}
    return VersionPy(
        file=file,
        version=fields.get("__version__"),
        cuda=fields.get("cuda"),
        rocm=fields.get("rocm") or fields.get("hip"),
        xpu=fields.get("xpu"),
    )
