"""Which version a libtorch is. Several files say; where they contradict one another the libraries decide."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from torchlink.bounds import whole_number
from torchlink.libtorch.built_version import built_version
from torchlink.shown import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.libtorch.layout import Layout
    from torchlink.libtorch.version_py import VersionPy

# The macros moved from the second to the first file with 2.10.
VERSION_HEADERS = ("torch/headeronly/version.h", "torch/csrc/api/include/torch/version.h")
PARTS = ("MAJOR", "MINOR", "PATCH")
# A release and what may follow it: `2.13.0`, `2.6.0.dev20241112+cu124`, `1.13.0a0+git49444c3`. What is anything else
# may be code for whatever it is written into.
VERSION = re.compile(r"[0-9]{1,4}(\.[0-9]{1,8}){1,3}[A-Za-z0-9._+-]{0,80}")
SHOWN = 60  # characters of what is no version


class Version(NamedTuple):
    """A version with the file that told it, and the files that say otherwise."""

    text: str | None
    source: str | None
    conflicts: tuple[str, ...]


def read_version(layout: Layout, version_py: VersionPy | None) -> Version:
    """Weigh what the files say; a packed libtorch's libraries are only asked where the files disagree."""
    said_versions = list(claimed_versions(layout, version_py))
    claims = [claim for claim in said_versions if is_version(claim[0])]
    unfit = tuple(
        f"{visible(file)} holds no version: {abbreviated(text)}"
        for text, file in said_versions
        if not is_version(text)
    )
    unanimous = len({release(text) for text, _ in claims}) == 1
    built = None if layout.tree.packed and unanimous else built_version(layout)
    if built is not None:
        agreeing = [claim for claim in claims if release(claim[0]) == release(built[0])]
        text, source = agreeing[0] if agreeing else built
        verdict, judge = built
    elif claims:
        text, source = verdict, judge = claims[0]
    else:
        return Version(None, None, unfit)
    conflicts = tuple(
        f"{file} says version {said}, {judge} says {verdict}"
        for said, file in claims
        if release(said) != release(text)
    )
    return Version(text, source, (*unfit, *conflicts))


def claimed_versions(layout: Layout, version_py: VersionPy | None) -> Iterator[tuple[str, str]]:
    """(version, file) for every file that states one; those that carry the local tag come first."""
    tree = layout.tree
    if version_py is not None and version_py.version:
        yield version_py.version, version_py.file
    text = (tree.text("build-version") or "").strip()
    if text:
        yield text, "build-version"
    for header in VERSION_HEADERS:
        version = version_in_macros(tree.text(f"{layout.include}/{header}") or "")
        if version:
            yield version, f"{layout.include}/{header}"
            break
    if layout.cmake_dir is not None:
        name = f"{layout.cmake_dir}/TorchConfigVersion.cmake"
        version = (tree.text(name) or "").partition('PACKAGE_VERSION "')[2].partition('"')[0]
        if version:
            yield version, name
    yield from packager_versions(layout)


def is_version(text: str) -> bool:
    """Whether a text is a version and nothing else."""
    return VERSION.fullmatch(text) is not None


def abbreviated(text: str) -> str:
    """The beginning of a text that is not what it should be, safe to show."""
    return visible(text[:SHOWN]) + ("…" if len(text) > SHOWN else "")


def version_in_macros(text: str) -> str | None:
    """The version that a header's TORCH_VERSION_MAJOR, _MINOR and _PATCH make up."""
    macros = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == "#define" and words[1].startswith("TORCH_VERSION_"):
            macros[words[1].removeprefix("TORCH_VERSION_")] = words[2]
    return ".".join(macros[part] for part in PARTS) if macros.keys() >= set(PARTS) else None


def packager_versions(layout: Layout) -> Iterator[tuple[str, str]]:
    """What pip's or conda's record beside the package says."""
    if layout.kind in {"pip", "wheel"}:
        for name in layout.tree.names(".."):
            stem, _, suffix = name.rpartition(".")
            if name.startswith("torch-") and suffix in {"dist-info", "egg-info"}:
                yield stem.split("-")[1], f"../{name}"
    elif layout.kind == "conda":
        for name in layout.tree.names("conda-meta"):
            package, _, rest = name.partition("-")
            if package in {"libtorch", "pytorch"} and release(rest):
                yield rest.partition("-")[0], f"conda-meta/{name}"


def release(text: str) -> tuple[int, ...] | None:
    """Major, minor and patch of a version, whatever follows them: (1, 13, 0) of `1.13.0a0+git`."""
    numbers: list[int] = []
    for part in text.strip().split(".")[:3]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(whole_number(digits))
        if digits != part:
            break
    return (*numbers, 0)[:3] if len(numbers) >= 2 else None
