"""The plan of a bundle, made from the files alone before anything is written.

`OpenedLibraries` adds the libraries that others open by name at run time, from where those would find them.
"""

from __future__ import annotations

import os
import posixpath
import stat
from dataclasses import replace
from fnmatch import filter as fit
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.binary.loader import OpenFiles, resolve
from torchlink.binary.search import expand
from torchlink.binary.system import system_for
from torchlink.bounds import whole_number
from torchlink.bundle.collect import Collection, missing_error
from torchlink.bundle.contents import BundlePlan, Floor, LeftOut, Part, Why
from torchlink.bundle.manifest import OWN_NAMES
from torchlink.bundle.owners import Owners
from torchlink.bundle.placement import Piece, placement_of
from torchlink.bundle.policy import DATA_BESIDE, DRIVER, GRAPHICS, Policy, companions_of, matches
from torchlink.errors import ResourcesError, TorchlinkError, UsageError
from torchlink.libtorch.disk import names_in
from torchlink.libtorch.names import NVIDIA_PACKAGES
from torchlink.status import is_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torchlink.binary.closure import Closure
    from torchlink.binary.system import LoaderSystem
    from torchlink.bundle.collect import CollectedFile, Walk
    from torchlink.bundle.contents import Owner
    from torchlink.bundle.options import BundleOptions

SYSTEM_KINDS = ("ld.so.cache", "default")


class OpenedLibraries:
    """Adds the libraries that others open at run time to a collection.

    Args:
        collection: is extended.
        system: the loader.
        files: keeps ELF files open.
    """

    def __init__(self, collection: Collection, system: LoaderSystem, files: OpenFiles) -> None:
        self.collection = collection
        self.system = system
        self.files = files
        self.notes: list[str] = []
        self._unloadable: dict[str, LeftOut] = {}  # companions that cannot be loaded here

    def add_companions(self) -> None:
        """Add the companions of every library, and those of the companions."""
        for item in self.collection.items:  # is extended by the loop
            for pattern, purpose in companions_of([item.source.name, *item.names]):
                paths = self._find(item, pattern)
                for path in paths:
                    self._add_companion(path, item, purpose)
                if not paths and mentions(item, pattern):
                    self.notes.append(
                        f"{item.file_name} opens {pattern} at run time ({purpose}), which was not found: what needs it "
                        "will fail."
                    )
        for name, each in self._unloadable.items():
            if name not in self.collection.by_name:  # no bundled library needs it either
                self.collection.left_out.setdefault(name, each)

    def add_named(self, paths: Sequence[Path]) -> None:
        """Add libraries that the user named.

        Raises:
            FileError: one cannot be read.
            MalformedFileError: one is not an ELF file.
            BundleFailedError: a library that one of them needs is missing.
        """
        for path in paths:
            closure = self._resolve(path)
            walk = self.collection.follow(closure)
            if walk.missing:
                raise missing_error(walk.missing, path.name)
            item = self.collection.add(closure.subject, Why("added", None))
            self._name(item, path.name)
            self.collection.take(walk)

    def _add_companion(self, path: Path, opener: CollectedFile, purpose: str) -> None:
        """Add one companion, or record why it cannot be loaded."""
        known = self.collection.item_of(path)
        if known is not None and known.at_start:
            return
        try:
            closure = self._resolve(path)
        except ResourcesError:
            raise
        except TorchlinkError:  # a linker script such as libx.so, or a damaged file: it cannot be opened
            return
        soname = closure.subject.elf.dynamic.soname
        if closure.subject.elf.machine != opener.elf.machine or self.collection.policy.reason(
            path.name, soname
        ):
            return
        walk = self.collection.follow(closure)
        missing = missing_here(walk)
        if missing:
            reason = (
                f"optional, opened by {opener.file_name} at run time ({purpose}); it cannot be loaded here: "
                f"{', '.join(missing)} not found"
            )
            self._unloadable.setdefault(path.name, LeftOut(path.name, opener.file_name, reason, found=True))
            return
        opener.searches = True
        item = self.collection.add(closure.subject, Why("opened", opener.file_name, purpose))
        self._name(item, path.name)
        self.collection.take(walk)

    def _name(self, item: CollectedFile, name: str) -> None:
        if self.collection.by_name.setdefault(name, item) is item:
            item.names.setdefault(name)

    def _resolve(self, path: Path) -> Closure:
        """Resolve a library as if the bundle's own were loaded: their directories come first."""
        places = ":".join(place for place in self._places() if not set(place) & set(":;$"))
        return resolve(
            path,
            system=self.system,
            environment={"LD_LIBRARY_PATH": places},
            secure=False,
            files=self.files,
        )

    def _find(self, opener: CollectedFile, pattern: str) -> list[Path]:
        """Return the files that match a pattern in the first directory with any, one path for each file."""
        for place in self._places(opener):
            names = fit(names_in(place), pattern)
            found: dict[str, Path] = {}
            for name in names:
                path = Path(place, name)
                real = os.path.realpath(path)
                # Programs open a library by its SONAME, which is a link, rather than by the name of the file.
                if is_file(path) and (real not in found or len(name) < len(found[real].name)):
                    found[real] = path
            if found:
                return list(found.values())
        return []

    def _places(self, first: CollectedFile | None = None) -> list[str]:
        """Return directories in the loader's order: the opener's own, then those of the others."""
        items = [*([first] if first else []), *self.collection.items[1:]]
        return list(dict.fromkeys(place for item in items for place in self._places_of(item)))

    def _places_of(self, item: CollectedFile) -> Iterator[str]:
        dynamic = item.elf.dynamic
        entries = dynamic.runpath if dynamic.runpath is not None else dynamic.rpath
        for entry in (entries or "").split(":"):
            place = expand(entry, item.origin, self.system)
            if place and place.startswith("/"):
                yield posixpath.normpath(place)
        yield posixpath.dirname(item.reached)
        yield str(item.source.parent)


def missing_here(walk: Walk) -> list[str]:
    """Return the libraries that a library needs and that this machine lacks, whether or not they would be bundled.

    A GPU's driver does not count: bundles are made on machines without one, for machines with one.
    """
    stays = (each.name for each in walk.left_out if not each.found and not matches([each.name], DRIVER.names))
    return list(dict.fromkeys((*(edge.name for edge in walk.missing), *stays)))


def mentions(item: CollectedFile, pattern: str) -> bool:
    """Whether a library contains the beginning of such a name: another version may not open it at all."""
    stem = pattern.partition("*")[0].partition(".so")[0]
    return item.elf.find_in_section(".rodata", stem.encode(), 0, 0) is not None


def make_plan(binary: Path, options: BundleOptions) -> BundlePlan:
    """Determine what goes into a bundle.

    Raises:
        FileError: a file cannot be read.
        MalformedFileError: the binary is not an ELF file.
        BundleFailedError: a library is missing.
        UsageError: the binary's name is reserved in a bundle, or the sysroot is not a directory.
    """
    if options.sysroot and not options.sysroot.is_dir():
        raise UsageError(
            f"{options.sysroot}: no such directory.", hint="Give --sysroot a sysroot's directory."
        )
    if binary.name in OWN_NAMES:
        raise UsageError(
            f"{binary.name}: reserved name: a bundle itself contains {', '.join(sorted(OWN_NAMES))}.",
            hint="Bundle a copy with another name.",
        )
    files = OpenFiles()
    elf, status = files.open(binary)
    system = portable(system_for(elf, tree=options.tree))
    collection = Collection(policy_of(options))
    # LD_PRELOAD is left out: preloaded libraries are not part of the program.
    environment = {"LD_LIBRARY_PATH": options.environment.get("LD_LIBRARY_PATH", "")}
    closure = resolve(binary, system=system, environment=environment, secure=False, files=files)
    collection.start(closure)
    opened = OpenedLibraries(collection, system, files)
    opened.add_named(options.add)
    opened.add_companions()

    owners = Owners()
    owned = {item: owners.of(item.source) for item in collection.items}
    pieces = [Piece(item.elf, item.searches, owned[item] is not None) for item in collection.items]
    placement = placement_of(pieces[0], pieces[1:], system, inherit=collection.shared_with_system)
    files_in = file_names(collection.items[1:])
    parts = [
        to_part(item, name, links, owned[item], placement.library_dir if number else "")
        for number, (item, (name, links)) in enumerate(
            zip(collection.items, [(binary.name, ()), *files_in], strict=True)
        )
    ]
    first, *libraries = (
        replace(part, patch=patch) for part, patch in zip(parts, placement.patches, strict=True)
    )
    return BundlePlan(
        binary=first,
        libraries=tuple(libraries),
        library_dir=placement.library_dir,
        left_out=tuple(collection.left_out.values()),
        notes=(*opened.notes, *notes_on(collection, owned, set_user_id=bool(status.st_mode & stat.S_ISUID))),
        machine=elf.machine,
        floors=tuple(floors_of(collection, parts)),
        unmatched=collection.policy.unmatched,
    )


def policy_of(options: BundleOptions) -> Policy:
    """Return the policy on which libraries are bundled."""
    return Policy(keep_system_cxx=options.keep_system_cxx, exclude=options.exclude, include=options.include)


def portable(system: LoaderSystem) -> LoaderSystem:
    """Return the loader without what is specific to this machine: variants for its processor, preloaded libraries."""
    return system.for_any_cpu()._replace(preload=())


def file_names(items: Sequence[CollectedFile]) -> list[tuple[str, tuple[str, ...]]]:
    """Return the file name of each library in the bundle, and the links to it.

    A file keeps its own name (`libfoo.so.1.2.3`, to which `libfoo.so.1` is a link) unless another file is requested by
    that name.
    """
    asked = {name: item for item in items for name in item.names if "/" not in name}
    taken: set[str] = set()
    found = []
    for item in items:
        names = [name for name in item.names if asked.get(name) is item]
        own = item.source.name
        if asked.get(own, item) is not item or own in taken:
            own = names[0]
        taken.add(own)
        found.append((own, tuple(sorted(name for name in names if name != own))))
    return found


def to_part(
    item: CollectedFile, name: str, links: tuple[str, ...], owner: Owner | None, directory: str
) -> Part:
    """Convert a file of the collection to a part of the plan."""
    return Part(
        path=posixpath.join(directory, name),
        links=links,
        source=item.source,
        size=item.elf.size,
        soname=item.elf.dynamic.soname,
        found_via=item.found_via,
        at_start=item.at_start,
        why=item.why,
        owner=owner,
        patch=None,
    )


def floors_of(collection: Collection, parts: Sequence[Part]) -> Iterator[Floor]:
    """Yield the newest versions that the parts need of the libraries that are left to the system."""
    libraries = ("GLIBC", "GLIBCXX") if "libstdc++.so.6" in collection.left_out else ("GLIBC",)
    for library in libraries:
        newest: tuple[int, ...] = ()
        by = ""
        for item, part in zip(collection.items, parts, strict=True):
            for need in item.elf.version_needs():
                prefix, _, version = need.version.partition("_")
                numbers = version.split(".")
                if prefix != library or not all(each.isdigit() for each in numbers):
                    continue
                if (key := tuple(map(whole_number, numbers))) > newest:
                    newest, by = key, part.path
        if newest:
            yield Floor(library, ".".join(map(str, newest)), by)


def notes_on(
    collection: Collection, owned: Mapping[CollectedFile, Owner | None], *, set_user_id: bool
) -> Iterable[str]:
    """Yield remarks on the chosen files."""
    if set_user_id:
        yield "The binary is set-uid. Its copy is not, and would not find its libraries if it were."
    torch = any(name.startswith("libtorch_cpu.so") for name in collection.by_name)
    for item in collection.items[1:]:
        name = item.file_name
        if (
            torch
            and item.found in SYSTEM_KINDS
            and owned[item] is None
            and name.partition(".")[0] in NVIDIA_PACKAGES
        ):
            yield (
                f"{name} is {item.source}, found through the system's {item.found_via}: its version may differ from "
                "the one libtorch was built with, which is not installed next to libtorch."
            )
        for pattern, note in DATA_BESIDE.items():
            if matches([name], (pattern,)):
                yield f"{name}: {note}."
    yield from left_out_notes(
        collection.left_out.values(), cxx_bundled="libstdc++.so.6" in collection.by_name
    )


def left_out_notes(left_out: Iterable[LeftOut], *, cxx_bundled: bool) -> Iterable[str]:
    """Yield remarks on libraries that are left to the system."""
    for each in left_out:
        for pattern, note in DATA_BESIDE.items():
            if matches([each.name], (pattern,)):
                yield f"{each.name}: {note}."
    drivers = [each.name for each in left_out if each.reason == GRAPHICS.reason]
    if drivers and cxx_bundled:
        yield (
            f"{', '.join(drivers)}: the graphics drivers of a newer system may need a newer libstdc++ than the "
            "bundled one; use --keep-system-cxx to leave it to the system."
        )
