"""Whether this system's, or a compiler's, C and C++ libraries are new enough for a libtorch, and whether they fit it.

`shortfall` finds symbol versions that are missing, and the newest torch that would work. `glibc_conflict` finds a
second C library, of another release, among a libtorch's companions.
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

Version = tuple[int, ...]

# Machine, first and last release of torch, then the newest GLIBC, GLIBCXX and CXXABI that its wheels on PyPI need.
# Read from libtorch_cpu and libtorch_cuda in the wheels of 1.13.1, 2.0.1, 2.2.2, 2.3.1, 2.5.1, 2.6.0, 2.8.0, 2.11.0,
# 2.13.0 and 2.15.0; those in between by their platform tags: manylinux1, which claims less than they need,
# manylinux2014 and manylinux_2_28.
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


class Wheels(NamedTuple):
    """A row of `WHEELS`."""

    arch: str
    last: str  # the newest release
    needs: Mapping[str, Version]

    def __str__(self) -> str:
        """The release and what it needs, for messages."""
        needs = ", ".join(f"{family}_{dotted(version)}" for family, version in self.needs.items())
        return f"torch {self.last} (its wheels on PyPI need {needs})"


class UnmetVersion(NamedTuple):
    """A symbol version that a library needs and this system lacks."""

    library: str  # path of the library
    version: str  # "GLIBC_2.28"
    provider: str  # path of the library that should define it
    has: str  # the newest that it defines, "GLIBC_2.27"; empty if that is newer and only this one is absent

    def __str__(self) -> str:
        """The fact, for messages."""
        has = f"has at most {self.has}" if self.has else f"has no {self.version}"
        return f"{self.library} needs {self.version}, and {self.provider} {has}"


class Shortfall(NamedTuple):
    """The symbol versions that a libtorch needs and a system, or a compiler, lacks."""

    root: Path
    excesses: tuple[UnmetVersion, ...]  # the newest of each family
    fitting: Wheels | None
    linked_by: str | None = None  # the compiler whose libraries are too old; None: this system's

    @property
    def message(self) -> str:
        """The fact."""
        consequence = (
            f"Nothing that {self.linked_by} compiles links against it."
            if self.linked_by
            else "Nothing that is built against it starts here."
        )
        what = "a newer" if any(each.has for each in self.excesses) else "another"
        return f"The libtorch in {self.root} is for {what} system: {'; '.join(map(str, self.excesses))}. {consequence}"

    @property
    def hint(self) -> str:
        """The fix."""
        if not any(each.has for each in self.excesses):
            paths = " and ".join(dict.fromkeys(each.provider for each in self.excesses))
            return f"Replace {paths} by the system's own library, or name another compiler (--compiler, CXX)."
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
        """The same as an error."""
        return LibtorchUnusableError(self.message, hint=self.hint)


def newest_fitting(arch: str, have: Mapping[str, Version]) -> Wheels | None:
    """Return the newest torch whose wheels need no more than a system has.

    Args:
        arch: as in `Libtorch.arch`.
        have: the newest symbol versions of the system, `{"GLIBC": (2, 27)}`; other families are not compared.
    """
    fitting = None
    for row in wheels():
        if row.arch == arch and all(
            row.needs[family] <= have[family] for family in have if family in row.needs
        ):
            fitting = row
    return fitting


def wheels() -> Iterator[Wheels]:
    """Yield the rows of `WHEELS`, old releases first."""
    for line in WHEELS.strip().splitlines():
        arch, _, last, *versions = line.split()
        yield Wheels(arch, last, dict(zip(FAMILIES, map(numbers, versions), strict=True)))


class Linked(NamedTuple):
    """The C and C++ libraries that a compiler links with."""

    compiler: str  # its name for messages: `g++ 12.2.0`
    libraries: Mapping[str, Path]  # by their names in `PROVIDERS`


def shortfall(
    libtorch: Libtorch, linked: Linked | None = None, *, thorough: bool = False
) -> Shortfall | None:
    """Return what a libtorch's libraries need from glibc and libstdc++ and this system, or a compiler, lacks.

    Args:
        libtorch: one that is not extracted is not checked; one for another machine only by `linked`.
        linked: what the compiler links with, perhaps from a sysroot of its own.
        thorough: always follow the loader's whole search, not only where the libraries in its default directories are
            insufficient: 10 ms more, which finds an older libstdc++ that comes with libtorch.
    """
    if libtorch.packed or libtorch.platform != "linux":
        return None
    try:
        here = None
        if not is_foreign(libtorch) and (thorough or not default_libraries_suffice(libtorch)):
            here = shortfall_in_closure(libtorch)
        return here or (shortfall_of_compiler(libtorch, linked) if linked else None)
    except (FileError, MalformedFileError):  # reported elsewhere
        return None


def shortfall_of_compiler(libtorch: Libtorch, linked: Linked) -> Shortfall | None:
    """Return what the compiler's libraries lack; None if they are this system's own."""
    providers = {
        name: in_libtorch(libtorch, name) or path
        for name, path in linked.libraries.items()
        if is_foreign(libtorch) or not is_system_library(path, libtorch.arch)
    }
    return compare(libtorch, core(libtorch), providers, linked.compiler) if providers else None


def in_libtorch(libtorch: Libtorch, name: str) -> Path | None:
    """Return a library of this name in libtorch's directories, where a linker finds it before the compiler's."""
    places = (libtorch.library_dir, *(companion.path for companion in libtorch.companion_dirs))
    return next((place / name for place in places if (place / name).is_file()), None)


def is_system_library(path: Path, machine: str) -> bool:
    """Whether a library is the one in the default directories of this machine."""
    own = in_default_dirs(path.name, machine)
    return own is not None and own.resolve() == path.resolve()


def default_libraries_suffice(libtorch: Libtorch) -> bool:
    """Whether the libraries in the default directories define every symbol version that libtorch needs."""
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
    """Return libtorch's own libraries."""
    paths = (libtorch.library_dir / name for name in libtorch.libraries if CORE.match(name))
    return [path for path in paths if is_file(path)]


def in_default_dirs(name: str, machine: str) -> Path | None:
    """Return the path of a library in the default directories of a machine."""
    paths = (Path(directory, name) for directory in PLATFORMS.get(machine, UNKNOWN).dirs)
    return next((path for path in paths if is_file(path)), None)


def definitions(path: Path, machine: str | None = None) -> frozenset[str]:
    """Return the symbol versions that a library defines; none if it is for another machine than `machine`."""
    with ElfFile.open(path) as elf:
        if machine not in {None, elf.machine}:
            return frozenset()
        return frozenset(each.version for each in elf.version_definitions())


def shortfall_in_closure(libtorch: Libtorch) -> Shortfall | None:
    """Return what is lacking in the closure of libtorch as this system's loader resolves it."""
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
    return compare(libtorch, paths, providers)


def compare(
    libtorch: Libtorch, paths: Iterable[Path], providers: Mapping[str, Path], linked_by: str | None = None
) -> Shortfall | None:
    """Compare the versions that libtorch's libraries need with those that the providers define."""
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
    """Raise the newest version of each family to the newest of the given symbol versions; return the mapping."""
    for version in versions:
        found = SYMBOL_VERSION.fullmatch(version)
        if found:
            newest[found[1]] = max(newest.get(found[1], ()), numbers(found[2]))
    return newest


def numbers(text: str) -> Version:
    """Return (2, 28) for `2.28`."""
    return tuple(map(int, text.split(".")))


def dotted(version: Version) -> str:
    """Return `2.28` for (2, 28)."""
    return ".".join(map(str, version))


class GlibcConflict(NamedTuple):
    """A C library in a companion directory, of another release than this system's loader."""

    directory: Path
    theirs: Version
    ours: Version  # () where this system has no glibc

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


def release_in(directory: Path) -> Version:
    """Return the release of the glibc in a directory, (2, 36): the newest version it defines; () without one."""
    try:
        library = ElfFile.open(directory / PROVIDERS[0])
        return newest(each.version for each in library.version_definitions())
    except (FileError, MalformedFileError):
        return ()


def newest(versions: Iterable[str]) -> Version:
    """Return the newest GLIBC version, (2, 36) for `GLIBC_2.36`; () where there is none."""
    matches = (re.fullmatch(r"GLIBC_(\d+(?:\.\d+)+)", version) for version in versions)
    return max((tuple(map(whole_number, match[1].split("."))) for match in matches if match), default=())


def _file(libtorch: Libtorch, name: str) -> Path | None:
    found = (file for file in libtorch.libraries if file.startswith(f"lib{name}.so"))
    return next((libtorch.library_dir / file for file in found), None)
