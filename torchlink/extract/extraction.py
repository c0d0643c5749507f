"""What an extraction did, as one frozen report.

Writing members of archives to disk, piece by piece, and what may be replaced by them.

`torchlink extract` as a function: choose, unpack beside the place, complete, fix, rename.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile, ZipFile

from torchlink.atomic import SILENT, Progress, check_space, publish, unwritable, workspace
from torchlink.errors import LibtorchUnusableError, MalformedFileError, UsageError, WouldOverwriteError
from torchlink.extract import companions, members
from torchlink.extract.companions import WheelIndex, items_of, providers, search_dirs, shelve
from torchlink.libtorch.inspect import inspect, inspect_layout
from torchlink.libtorch.layout import Layout, NoLibtorch, lay_out
from torchlink.libtorch.packages import metadata, package_of, pinned
from torchlink.libtorch.tree import ArchiveTree, open_zip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from torchlink.extract.members import ArchiveMember
    from torchlink.libtorch.facts import Libtorch


@dataclass(frozen=True, slots=True)
class CompanionLibraries:
    """The libraries that a companion's wheel gave."""

    wheel: Path
    libraries: tuple[str, ...]  # file names, sorted


@dataclass(frozen=True, slots=True)
class ExtractReport:
    """One run of `torchlink extract`."""

    libtorch: Libtorch  # what is in the new directory, read from there
    wheel: Path  # what it was cut out of
    files: int
    size: int  # bytes
    left_out: tuple[str, ...]  # libraries of the wheel that only Python or torch's own tests use
    companions: tuple[CompanionLibraries, ...]
    unused: tuple[Path, ...]  # wheels that were named and hold nothing that is needed
    patched: tuple[str, ...]  # libraries whose search path had to be changed


PIECE = 1 << 20  # bytes
# The names at the top of what is written; a directory that holds others is not torchlink's to replace.
OWN_NAMES = frozenset({"bin", "build-hash", "build-version", "include", "lib", "share"})


def check_target(directory: Path, *, force: bool) -> None:
    """See whether a libtorch may be put at `directory`.

    Raises:
        WouldOverwriteError: something stands there, and without `force`, or something else than a libtorch.
        FileError: it cannot be looked at.
    """
    try:
        there = sorted(path.name for path in directory.iterdir()) if directory.is_dir() else None
        if there is None and (directory.exists() or directory.is_symlink()):
            raise WouldOverwriteError(
                f"{directory} is a file; nothing was written.", hint="Name another place."
            )
    except OSError as error:
        raise unwritable(directory, error) from error
    if not there:
        return
    if not force:
        raise WouldOverwriteError(
            f"{directory} is not empty; nothing was written.",
            hint="Name another directory, or give --force to replace a libtorch that was extracted before.",
        )
    others = [name for name in there if name not in OWN_NAMES]
    if others:
        raise WouldOverwriteError(
            f"{directory} holds more than a libtorch ({', '.join(others[:3])}), which --force would delete.",
            hint="Name a directory of its own.",
        )


def unpack(
    archive: ZipFile, items: Iterable[ArchiveMember], root: Path, advance: Callable[[int], None]
) -> tuple[int, int]:
    """Write members below `root`; returns how many files and bytes.

    Args:
        archive: where they are.
        items: the members and their places.
        root: the directory that they go to.
        advance: called with the number of bytes after every piece.

    Raises:
        MalformedFileError: the archive is damaged or encrypted.
        FileError: the disk is full, or may not be written.
    """
    count = size = 0
    for item in items:
        target = root / item.target
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            size += _write(archive, item, target, advance)
        except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise MalformedFileError(
                f"{archive.filename} is damaged or encrypted: {item.member.filename} cannot be unpacked ({error}).",
                hint="Download it again.",
            ) from error
        except OSError as error:
            raise unwritable(target, error) from error
        count += 1
    return count, size


def _write(archive: ZipFile, item: ArchiveMember, target: Path, advance: Callable[[int], None]) -> int:
    size = 0
    with archive.open(item.member) as source, target.open("xb") as file:
        while piece := source.read(PIECE):
            file.write(piece)
            size += len(piece)
            advance(len(piece))
    executable = (item.member.external_attr >> 16) & 0o111
    if executable:
        target.chmod(target.stat().st_mode | executable)
    return size


def extract(
    wheels: Sequence[Path],
    directory: Path,
    *,
    python_libs: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> ExtractReport:
    """Cut the libtorch out of a wheel.

    The new directory has the layout of upstream's zips: `include`, `share`, and in `lib` every library, those
    of companion wheels too. It appears whole or not at all.

    Args:
        wheels: torch's wheel, and in any order wheels with libraries that it needs.
        directory: where to; made where it is missing.
        python_libs: take the libraries that only Python uses, too (`libtorch_python`, `libshm`).
        force: replace a libtorch that was extracted there before.
        progress: told how far it is.

    Raises:
        UsageError: several of the wheels hold a libtorch, or two hold the same companion.
        LibtorchUnusableError: none of the wheels holds a whole libtorch.
        FileError: a wheel cannot be read, the directory not be written.
        MalformedFileError: a wheel is damaged.
        WouldOverwriteError: something stands in the way.
        ToolMissingError: a search path must be changed, and patchelf is missing.
    """
    target = Path(os.path.realpath(directory))  # of a link, what it leads to
    with contextlib.ExitStack() as stack:
        archives = {wheel: stack.enter_context(open_zip(wheel)) for wheel in wheels}
        wheel, layout = libtorch_in(archives)
        packed = inspect_layout(layout, "wheel")
        check_target(target, force=force)
        choice = members.choose(layout, archives[wheel], packed.version, python_libs=python_libs)
        shelves = [shelve(path, archive) for path, archive in archives.items() if path != wheel]
        work = stack.enter_context(workspace(target))
        growing = _Builder(work / "libtorch", progress)
        growing.put(archives[wheel], choice.items)
        growing.write(choice.texts)
        patched: tuple[str, ...] = ()
        if packed.platform == "linux":
            growing.know(choice.items)
            growing.complete(shelves)
            patched = companions.write_search_paths(growing.lib, growing.libraries)
        publish(growing.root, target)
    return ExtractReport(
        libtorch=pin(inspect(directory, "extracted", alone=True), layout),
        wheel=wheel,
        files=growing.count,
        size=growing.size,
        left_out=choice.left_out,
        companions=tuple(
            CompanionLibraries(path, tuple(sorted(names))) for path, names in growing.taken.items()
        ),
        unused=tuple(path for path in wheels if path != wheel and path not in growing.taken),
        patched=patched,
    )


def pin(libtorch: Libtorch, wheel: Layout) -> Libtorch:
    """The libtorch with its missing libraries asked for as the wheel's METADATA does: that does not go along."""
    requires = metadata(wheel) if libtorch.missing_libraries else ""
    return libtorch._replace(
        missing_libraries=tuple(
            missing._replace(package=package, requirement=pinned(package, requires) if package else None)
            for missing in libtorch.missing_libraries
            for package in [package_of(missing.name, libtorch.accelerator_version, requires)]
        )
    )


def libtorch_in(wheels: Iterable[Path]) -> tuple[Path, Layout]:
    """The one wheel that holds a libtorch.

    Raises:
        UsageError: several do.
        LibtorchUnusableError: none does.
    """
    found = {path: lay_out(ArchiveTree(path)) for path in wheels}
    layouts = [(path, layout) for path, layout in found.items() if isinstance(layout, Layout)]
    if len(layouts) == 1:
        return layouts[0]
    if layouts:
        names = " and ".join(path.name for path, _ in layouts)
        raise UsageError(f"{names} each hold a libtorch.", hint="Extract one at a time.")
    nearest = max(
        (none for none in found.values() if isinstance(none, NoLibtorch)), key=lambda none: none.nearness
    )
    raise LibtorchUnusableError(
        f"There is no libtorch to extract in {', '.join(path.name for path in found)}: {nearest.reason}.",
        hint="Name a wheel of torch; `pip download --no-deps torch` gets one.",
    )


class _Builder:
    """The directory while it is being filled."""

    def __init__(self, root: Path, progress: Progress) -> None:
        self.root = root
        self.lib = root / "lib"
        self.progress = progress
        self.count = 0  # files
        self.size = 0  # bytes
        self.libraries: dict[str, companions.SearchFacts] = {}
        self.reached: set[str] = set()  # directories of site-packages to which their search paths lead
        self.taken: dict[Path, list[str]] = {}  # companions' wheels and the libraries that they gave

    def put(self, archive: ZipFile, items: Sequence[members.ArchiveMember]) -> None:
        """Unpack members."""
        expected = members.total(items)
        check_space(self.root.parent, expected)
        self.progress.expect(expected)
        count, size = unpack(archive, items, self.root, self.progress.advance)
        self.count += count
        self.size += size

    def write(self, texts: Mapping[str, str]) -> None:
        """Write small files of text."""
        for name, text in texts.items():
            place = self.root / name
            place.parent.mkdir(parents=True, exist_ok=True)
            self.size += place.write_bytes(text.encode())
            self.count += 1

    def know(self, items: Iterable[members.ArchiveMember]) -> dict[str, companions.SearchFacts]:
        """Read the libraries among what was unpacked; returns them by file name."""
        places = {
            item.target.removeprefix("lib/"): item.member.filename.rpartition("/")[0]
            for item in items
            if item.target.startswith("lib/")
        }
        found = companions.read_dynamic(self.lib, places)
        for name, library in found.items():
            self.reached |= search_dirs(places[name], library.entries)
        self.libraries.update(found)
        return found

    def complete(self, shelves: Sequence[WheelIndex]) -> None:
        """Add what is NEEDED from companions' wheels, until nothing more is."""
        machine = next((library.machine for library in self.libraries.values()), "")
        while found := providers(sorted(self._missing()), shelves, self.reached):
            for shelf, directory in found:
                items = items_of(
                    shelf, directory, self.libraries, with_licences=shelf.wheel not in self.taken
                )
                self.put(shelf.archive, items)
                arrived = self.know(items)
                stranger = next((name for name in arrived if arrived[name].machine != machine), None)
                if stranger:
                    raise UsageError(
                        f"{stranger} of {shelf.wheel.name} is for {arrived[stranger].machine}, "
                        f"and this libtorch for {machine}.",
                        hint=f"Name a wheel for {machine}.",
                    )
                self.taken.setdefault(shelf.wheel, []).extend(arrived)

    def _missing(self) -> set[str]:
        needed = {name for library in self.libraries.values() for name in library.needed}
        return needed - self.libraries.keys()
