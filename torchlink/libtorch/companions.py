"""What a libtorch's libraries need from beside torch at run time, and whether their path leads there."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import MalformedFileError
from torchlink.libtorch.disk import is_file, names_in
from torchlink.libtorch.facts import CompanionDir, MissingLibrary
from torchlink.libtorch.layout import bare_name
from torchlink.libtorch.libraries import BUNDLED, elf_library
from torchlink.libtorch.packages import package_of
from torchlink.libtorch.system import on_every_system, system_has

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from torchlink.binary.elf import ElfFile
    from torchlink.libtorch.layout import Layout

# libtorch_cpu first: it says what every program needs. Where it is packed, its stub carries the same path.
MAIN = ("torch_cpu", "torch", "shm", "c10")
# Libraries that only Python or torch's own tests load; what they lack hurts nobody who links libtorch.
NOT_LINKED = frozenset(
    {"torch_python", "jitbackend_test", "torchbind_test", "backend_with_compiler", "aoti_custom_ops"}
)
SITE_LIBRARIES = ("nvidia", "_rocm_sdk_core", "_rocm_sdk_libraries", "cusparselt", "torch.libs")


class Companions(NamedTuple):
    """Where libtorch's libraries look, what is there, and what is nowhere."""

    search_kind: str | None = None
    search_path: tuple[str, ...] = ()
    dirs: tuple[CompanionDir, ...] = ()
    missing: tuple[MissingLibrary, ...] = ()
    conflicts: tuple[str, ...] = ()


class Needs(NamedTuple):
    """NEEDED names with the first library that asks, and the directories that the askers search."""

    askers: dict[str, str]
    entries: dict[str, list[str]]
    conflicts: list[str]


def search_path_of(elf: ElfFile) -> tuple[str | None, tuple[str, ...]]:
    """Kind and entries of a library's search path. RPATH counts for nothing beside a RUNPATH (glibc)."""
    dynamic = elf.dynamic
    for kind, text in (("runpath", dynamic.runpath), ("rpath", dynamic.rpath)):
        if text is not None:
            return kind, tuple(entry for entry in text.split(":") if entry)
    return None, ()


def read_companions(
    layout: Layout,
    libraries: tuple[str, ...],
    arch: str,
    cuda: str | None,
    sites: Callable[[], Iterable[Path]],
) -> Companions:
    """Follow the libraries' NEEDED names along their own search paths, then to where companions may be.

    Args:
        layout: where the libraries are.
        libraries: their file names, those in `torch.libs` too.
        arch: what they were built for; another machine's system libraries cannot be looked for.
        cuda: CUDA version, for the names of packages.
        sites: gives further site-packages directories to look into; asked only when something is missing.
    """
    main = next((elf for bare in MAIN if (elf := elf_library(layout, bare)) is not None), None)
    if main is None:
        return Companions()
    kind, path = search_path_of(main)
    if layout.tree.packed:
        return Companions(kind, path, packed_dirs(layout, path))
    needs = read_needs(layout, libraries, arch)
    in_place: dict[Path, list[str]] = {}
    missing = []
    for name, asker in needs.askers.items():
        found = next((entry for entry in needs.entries[name] if layout.tree.is_file(f"{entry}/{name}")), None)
        if found is not None:
            in_place.setdefault(layout.tree.path(found), []).append(name)
        elif not system_has(name, arch):
            missing.append((name, asker))
    still = []
    elsewhere: dict[Path, list[str]] = {}
    if missing:
        beside = list(companion_libs(sites()))
        for name, asker in missing:
            home = next((directory for directory in beside if is_file(directory / name)), None)
            if home is None:
                still.append((name, asker))
            else:
                elsewhere.setdefault(home, []).append(name)
    requires = metadata(layout) if still else ""
    return Companions(
        search_kind=kind,
        search_path=path,
        dirs=tuple(
            CompanionDir(directory, tuple(sorted(names)), reached)
            for found, reached in ((in_place, True), (elsewhere, False))
            for directory, names in found.items()
            if directory != layout.tree.path(layout.library_dir)
        ),
        missing=tuple(MissingLibrary(name, asker, package_of(name, cuda, requires)) for name, asker in still),
        conflicts=tuple(needs.conflicts),
    )


def read_needs(layout: Layout, libraries: tuple[str, ...], arch: str) -> Needs:
    """Collect what the libraries need that neither the library directory nor every system holds."""
    needs = Needs({}, {}, [])
    own = frozenset(layout.tree.names(layout.library_dir))
    # What every program loads first, so that it is named as the one that asks.
    for name in sorted(libraries, key=lambda name: (not name.startswith(("libtorch_cpu", "libc10.")), name)):
        if bare_name(name) in NOT_LINKED:
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
        for needed in elf.dynamic.needed:
            if needed not in own and not on_every_system(needed):
                needs.askers.setdefault(needed, name)
                needs.entries.setdefault(needed, []).extend(entries)
    return needs


def expand(entry: str, library_dir: str) -> str:
    """A search path entry as a name in the tree; an absolute one leads nowhere there."""
    origin = library_dir or "."
    return entry.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)


def packed_dirs(layout: Layout, path: tuple[str, ...]) -> tuple[CompanionDir, ...]:
    """The companion directories that lie in the same archive, which is `torch.libs` where there is one."""
    relative = (entry for entry in path if not entry.startswith("/"))
    reached = {layout.tree.path(expand(entry, layout.library_dir)) for entry in relative}
    names = layout.tree.names(BUNDLED)
    directory = layout.tree.path(BUNDLED)
    return (CompanionDir(directory, names, directory in reached),) if names else ()


def companion_libs(sites: Iterable[Path]) -> Iterable[Path]:
    """The directories with libraries that packages beside torch bring: `nvidia/<part>/lib` and its like."""
    for site in sites:
        for package in SITE_LIBRARIES:
            top = site / package
            if package == "torch.libs":
                yield top
            elif package == "nvidia":
                yield from (top / part / "lib" for part in names_in(top))
            else:
                yield top / "lib"
        yield site.parent.parent  # <env>/lib: MKL, oneAPI and XPU packages install there


def metadata(layout: Layout) -> str:
    """The METADATA of torch's wheel, which names what it requires; empty where there is none."""
    for name in layout.tree.names(".."):
        if name.startswith("torch-") and name.endswith(".dist-info"):
            return layout.tree.text(f"../{name}/METADATA") or ""
    return ""
