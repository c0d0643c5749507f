"""Target systems, with the newest symbol versions of glibc and libstdc++ that each provides.

Measured on the systems' images by the pep600_compliance project; the manylinux rows are auditwheel's policies.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.bounds import whole_number
from torchlink.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

LIBRARIES = ("GLIBC", "GLIBCXX", "CXXABI")

# System, release (and its code name after a slash), then the newest GLIBC, GLIBCXX and CXXABI; a GLIBC of `-` means
# musl. The rows of Alpine are those of each release's GCC.
SYSTEMS = """
debian        8/jessie    2.19  3.4.20  1.3.8
debian        9/stretch   2.24  3.4.22  1.3.10
debian        10/buster   2.28  3.4.25  1.3.11
debian        11/bullseye 2.31  3.4.28  1.3.12
debian        12/bookworm 2.36  3.4.30  1.3.13
debian        13/trixie   2.41  3.4.33  1.3.15
ubuntu        18.04/bionic   2.27  3.4.25  1.3.11
ubuntu        20.04/focal    2.31  3.4.28  1.3.12
ubuntu        22.04/jammy    2.35  3.4.30  1.3.13
ubuntu        24.04/noble    2.39  3.4.33  1.3.15
ubuntu        26.04/resolute 2.43  3.4.35  1.3.17
rhel          7     2.17  3.4.19  1.3.7
rhel          8     2.28  3.4.25  1.3.11
rhel          9     2.34  3.4.29  1.3.13
rhel          10    2.39  3.4.33  1.3.15
amazonlinux   2     2.26  3.4.24  1.3.11
amazonlinux   2023  2.34  3.4.33  1.3.15
fedora        40    2.39  3.4.33  1.3.15
fedora        41    2.40  3.4.33  1.3.15
fedora        42    2.41  3.4.34  1.3.15
fedora        43    2.42  3.4.34  1.3.15
opensuse      15.5  2.31  3.4.32  1.3.14
opensuse      15.6  2.38  3.4.33  1.3.15
alpine        3.15  -     3.4.28  1.3.12
alpine        3.16  -     3.4.29  1.3.13
alpine        3.17  -     3.4.30  1.3.13
alpine        3.18  -     3.4.30  1.3.13
alpine        3.19  -     3.4.32  1.3.14
alpine        3.20  -     3.4.32  1.3.14
alpine        3.21  -     3.4.33  1.3.15
alpine        3.22  -     3.4.33  1.3.15
alpine        3.23  -     3.4.34  1.3.15
opensuse      16.0  2.40  3.4.34  1.3.15
manylinux     1     2.5   3.4.8   1.3.1
manylinux     2010  2.12  3.4.13  1.3.3
manylinux     2014  2.17  3.4.19  1.3.7
manylinux     2_24  2.24  3.4.22  1.3.10
manylinux     2_27  2.27  3.4.24  1.3.11
manylinux     2_28  2.28  3.4.24  1.3.11
manylinux     2_31  2.31  3.4.28  1.3.12
manylinux     2_34  2.34  3.4.29  1.3.13
manylinux     2_35  2.35  3.4.30  1.3.13
manylinux     2_39  2.39  3.4.33  1.3.15
"""
ALIASES = {
    "alma": "rhel",
    "almalinux": "rhel",
    "rocky": "rhel",
    "rockylinux": "rhel",
    "centos": "rhel",
    "oraclelinux": "rhel",
    "redhat": "rhel",
    "amazon": "amazonlinux",
    "al": "amazonlinux",
    "leap": "opensuse",
}
# `manylinux_2_28`, `manylinux2014_x86_64`, as platform tags of wheels are written.
MANYLINUX = re.compile(r"manylinux(?:1|2010|2014|_2_(\d+))(?=_|$)")
# Gives the version of musl only; such wheels ship their libstdc++.
MUSLLINUX = re.compile(r"musllinux_\d+_\d+(?=_|$)")
VERSION = re.compile(r"\d+(?:\.\d+)*")

Version = tuple[int, ...]


def parse_target(text: str) -> Mapping[str, Version]:
    """Return the newest symbol versions that a binary may need: `{"GLIBC": (2, 31)}`; GLIBC is () with musl.

    Args:
        text: a system (`debian:12`, `ubuntu:jammy`, `alma:9`), a wheel's platform (`manylinux_2_28`,
            `musllinux_1_2`), or versions comma-separated (`glibc=2.31,glibcxx=3.4.28`).

    Raises:
        UsageError: it is none of these; the hint names similar ones.
    """
    wanted = text.strip().lower()
    if "=" in wanted:
        return dict(_library(part.strip(), text) for part in wanted.split(","))
    tag = MANYLINUX.match(wanted)
    if tag:
        return _manylinux(tag)
    if MUSLLINUX.match(wanted):
        return {"GLIBC": ()}
    system, _, release = wanted.replace("-", ":", 1).partition(":")
    system = ALIASES.get(system, system)
    known = _systems()
    if (system, release) in known:
        return known[system, release]
    releases = [each for name, each in known if name == system]
    if releases and system != "manylinux":
        major = release.partition(".")[0]  # alma:9.4 has the versions of alma:9
        if system == "rhel" and (system, major) in known:
            return known[system, major]
        minor = ".".join(release.split(".")[:2])  # and alpine:3.20.3 those of alpine:3.20
        if system == "alpine" and (system, minor) in known:
            return known[system, minor]
        what = f"unknown release of {system}: {release}" if release else f"a release of {system} is missing"
        raise UsageError(f"The target {text}: {what}.", hint=f"Use one of: {', '.join(releases)}.")
    raise UsageError(f"Unknown target: {text or repr(text)}.", hint=_nearest(wanted))


def _library(part: str, text: str) -> tuple[str, Version]:
    """`glibc=2.31` as `("GLIBC", (2, 31))`."""
    name, _, version = part.partition("=")
    library, version = name.strip().upper(), version.strip().upper()
    if library not in LIBRARIES:
        raise UsageError(
            f"The target {text}: {name!r} is not a library with symbol versions to compare.",
            hint=f"Write one of {', '.join(each.lower() for each in LIBRARIES)}, such as glibc=2.31.",
        )
    version = version.removeprefix(f"{library}_")
    if not VERSION.fullmatch(version):
        raise UsageError(
            f"The target {text}: {version!r} is not a version of {name}.", hint="Write it like glibc=2.31."
        )
    return library, _version(version)


def _manylinux(tag: re.Match[str]) -> Mapping[str, Version]:
    """Return the versions of a platform tag. A tag without a row has the libstdc++ of the next older row."""
    known = _systems()
    named = known.get(("manylinux", tag.group().removeprefix("manylinux").removeprefix("_")))
    if named:
        return named
    glibc = (2, whole_number(tag.group(1)))
    rows = (row for (system, _), row in known.items() if system == "manylinux" and row["GLIBC"] <= glibc)
    below = max(rows, key=lambda row: row["GLIBC"], default={})
    return {**below, "GLIBC": glibc}


def _systems() -> dict[tuple[str, str], dict[str, Version]]:
    """Parse the table: (system, release or code name) → versions."""
    rows: dict[tuple[str, str], dict[str, Version]] = {}
    for line in SYSTEMS.strip().splitlines():
        system, releases, *versions = line.split()
        row = {library: _version(each) for library, each in zip(LIBRARIES, versions, strict=True)}
        for release in releases.split("/"):
            rows[system, release] = row
    return rows


def _version(text: str) -> Version:
    return () if text == "-" else tuple(whole_number(part) for part in text.split("."))


def names() -> list[str]:
    """Return the systems of the table, as `parse_target` accepts them."""
    return [
        f"manylinux{'_' * ('_' in release)}{release}" if system == "manylinux" else f"{system}:{release}"
        for system, release in _systems()
    ]


def _nearest(wanted: str) -> str:
    """Return a hint for a misspelt target."""
    import difflib

    aliases = [
        f"{other}:{release}"
        for other, same in ALIASES.items()
        for system, release in _systems()
        if system == same
    ]
    near = difflib.get_close_matches(wanted, [*names(), *aliases, "glibc=2.31"], n=3, cutoff=0.6)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    return "Write a system (debian:12, ubuntu:22.04, rhel:8), manylinux_2_28, or glibc=2.31."
