"""The companion directories of a libtorch, and the dependencies that are in none of them."""

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


# Libraries that only Python or torch's own tests load; a program that links libtorch does not need their dependencies.
NOT_LINKED = TEST_LIBRARIES | {PYTHON_LIBRARY}
# Every program loads these first, so a missing library is reported as needed by one of them.
FIRST = ("libtorch_cpu.", "libc10.")
# The library whose search path counts. libtorch_cpu is loaded by every program; in an archive it may be too large to
# read, and the stub libtorch.so carries the same path.
MAIN = ("torch_cpu", "torch", "shm", "c10")
PACKAGE_DIRS = ("cusparselt/lib", "torch.libs")
ROCM = "_rocm_sdk_"  # begins the packages `core`, `libraries` and those of one GPU family
ROCM_DIRS = ("lib", "lib/rocm_sysdeps/lib")


class Needs(NamedTuple):
    """NEEDED names to look up: all but those of the C runtime and those that the library directory provides."""

    requesters: dict[str, str]  # name → file name of the first library that needs it
    entries: dict[str, list[str]]  # name → search path entries of all that need it, as names in the tree
    conflicts: list[str]
    unreached: set[str]  # names that are in the library directory, which no search path entry points to


def search_path_of(elf: ElfFile) -> tuple[str | None, tuple[str, ...]]:
    """Return the kind and the entries of a library's search path. glibc ignores RPATH where there is a RUNPATH."""
    dynamic = elf.dynamic
    for kind, text in (("runpath", dynamic.runpath), ("rpath", dynamic.rpath)):
        if text is not None:
            return kind, tuple(entry for entry in text.split(":") if entry)
    return None, ()


def read_needs(layout: Layout, libraries: tuple[str, ...], arch: str) -> Needs:
    """Collect the needs of the libraries that a program may link; unreadable ones become conflicts."""
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
    """Replace `$ORIGIN` in a search path entry by the library directory's name in the tree."""
    origin = library_dir or "."
    return entry.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)


class Companions(NamedTuple):
    """Where libtorch's libraries look for their dependencies, what is there, and what is missing."""

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
        libraries: their file names, including those in `torch.libs`.
        cuda: CUDA version, for the package names.
        sites: returns further site-packages directories to search; called only when something is missing.
        alone: search only the tree itself, because it is meant for another machine.
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
    unresolved = []
    for name in needs.requesters:
        entries = (entry for entry in needs.entries[name] if not (alone and entry.startswith("/")))
        entry = next((entry for entry in entries if reaches(layout, entry, name)), None)
        if entry is None:
            unresolved.append(name)
        else:
            directory = Path(entry) if entry.startswith("/") else layout.tree.path(entry)
            in_place.setdefault(directory, []).append(name)
    elsewhere: dict[Path, list[str]] = {}
    missing: list[str] = []
    if alone:
        missing = [name for name in unresolved if name not in needs.unreached]
    elif unresolved and is_unpacked_system(layout):
        elsewhere, missing = find_in_unpacked_system(layout, unresolved, main, needs)
    elif unresolved:
        own = dict.fromkeys(needs.unreached, layout.tree.path(layout.library_dir))
        elsewhere, missing = find_in_packages(unresolved, main, cuda, sites, own)
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
    """Decide `CompanionDir.tangled`.

    Args:
        directory: where the companions are.
        needed: the ones that libtorch itself needs, which any linker finds by libtorch's search path.
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


def find_in_packages(
    unresolved: list[str],
    main: ElfFile,
    cuda: str | None,
    sites: Callable[[], Iterable[Path]],
    own: dict[str, Path],
) -> tuple[dict[Path, list[str]], list[str]]:
    """Find the libraries that no search path reaches: directory → names, and the names that are missing.

    Packages next to torch come before the system's libraries, because torch was built for their versions; the
    system's come before `<env>/lib`, where an environment keeps unrelated libraries too. `own` has the names that are
    in libtorch's own directory but not found there, because libtorch's libraries have no search path.
    """
    known = list(sites())
    packages = list(package_dirs(known))
    environments = [site.parent.parent for site in known]
    by_default = found_by_default(unresolved, main, lambda name: package_of(name, cuda) is not None)
    found: dict[Path, list[str]] = {}
    missing = []
    for name in unresolved:
        home = next((directory for directory in packages if is_file(directory / name)), None)
        if home is None and name in by_default:
            continue
        home = home or own.get(name)
        home = home or next((directory for directory in environments if is_file(directory / name)), None)
        if home is None:
            missing.append(name)
        else:
            found.setdefault(home, []).append(name)
    return found, missing


def find_in_unpacked_system(
    layout: Layout, unresolved: list[str], main: ElfFile, needs: Needs
) -> tuple[dict[Path, list[str]], list[str]]:
    """Do the same for a libtorch in an unpacked system, where the dependencies' own dependencies count as well."""
    from torchlink.libtorch.system import Sysroot, find_in_system

    sysroot = Sysroot(layout.tree.root, layout.tree.path(layout.library_dir), main)
    found, missing = find_in_system(
        {name: needs.requesters[name] for name in unresolved},
        sysroot,
        lambda names: found_by_default(names, main, lambda _: True),
    )
    needs.requesters.update(missing)
    return found, list(missing)


def package_dirs(sites: Iterable[Path]) -> Iterator[Path]:
    """Yield the library directories of packages next to torch: `nvidia/<part>/lib` and the like."""
    for site in sites:
        yield from (site / "nvidia" / part / "lib" for part in names_in(site / "nvidia"))
        yield from (site / directory for directory in PACKAGE_DIRS)
        for name in names_in(site):
            if name.startswith(ROCM):
                yield from (site / name / directory for directory in ROCM_DIRS)


def packed_dirs(layout: Layout, path: tuple[str, ...]) -> tuple[CompanionDir, ...]:
    """Return the companion directories in the same archive: `torch.libs`, if it exists."""
    relative = (entry for entry in path if not entry.startswith("/"))
    reached = {layout.tree.path(expand(entry, layout.library_dir)) for entry in relative}
    names = layout.tree.names(BUNDLED)
    directory = layout.tree.path(BUNDLED)
    # Whether these need one another could only be read by unpacking them: assume so.
    return (CompanionDir(directory, names, directory in reached, tangled=True),) if names else ()


def name_packages(
    layout: Layout, missing: list[str], needs: Needs, cuda: str | None
) -> tuple[MissingLibrary, ...]:
    """Add to each missing library the one that needs it and, if known, the PyPI package that contains it."""
    if is_triple(layout.library_dir.rpartition("/")[2]):  # Debian's libraries are not those of PyPI packages
        return tuple(MissingLibrary(name, needs.requesters[name], None) for name in missing)
    requires = metadata(layout) if missing else ""
    return tuple(
        MissingLibrary(name, needs.requesters[name], package, pinned(package, requires) if package else None)
        for name in missing
        for package in [package_of(name, cuda, requires)]
    )
