"""What a libtorch's ELF libraries NEED, and where they themselves look for it.

What a libtorch needs from beside itself at run time, and whether its own search path leads there.
"""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torchlink.binary.elf import ElfFile
from torchlink.errors import FileError, MalformedFileError
from torchlink.libtorch.disk import is_file, names_in
from torchlink.libtorch.facts import CompanionDir, MissingLibrary
from torchlink.libtorch.layout import is_triple, is_unpacked_system
from torchlink.libtorch.libraries import BUNDLED, elf_library, library_file
from torchlink.libtorch.machine import macho
from torchlink.libtorch.names import PYTHON_LIBRARY, TEST_LIBRARIES, library_name
from torchlink.libtorch.packages import metadata, package_of, pinned
from torchlink.libtorch.system import found_by_default, on_every_system

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torchlink.libtorch.layout import Layout


# Libraries that only Python or torch's own tests load; what they lack hurts nobody who links libtorch.
NOT_LINKED = TEST_LIBRARIES | {PYTHON_LIBRARY}
# What every program loads first, so that it is named as the one that asks.
FIRST = ("libtorch_cpu.", "libc10.")


class Needs(NamedTuple):
    """NEEDED names for which something has to be looked for: the C runtime's and those in reach are left out."""

    requesters: dict[str, str]  # name → file name of the first library that asks for it
    entries: dict[str, list[str]]  # name → search path entries of all that ask, as names in the tree
    conflicts: list[str]
    unreached: set[
        str
    ]  # those of the names that are in the library directory, where nothing of theirs points


def search_path_of(elf: ElfFile) -> tuple[str | None, tuple[str, ...]]:
    """Kind and entries of a library's search path. RPATH counts for nothing beside a RUNPATH (glibc)."""
    dynamic = elf.dynamic
    for kind, text in (("runpath", dynamic.runpath), ("rpath", dynamic.rpath)):
        if text is not None:
            return kind, tuple(entry for entry in text.split(":") if entry)
    return None, ()


def read_needs(layout: Layout, libraries: tuple[str, ...], arch: str) -> Needs:
    """Collect the needs of the libraries that a program may link, and name those that cannot be read."""
    needs = Needs({}, {}, [], set())
    own = frozenset(layout.tree.names(layout.library_dir))
    for name in sorted(libraries, key=lambda name: (not name.startswith(FIRST), name)):
        if library_name(name) in NOT_LINKED:
            continue
        try:
            elf = layout.tree.elf(layout.library(name))
        except MalformedFileError as error:
            needs.conflicts.append(error.message.rstrip("."))
            continue
        if elf is None:
            continue
        if elf.machine != arch:
            needs.conflicts.append(f"{name} is for {elf.machine}, libc10 for {arch}")
            continue
        entries = [expand(entry, layout.library_dir) for entry in search_path_of(elf)[1]]
        found_here = any(posixpath.normpath(entry) == (layout.library_dir or ".") for entry in entries)
        for needed in elf.dynamic.needed:
            if needed in own and not found_here:
                needs.unreached.add(needed)
            if (needed not in own or not found_here) and not on_every_system(needed):
                needs.requesters.setdefault(needed, name)
                needs.entries.setdefault(needed, []).extend(entries)
    return needs


def expand(entry: str, library_dir: str) -> str:
    """A search path entry with `$ORIGIN` as a name in the tree; an absolute one stays what it is."""
    origin = library_dir or "."
    return entry.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)


# libtorch_cpu first: it says what every program needs. Where it is packed, its stub carries the same path.
MAIN = ("torch_cpu", "torch", "shm", "c10")
PACKAGE_DIRS = ("cusparselt/lib", "torch.libs")
ROCM = "_rocm_sdk_"  # core, libraries, or libraries of one GPU family; what core itself takes along is deeper
ROCM_DIRS = ("lib", "lib/rocm_sysdeps/lib")


class Companions(NamedTuple):
    """Where libtorch's libraries look, what is there, and what is nowhere."""

    search_kind: str | None = None
    search_path: tuple[str, ...] = ()
    dirs: tuple[CompanionDir, ...] = ()
    missing: tuple[MissingLibrary, ...] = ()
    conflicts: tuple[str, ...] = ()


def read_companions(
    layout: Layout,
    libraries: tuple[str, ...],
    cuda: str | None,
    sites: Callable[[], Iterable[Path]],
    *,
    alone: bool = False,
) -> Companions:
    """Follow the libraries' NEEDED names along their own search paths, then to where companions may be.

    Args:
        layout: where the libraries are.
        libraries: their file names, those in `torch.libs` too.
        cuda: CUDA version, for the names of packages.
        sites: gives further site-packages directories to look into; asked only when something is missing.
        alone: only what the tree itself holds counts, because it is meant for another machine.
    """
    dylib = next((file for bare in MAIN if (file := library_file(layout, bare))), "")
    if dylib.endswith(".dylib"):
        return Companions("rpath", macho(layout, dylib).slices[0].rpaths)
    main = next((elf for bare in MAIN if (elf := elf_library(layout, bare)) is not None), None)
    if main is None:
        return Companions()
    kind, path = search_path_of(main)
    if layout.tree.packed:
        return Companions(kind, path, packed_dirs(layout, path))
    needs = read_needs(layout, libraries, main.machine)
    in_place: dict[Path, list[str]] = {}
    stray = []
    for name in needs.requesters:
        entries = (entry for entry in needs.entries[name] if not (alone and entry.startswith("/")))
        entry = next((entry for entry in entries if reaches(layout, entry, name)), None)
        if entry is None:
            stray.append(name)
        else:
            directory = Path(entry) if entry.startswith("/") else layout.tree.path(entry)
            in_place.setdefault(directory, []).append(name)
    elsewhere: dict[Path, list[str]] = {}
    missing: list[str] = []
    if alone:
        missing = [name for name in stray if name not in needs.unreached]
    elif stray and is_unpacked_system(layout):
        elsewhere, missing = look_in_system(layout, stray, main, needs)
    elif stray:
        own = dict.fromkeys(needs.unreached, layout.tree.path(layout.library_dir))
        elsewhere, missing = look_beside(stray, main, cuda, sites, own)
    return Companions(
        search_kind=kind,
        search_path=path,
        dirs=tuple(
            CompanionDir(directory, tuple(sorted(names)), reached, tangled=tangled(directory, names))
            for found, reached in ((in_place, True), (elsewhere, False))
            for directory, names in found.items()
        ),
        missing=name_packages(layout, missing, needs, cuda),
        conflicts=tuple(needs.conflicts),
    )


def reaches(layout: Layout, entry: str, name: str) -> bool:
    """Whether a search path entry leads to a library."""
    return is_file(f"{entry}/{name}") if entry.startswith("/") else layout.tree.is_file(f"{entry}/{name}")


def tangled(directory: Path, needed: list[str]) -> bool:
    """See `CompanionDir.tangled`.

    Args:
        directory: where the companions are.
        needed: those of them that libtorch itself needs; any linker finds these by libtorch's search path.
    """
    here = {*names_in(directory)} - {*needed}
    for name in needed if here else ():
        try:
            elf = ElfFile.open(directory / name)
            entries = [expand(entry, str(directory)) for entry in search_path_of(elf)[1]]
            others = here.intersection(elf.dynamic.needed)
        except (FileError, MalformedFileError):
            continue
        if any(not any(is_file(f"{entry}/{other}") for entry in entries) for other in others):
            return True
    return False


def look_beside(
    stray: list[str],
    main: ElfFile,
    cuda: str | None,
    sites: Callable[[], Iterable[Path]],
    own: dict[str, Path],
) -> tuple[dict[Path, list[str]], list[str]]:
    """Where the libraries are that no search path reaches: directory → names; and the names that are nowhere.

    Packages beside torch go before the system's libraries, because torch was built for their versions, and
    those before `<env>/lib`, where an environment keeps other things too. `own` holds what is in libtorch's
    own directory and is not reached even so, because the libraries have no search paths.
    """
    known = list(sites())
    packages = list(package_dirs(known))
    environments = [site.parent.parent for site in known]
    by_default = found_by_default(stray, main, lambda name: package_of(name, cuda) is not None)
    found: dict[Path, list[str]] = {}
    nowhere = []
    for name in stray:
        home = next((directory for directory in packages if is_file(directory / name)), None)
        if home is None and name in by_default:
            continue
        home = home or own.get(name)
        home = home or next((directory for directory in environments if is_file(directory / name)), None)
        if home is None:
            nowhere.append(name)
        else:
            found.setdefault(home, []).append(name)
    return found, nowhere


def look_in_system(
    layout: Layout, stray: list[str], main: ElfFile, needs: Needs
) -> tuple[dict[Path, list[str]], list[str]]:
    """As `look_beside`, where the libtorch is a part of an unpacked system; what its neighbours need counts too."""
    from torchlink.libtorch.system import Sysroot, find_in_system

    sysroot = Sysroot(layout.tree.root, layout.tree.path(layout.library_dir), main)
    found, nowhere = find_in_system(
        {name: needs.requesters[name] for name in stray},
        sysroot,
        lambda names: found_by_default(names, main, lambda _: True),
    )
    needs.requesters.update(nowhere)
    return found, list(nowhere)


def package_dirs(sites: Iterable[Path]) -> Iterator[Path]:
    """The directories in which packages beside torch bring libraries: `nvidia/<part>/lib` and its like."""
    for site in sites:
        yield from (site / "nvidia" / part / "lib" for part in names_in(site / "nvidia"))
        yield from (site / directory for directory in PACKAGE_DIRS)
        for name in names_in(site):
            if name.startswith(ROCM):
                yield from (site / name / directory for directory in ROCM_DIRS)


def packed_dirs(layout: Layout, path: tuple[str, ...]) -> tuple[CompanionDir, ...]:
    """The companion directories that are in the same archive, which is `torch.libs` where there is one."""
    relative = (entry for entry in path if not entry.startswith("/"))
    reached = {layout.tree.path(expand(entry, layout.library_dir)) for entry in relative}
    names = layout.tree.names(BUNDLED)
    directory = layout.tree.path(BUNDLED)
    # What these need of one another is not worth unpacking them for.
    return (CompanionDir(directory, names, directory in reached, tangled=True),) if names else ()


def name_packages(
    layout: Layout, missing: list[str], needs: Needs, cuda: str | None
) -> tuple[MissingLibrary, ...]:
    """The missing libraries with who asks for them and PyPI's package that brings them, where that fits."""
    if is_triple(layout.library_dir.rpartition("/")[2]):  # Debian's: PyPI's builds are others
        return tuple(MissingLibrary(name, needs.requesters[name], None) for name in missing)
    requires = metadata(layout) if missing else ""
    return tuple(
        MissingLibrary(name, needs.requesters[name], package, pinned(package, requires) if package else None)
        for name in missing
        for package in [package_of(name, cuda, requires)]
    )
