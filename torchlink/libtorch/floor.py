"""Whether another release of the C library is in the search path of a libtorch's programs.

Whether this system's C and C++ libraries are new enough for a libtorch, and which torch would fit where not.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torchlink.binary.elf import ElfFile
from torchlink.binary.platforms import PLATFORMS, UNKNOWN
from torchlink.binary.system import system_for
from torchlink.bounds import whole_number
from torchlink.errors import FileError, LibtorchUnusableError, MalformedFileError
from torchlink.libtorch.machine import is_foreign
from torchlink.status import is_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torchlink.libtorch.facts import Libtorch


C_LIBRARY = "libc.so.6"
Release = tuple[int, ...]


class GlibcConflict(NamedTuple):
    """A C library in a companion directory, of another release than this system's loader."""

    directory: Path
    theirs: Release
    ours: Release  # () where this system has no glibc

    def __str__(self) -> str:
        """The fact and the fix in one sentence without a final full stop."""
        return (
            f"{self.directory} holds glibc {dotted(self.theirs)} and this system has {dotted(self.ours) or 'none'}: "
            "programs that find their libraries there do not start, so leave libc6, libc6-dev and libstdc++6 out of "
            "what is unpacked there"
        )


def glibc_conflict(libtorch: Libtorch) -> GlibcConflict | None:
    """Return the C library that keeps programs from starting because it is not of this system's release.

    A program finds its companions' C library in their directory and loads it, although the loader is this system's:
    the two must be of one release. For a libtorch that needs a newer system see `shortfall`.
    """
    core = next((file for name in ("torch_cpu", "c10") if (file := _file(libtorch, name))), None)
    if core is None or libtorch.packed or libtorch.platform != "linux" or is_foreign(libtorch):
        return None
    try:
        library = ElfFile.open(core)
        dirs = system_for(library).default_dirs
    except (FileError, MalformedFileError):
        return None
    ours = next((release for directory in dirs if (release := release_in(Path(directory)))), ())
    for companion in libtorch.companion_dirs:
        theirs = () if companion.in_place else release_in(companion.path)
        if theirs and theirs != ours:
            return GlibcConflict(companion.path, theirs, ours)
    return None


def release_in(directory: Path) -> Release:
    """The release of a directory's glibc, (2, 36): the newest version that it defines; () where there is none."""
    try:
        library = ElfFile.open(directory / C_LIBRARY)
        return newest(each.version for each in library.version_definitions())
    except (FileError, MalformedFileError):
        return ()


def newest(versions: Iterable[str]) -> Release:
    """The newest of some symbol versions `GLIBC_2.36`, others skipped; () where there is none."""
    matches = (re.fullmatch(r"GLIBC_(\d+(?:\.\d+)+)", version) for version in versions)
    return max((tuple(map(whole_number, match[1].split("."))) for match in matches if match), default=())


def _file(libtorch: Libtorch, name: str) -> Path | None:
    found = (file for file in libtorch.libraries if file.startswith(f"lib{name}.so"))
    return next((libtorch.library_dir / file for file in found), None)


Version = tuple[int, ...]

# machine, first and last release of torch, then the newest symbol versions that its wheels on PyPI need.
# Read from libtorch_cpu and libtorch_cuda in the wheels of 1.13.1, 2.0.1, 2.2.2, 2.3.1, 2.5.1, 2.6.0, 2.8.0, 2.11.0,
# 2.13.0 and 2.15.0; between them by their platform tags: manylinux1, which claims less than they need, manylinux2014
# and manylinux_2_28.
WHEELS = """
x86_64   1.13.1  2.6.0   2.16  3.4.19  1.3.7
x86_64   2.7.0   2.15.0  2.28  3.4.22  1.3.11
aarch64  1.13.1  2.5.1   2.17  3.4.19  1.3.7
aarch64  2.6.0   2.15.0  2.28  3.4.22  1.3.11
"""
FAMILIES = ("GLIBC", "GLIBCXX", "CXXABI")
SYMBOL_VERSION = re.compile(r"(GLIBC|GLIBCXX|CXXABI)_(\d+(?:\.\d+)*)")
CORE = re.compile(r"lib(c10|torch)(_(cpu|cuda\w*|hip|xpu))?\.so")
PROVIDERS = ("libc.so.6", "libstdc++.so.6")
NEWER, OTHER = "is for a newer system", "is for another system"  # how the sentence about it begins


class Wheels(NamedTuple):
    """A row of the table: releases of torch and what their wheels need."""

    arch: str
    last: str  # the newest release
    needs: Mapping[str, Version]

    def __str__(self) -> str:
        """The release and what it needs, in words."""
        needs = ", ".join(f"{family}_{dotted(version)}" for family, version in self.needs.items())
        return f"torch {self.last} (its wheels on PyPI need {needs})"


class UnmetVersion(NamedTuple):
    """A symbol version that a library needs and this system lacks."""

    library: str  # path of the library
    version: str  # "GLIBC_2.28"
    provider: str  # path of what should have it
    has: str  # the newest there, "GLIBC_2.27"; empty where that is newer, and only this one is absent

    def __str__(self) -> str:
        """The fact in words."""
        has = f"has at most {self.has}" if self.has else f"has no {self.version}"
        return f"{self.library} needs {self.version}, and {self.provider} {has}"


class Shortfall(NamedTuple):
    """What this system is too old for, and what would fit."""

    root: Path
    excesses: tuple[UnmetVersion, ...]  # the gravest of each family
    fitting: Wheels | None
    linked_by: str | None = None  # the compiler whose own libraries are too old; None for this system's

    @property
    def message(self) -> str:
        """What is wrong."""
        consequence = (
            f"Nothing that {self.linked_by} compiles links against it."
            if self.linked_by
            else "Nothing that is built against it starts here."
        )
        what = NEWER if any(each.has for each in self.excesses) else OTHER
        return f"The libtorch in {self.root} {what}: {'; '.join(map(str, self.excesses))}. {consequence}"

    @property
    def hint(self) -> str:
        """What to do."""
        if not any(each.has for each in self.excesses):
            paths = " and ".join(dict.fromkeys(each.provider for each in self.excesses))
            return f"Put the system's own library in the place of {paths}, or name another compiler (--compiler, CXX)."
        newer = (
            "Name a compiler with a newer C library and libstdc++ (--compiler, CXX)"
            if self.linked_by
            else "Build and run on a newer system"
        )
        one = "that compiler" if self.linked_by else "this one"
        if self.fitting is None:
            return f"{newer}: no wheel of torch on PyPI is known to need this little."
        return f"{newer}, or install the newest torch that fits {one}: {self.fitting}."

    @property
    def error(self) -> LibtorchUnusableError:
        """The same for who cannot go on."""
        return LibtorchUnusableError(self.message, hint=self.hint)


def newest_fitting(arch: str, have: Mapping[str, Version]) -> Wheels | None:
    """The newest torch whose wheels need no more than a system has.

    Args:
        arch: in the flags of `Libtorch.arch`.
        have: the newest symbol versions of the system, `{"GLIBC": (2, 27)}`; what is not named is not asked for.
    """
    fitting = None
    for row in wheels():
        if row.arch == arch and all(
            row.needs[family] <= have[family] for family in have if family in row.needs
        ):
            fitting = row
    return fitting


def wheels() -> Iterator[Wheels]:
    """The table, old releases before new ones."""
    for line in WHEELS.strip().splitlines():
        arch, _, last, *versions = line.split()
        yield Wheels(arch, last, dict(zip(FAMILIES, map(numbers, versions), strict=True)))


class Linked(NamedTuple):
    """The C and C++ libraries that a compiler links with."""

    compiler: str  # what to call it: `g++ 12.2.0`
    libraries: Mapping[str, Path]  # by their names in `PROVIDERS`, those that it has


def shortfall(
    libtorch: Libtorch, linked: Linked | None = None, *, thorough: bool = False
) -> Shortfall | None:
    """What a libtorch's own libraries need of glibc and libstdc++ and this system, or a compiler, lacks.

    Args:
        libtorch: one that is not extracted is not checked; one for another machine only by `linked`.
        linked: what will link; its libraries may be of a sysroot of its own.
        thorough: follow the loader's whole search, rather than only where the libraries in its default directories do
            not serve: ten milliseconds more, for a libtorch that comes with an older libstdc++ of its own.
    """
    if libtorch.packed or libtorch.platform != "linux":
        return None
    try:
        here = None
        if not is_foreign(libtorch) and (thorough or not served_by_default(libtorch)):
            here = follow(libtorch)
        return here or (of_linked(libtorch, linked) if linked else None)
    except (FileError, MalformedFileError):  # others speak of libraries that cannot be read
        return None


def of_linked(libtorch: Libtorch, linked: Linked) -> Shortfall | None:
    """What the libraries that a compiler links with lack; nothing where they are those of this system."""
    providers = {
        name: beside(libtorch, name) or path
        for name, path in linked.libraries.items()
        if is_foreign(libtorch) or not is_systems(path, libtorch.arch)
    }
    return checked(libtorch, core(libtorch), providers, linked.compiler) if providers else None


def beside(libtorch: Libtorch, name: str) -> Path | None:
    """A library among libtorch's own, where a linker finds it before the compiler's."""
    places = (libtorch.library_dir, *(companion.path for companion in libtorch.companion_dirs))
    return next((place / name for place in places if (place / name).is_file()), None)


def is_systems(path: Path, machine: str) -> bool:
    """Whether a library is the one in the usual directories of this machine."""
    own = in_default_dirs(path.name, machine)
    return own is not None and own.resolve() == path.resolve()


def served_by_default(libtorch: Libtorch) -> bool:
    """Whether the libraries in the usual directories of this machine have all that libtorch's own need."""
    needed: dict[str, Version] = {}
    have: dict[str, Version] = {}
    machine = ""
    for path in core(libtorch):
        with ElfFile.open(path) as elf:
            machine = elf.machine
            raise_to(needed, (need.version for need in elf.version_needs() if not need.weak))
    for name in PROVIDERS:
        provider = in_default_dirs(name, machine)
        raise_to(have, definitions(provider) if provider else ())
    return all(version <= have.get(family, ()) for family, version in needed.items())


def core(libtorch: Libtorch) -> list[Path]:
    """Libtorch's own libraries."""
    paths = (libtorch.library_dir / name for name in libtorch.libraries if CORE.match(name))
    return [path for path in paths if is_file(path)]


def in_default_dirs(name: str, machine: str) -> Path | None:
    """Where a library is in the usual directories of this machine."""
    paths = (Path(directory, name) for directory in PLATFORMS.get(machine, UNKNOWN).dirs)
    return next((path for path in paths if is_file(path)), None)


def definitions(path: Path, machine: str | None = None) -> frozenset[str]:
    """The symbol versions that a library defines; none for one of another machine than the one named."""
    with ElfFile.open(path) as elf:
        if machine not in {None, elf.machine}:
            return frozenset()
        return frozenset(each.version for each in elf.version_definitions())


def follow(libtorch: Libtorch) -> Shortfall | None:
    """The same by the closure of libtorch as the loader of this system makes it."""
    from torchlink.binary.loader import resolve
    from torchlink.binary.system import system_for

    paths = core(libtorch)
    entry = next(
        (path for path in paths if path.name.startswith("libtorch_cpu.")), paths[0] if paths else None
    )
    if entry is None:
        return None
    with ElfFile.open(entry) as elf:
        system, machine = system_for(elf), elf.machine
    if system.family != "glibc":
        return None
    providers = {edge.name: Path(edge.path) for edge in resolve(entry, system=system).edges if edge.path}
    for name in PROVIDERS:
        if name not in providers and (found := in_default_dirs(name, machine)):
            providers[name] = found
    return checked(libtorch, paths, providers)


def checked(
    libtorch: Libtorch, paths: Iterable[Path], providers: Mapping[str, Path], linked_by: str | None = None
) -> Shortfall | None:
    """What libraries of libtorch need and the libraries that provide it lack; see `Shortfall.linked_by`."""
    defined: dict[tuple[str, str], frozenset[str]] = {}
    have: dict[str, Version] = {}
    worst: dict[str, tuple[Version, UnmetVersion]] = {}
    for path in paths:
        with ElfFile.open(path) as elf:
            needs, machine = elf.version_needs(), elf.machine
        for name in (*PROVIDERS, *(need.library for need in needs)):
            if name in providers and (name, machine) not in defined:
                defined[name, machine] = definitions(providers[name], machine)
                raise_to(have, defined[name, machine] if name in PROVIDERS else ())
        for need in needs:
            match, provider = SYMBOL_VERSION.fullmatch(need.version), providers.get(need.library)
            if match is None or provider is None or need.weak:
                continue
            there = defined[need.library, machine]
            family, version = match[1], numbers(match[2])
            if there and need.version not in there and (family not in worst or version > worst[family][0]):
                has = raise_to({}, there).get(family)
                newest = f"{family}_{dotted(has)}" if has and has < version else ""
                worst[family] = version, UnmetVersion(str(path), need.version, str(provider), newest)
    if not worst:
        return None
    excesses = tuple(excess for _, excess in worst.values())
    return Shortfall(libtorch.root, excesses, newest_fitting(libtorch.arch, have), linked_by)


def raise_to(newest: dict[str, Version], versions: Iterable[str]) -> dict[str, Version]:
    """Raise the newest version of each family to those of some symbol versions; others are skipped."""
    for version in versions:
        found = SYMBOL_VERSION.fullmatch(version)
        if found:
            newest[found[1]] = max(newest.get(found[1], ()), numbers(found[2]))
    return newest


def numbers(text: str) -> Version:
    """`2.28` as numbers, to compare."""
    return tuple(map(int, text.split(".")))


def dotted(version: Version) -> str:
    """Numbers as they are written."""
    return ".".join(map(str, version))
