"""Which version a libtorch is: several files say, and where they contradict one another the libraries decide."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchlink.libtorch.built_version import built_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.libtorch.layout import Layout
    from torchlink.libtorch.version_py import VersionPy

# The macros moved from the first to the second file with 2.10.
VERSION_HEADERS = ("torch/headeronly/version.h", "torch/csrc/api/include/torch/version.h")
MACRO = re.compile(r"^#define\s+TORCH_VERSION_(MAJOR|MINOR|PATCH)\s+(\d+)", re.MULTILINE)
PACKAGE_VERSION = re.compile(r'PACKAGE_VERSION\s+"([^"]+)"')
RELEASE = re.compile(r"\s*v?(\d+)\.(\d+)(?:\.(\d+))?")
DIST_INFO = re.compile(r"torch-(\d[^-]*)\.(?:dist|egg)-info")
CONDA_META = re.compile(r"(?:libtorch|pytorch)-(\d[^-]*)-[^-]+\.json")


@dataclass(frozen=True, slots=True)
class Version:
    """A version with the file that told it, and the files that say otherwise."""

    text: str | None
    source: str | None
    conflicts: tuple[str, ...]


def read_version(layout: Layout, version_py: VersionPy | None) -> Version:
    """Weigh what the files say; a packed libtorch's libraries are only asked where the files disagree."""
    claims = list(claimed_versions(layout, version_py))
    releases = {release(text) for text, _ in claims}
    built = built_version(layout) if not layout.tree.packed or len(releases) != 1 else None
    if built is not None:
        agreeing = [claim for claim in claims if release(claim[0]) == release(built[0])]
        text, source = agreeing[0] if agreeing else built
        judge, verdict = built[1], built[0]
    elif claims:
        text, source = claims[0]
        judge, verdict = source, text
    else:
        return Version(None, None, ())
    conflicts = tuple(
        f"{file} says version {said}, {judge} says {verdict}"
        for said, file in claims
        if release(said) != release(text)
    )
    return Version(text, source, conflicts)


def claimed_versions(layout: Layout, version_py: VersionPy | None) -> Iterator[tuple[str, str]]:
    """(version, file) for every file that states one; those that carry the local tag come first."""
    tree = layout.tree
    if version_py is not None and version_py.version:
        yield version_py.version, version_py.file
    text = tree.text("build-version")
    if text and RELEASE.match(text):
        yield text.strip(), "build-version"
    for header in VERSION_HEADERS:
        macros = dict(MACRO.findall(tree.text(f"{layout.include}/{header}") or ""))
        if len(macros) == 3:
            yield f"{macros['MAJOR']}.{macros['MINOR']}.{macros['PATCH']}", f"{layout.include}/{header}"
            break
    if layout.cmake_dir is not None:
        name = f"{layout.cmake_dir}/TorchConfigVersion.cmake"
        match = PACKAGE_VERSION.search(tree.text(name) or "")
        if match:
            yield match[1], name
    yield from packager_versions(layout)


def packager_versions(layout: Layout) -> Iterator[tuple[str, str]]:
    """What pip's or conda's record beside the package says."""
    if layout.kind in {"pip", "wheel"}:
        for name in layout.tree.names(".."):
            match = DIST_INFO.fullmatch(name)
            if match:
                yield match[1], f"../{name}"
    elif layout.kind == "conda":
        for name in layout.tree.names("conda-meta"):
            match = CONDA_META.fullmatch(name)
            if match:
                yield match[1], f"conda-meta/{name}"


def release(text: str) -> tuple[int, int, int] | None:
    """Major, minor and patch of a version, whatever follows them."""
    match = RELEASE.match(text)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None
