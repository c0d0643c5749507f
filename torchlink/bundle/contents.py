"""The plan of a bundle, made before anything is written, and the report of what was written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torchlink.lint.finding import LintReport


@dataclass(frozen=True, slots=True)
class Owner:
    """The package that a file belongs to."""

    kind: str  # "wheel" | "conda" | "deb" | "libtorch" (an unpacked zip or a build)
    name: str  # of a wheel as its metadata writes it: `nvidia-cudnn-cu13`
    version: str | None
    path: str  # the file as the package lists it
    licences: tuple[tuple[str, Path], ...]  # (relative name, file on this machine)


@dataclass(frozen=True, slots=True)
class Why:
    """Why a library is in a bundle."""

    kind: str  # "needed" (a NEEDED entry) | "opened" (with dlopen, at run time) | "added" (--add)
    by: str | None  # file name of the object that needs or opens it; None for "added"
    note: str = ""  # of "opened": its purpose


@dataclass(frozen=True, slots=True)
class Patch:
    """What is rewritten in a copy."""

    search_path: tuple[str, ...] | None  # the new entries, () for none at all; None: unchanged
    kind: str  # "rpath" | "runpath", of the new search path
    needed: tuple[
        tuple[str, str], ...
    ] = ()  # NEEDED entries that were paths, and the names that replace them


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a bundle, the binary itself or a library."""

    path: str  # relative to the bundle's directory
    links: tuple[str, ...]  # names of symlinks next to it that point to it
    source: Path  # where it is copied from, symlinks followed
    size: int  # bytes of the source
    soname: str | None
    found_via: str  # how it was found
    at_start: bool  # it is loaded when the program starts, not only when something opens it
    why: Why | None  # None for the binary
    owner: Owner | None
    patch: Patch | None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A library that is left to the system, or an optional one that could not be loaded here."""

    name: str  # as it is requested
    by: str  # file name of the first object that requests it
    reason: str
    found: bool  # whether this machine has it


@dataclass(frozen=True, slots=True)
class Floor:
    """The oldest version of a system library with which a bundle runs."""

    library: str  # "GLIBC" | "GLIBCXX", the prefix of its symbol versions
    version: str  # "2.34"
    by: str  # path of the first part that needs it


@dataclass(frozen=True, slots=True)
class BundlePlan:
    """Everything that will be written."""

    binary: Part
    libraries: tuple[Part, ...]  # in load order, then those that are opened at run time
    library_dir: str  # relative to the bundle's directory
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]  # sentences
    machine: str  # as `ElfFile.machine`
    floors: tuple[Floor, ...]  # of glibc, and of libstdc++ where it is not bundled
    unmatched: tuple[str, ...] = ()  # globs of --exclude and --include that match no library

    @property
    def parts(self) -> tuple[Part, ...]:
        """The binary and the libraries."""
        return (self.binary, *self.libraries)

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(part.size for part in self.parts)

    @property
    def patched(self) -> tuple[Part, ...]:
        """The parts that are changed."""
        return tuple(part for part in self.parts if part.patch)


@dataclass(frozen=True, slots=True)
class Written:
    """A part as it is in the bundle."""

    sha256: str
    size: int  # bytes
    source_sha256: str  # differs from `sha256` where it was patched


@dataclass(frozen=True, slots=True)
class BundleReport:
    """One run of `torchlink bundle`."""

    directory: Path
    plan: BundlePlan
    written: Mapping[str, Written]  # by path; empty after a dry run
    licences: Mapping[str, tuple[str, ...]]  # package or library -> paths below `licenses/`
    unlicensed: tuple[str, ...]  # names of libraries without a licence text
    lint: LintReport | None  # of every file in the finished bundle; None after a dry run

    @property
    def dry(self) -> bool:
        """Whether nothing was written."""
        return not self.written
