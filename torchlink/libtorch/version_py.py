"""torch's own statement of what it is: `torch/version.py`, parsed as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torchlink.libtorch.layout import Layout


EXTRACTED = "share/torch/version.py"  # where torchlink extract keeps it


class VersionPy(NamedTuple):
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
    """Where it may lie: in the root, where it was extracted to, or with a prefix's (conda, Debian) Python package."""
    found = ["version.py"]
    if layout.kind == "zip":
        found.append(EXTRACTED)
    if layout.kind in {"conda", "system", "unknown"}:
        for python in layout.tree.names("lib"):
            if python.startswith("python3"):
                sites = (f"lib/{python}/site-packages", f"lib/{python}/dist-packages")
                found += [f"{site}/torch/version.py" for site in sites]
    return found


def parse_version_py(text: str, file: str = "version.py") -> VersionPy:
    """Parse the module's assignments of strings; nothing is executed.

    They read `cuda = '12.1'` up to 2.1 and `cuda: Optional[str] = '12.4'` from 2.2 on.
    """
    fields: dict[str, str] = {}
    for line in text.splitlines():
        target, _, value = line.partition("=")
        quoted = value.partition("#")[0].strip()
        if len(quoted) > 2 and quoted[0] in "'\"" and quoted[-1] == quoted[0]:
            fields[target.partition(":")[0].strip()] = quoted[1:-1]
    return VersionPy(
        file=file,
        version=fields.get("__version__"),
        cuda=fields.get("cuda"),
        rocm=fields.get("rocm") or fields.get("hip"),
        xpu=fields.get("xpu"),
    )
