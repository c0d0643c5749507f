"""`torchlink extract` as a function: choose members, unpack them next to the target, add companions, rename."""

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
from torchlink.extract.companions import WheelIndex, index_wheel, items_of, providers, search_dirs
from torchlink.libtorch.inspect import inspect, inspect_layout
from torchlink.libtorch.layout import Layout, NoLibtorch, lay_out
from torchlink.libtorch.packages import metadata, package_of, pinned
from torchlink.libtorch.tree import ArchiveTree, open_zip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from torchlink.extract.members import ArchiveMember
    from torchlink.libtorch.facts import Libtorch

PIECE = 1 << 20  # bytes
# The top-level names of an extracted libtorch; a directory with any other is never replaced.
OWN_NAMES = frozenset({"bin", "build-hash", "build-version", "include", "lib", "share"})


@dataclass(frozen=True, slots=True)
class CompanionLibraries:
    """The libraries extracted from a companion's wheel."""

    wheel: Path
    libraries: tuple[str, ...]  # file names, sorted


@dataclass(frozen=True, slots=True)
class ExtractReport:
    """One run of `torchlink extract`."""

    libtorch: Libtorch  # the extracted one, inspected in its new directory
    wheel: Path  # that it was extracted from
    files: int
    size: int  # bytes
    left_out: tuple[str, ...]  # libraries of the wheel that only Python or torch's tests use
    companions: tuple[CompanionLibraries, ...]
    unused: tuple[Path, ...]  # wheels that were named and contain nothing that is needed
    patched: tuple[str, ...]  # libraries whose search path had to be changed


def check_target(directory: Path, *, force: bool) -> None:
    """Check that a libtorch may be put at `directory`.

    Raises:
        WouldOverwriteError: it is not empty, and `force` is off or it contains more than a libtorch.
        FileError: it cannot be read.
    """
    try:
        there = sorted(path.name for path in directory.iterdir()) if directory.is_dir() else None
        if there is None and (directory.exists() or directory.is_symlink()):
            raise WouldOverwriteError(
                f"{directory} is a file; nothing was written.", hint="Name another directory."
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
            f"{directory} contains more than a libtorch ({', '.join(others[:3])}), which --force would delete.",
            hint="Name a directory for the libtorch alone.",
        )


def unpack(
    archive: ZipFile, items: Iterable[ArchiveMember], root: Path, advance: Callable[[int], None]
) -> tuple[int, int]:
    """Write members below `root`; return the number of files and bytes.

    Args:
        archive: contains them.
        items: the members and their targets.
        root: the directory that they go to.
        advance: called with the number of bytes after every piece.

    Raises:
        MalformedFileError: the archive is damaged or encrypted.
        FileError: the disk is full, or cannot be written.
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
    """Extract the libtorch in a wheel.

    The new directory has the layout of upstream's zips: `include`, `share`, and in `lib` every library, including those
    of companion wheels. It appears complete or not at all.

    Args:
        wheels: torch's wheel and wheels with libraries that it needs, in any order.
        directory: the target; created if missing.
        python_libs: include the libraries that only Python uses (`libtorch_python`, `libshm`).
        force: replace a libtorch that was extracted there before.
        progress: is called with the bytes written.

    Raises:
        UsageError: several of the wheels contain a libtorch, or two contain the same companion.
        LibtorchUnusableError: none of the wheels contains a complete libtorch.
        FileError: a wheel cannot be read, or the directory cannot be written.
        MalformedFileError: a wheel is damaged.
        WouldOverwriteError: something else is at the target.
        ToolMissingError: a search path must be changed, and patchelf is missing.
    """
    target = Path(os.path.realpath(directory))  # a link's target
    with contextlib.ExitStack() as stack:
        archives = {wheel: stack.enter_context(open_zip(wheel)) for wheel in wheels}
        wheel, layout = libtorch_in(archives)
        packed = inspect_layout(layout, "wheel")
        check_target(target, force=force)
        choice = members.choose(layout, archives[wheel], packed.version, python_libs=python_libs)
        indexes = [index_wheel(path, archive) for path, archive in archives.items() if path != wheel]
        work = stack.enter_context(workspace(target))
        builder = _Builder(work / "libtorch", progress)
        builder.put(archives[wheel], choice.items)
        builder.write(choice.texts)
        patched: tuple[str, ...] = ()
        if packed.platform == "linux":
            builder.register(choice.items)
            builder.complete(indexes)
            patched = companions.write_search_paths(builder.lib, builder.libraries)
        publish(builder.root, target)
    return ExtractReport(
        libtorch=pin(inspect(directory, "extracted", alone=True), layout),
        wheel=wheel,
        files=builder.count,
        size=builder.size,
        left_out=choice.left_out,
        companions=tuple(
            CompanionLibraries(path, tuple(sorted(names))) for path, names in builder.taken.items()
        ),
        unused=tuple(path for path in wheels if path != wheel and path not in builder.taken),
        patched=patched,
    )


def pin(libtorch: Libtorch, wheel: Layout) -> Libtorch:
    """Return the libtorch with the wheel's requirements for its missing libraries: its METADATA is not extracted."""
    requires = metadata(wheel) if libtorch.missing_libraries else ""
    return libtorch._replace(
        missing_libraries=tuple(
            missing._replace(package=package, requirement=pinned(package, requires) if package else None)
            for missing in libtorch.missing_libraries
            for package in [package_of(missing.name, libtorch.accelerator_version, requires)]
        )
    )


def libtorch_in(wheels: Iterable[Path]) -> tuple[Path, Layout]:
    """Return the only wheel that contains a libtorch.

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
        raise UsageError(f"{names} each contain a libtorch.", hint="Extract one at a time.")
    nearest = max(
        (none for none in found.values() if isinstance(none, NoLibtorch)), key=lambda none: none.nearness
    )
    raise LibtorchUnusableError(
        f"{', '.join(path.name for path in found)}: no libtorch to extract: {nearest.reason}.",
        hint="Name a wheel of torch; `pip download --no-deps torch` downloads one.",
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
        self.reached: set[str] = set()  # directories of site-packages in their search paths
        self.taken: dict[Path, list[str]] = {}  # companions' wheels and the libraries extracted from them

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

    def register(self, items: Iterable[members.ArchiveMember]) -> dict[str, companions.SearchFacts]:
        """Read the libraries among the unpacked members, and return them by file name."""
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

    def complete(self, indexes: Sequence[WheelIndex]) -> None:
        """Add NEEDED libraries from companions' wheels, until none is left that they contain."""
        machine = next((library.machine for library in self.libraries.values()), "")
        while found := providers(sorted(self._missing()), indexes, self.reached):
            for index, directory in found:
                items = items_of(
                    index, directory, self.libraries, with_licences=index.wheel not in self.taken
                )
                self.put(index.archive, items)
                arrived = self.register(items)
                stranger = next((name for name in arrived if arrived[name].machine != machine), None)
                if stranger:
                    raise UsageError(
                        f"{stranger} of {index.wheel.name} is for {arrived[stranger].machine}, "
                        f"and this libtorch for {machine}.",
                        hint=f"Name a wheel for {machine}.",
                    )
                self.taken.setdefault(index.wheel, []).extend(arrived)

    def _missing(self) -> set[str]:
        needed = {name for library in self.libraries.values() for name in library.needed}
        return needed - self.libraries.keys()
