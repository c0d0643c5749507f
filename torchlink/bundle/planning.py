"""Everything that a bundle will be, worked out from the files alone before anything is written."""

from __future__ import annotations

import posixpath
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

from torchlink.binary.loader import resolve
from torchlink.binary.opening import OpenFiles
from torchlink.binary.system import system_for
from torchlink.bounds import whole_number
from torchlink.bundle.collect import Collection
from torchlink.bundle.companions import Opened
from torchlink.bundle.facts import BundlePlan, Floor, LeftOut, Part
from torchlink.bundle.manifest import OWN_NAMES
from torchlink.bundle.owners import Owners
from torchlink.bundle.placement import Piece, place
from torchlink.bundle.policy import DATA_BESIDE, GRAPHICS, Policy, matches
from torchlink.errors import UsageError
from torchlink.libtorch.names import NVIDIA_PACKAGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torchlink.binary.system import LoaderSystem
    from torchlink.bundle.collect import Item
    from torchlink.bundle.facts import Owner
    from torchlink.bundle.options import BundleOptions

SYSTEM_KINDS = ("ld.so.cache", "default")


def make_plan(binary: Path, options: BundleOptions) -> BundlePlan:
    """Work out what goes into a bundle.

    Raises:
        FileError: a file cannot be read.
        MalformedFileError: the binary is no ELF file.
        BundleFailedError: a library is missing.
        UsageError: the binary's name is one that the bundle needs for itself, or the sysroot is no directory.
    """
    if options.sysroot and not options.sysroot.is_dir():
        raise UsageError(
            f"{options.sysroot}: no such directory.", hint="Give --sysroot a sysroot's directory."
        )
    if binary.name in OWN_NAMES:
        raise UsageError(
            f"A bundle holds {', '.join(sorted(OWN_NAMES))} beside the binary, which is called {binary.name}.",
            hint="Bundle a copy with another name.",
        )
    files = OpenFiles()
    elf, status = files.open(binary)
    system = portable(system_for(elf, tree=options.tree))
    collection = Collection(policy_of(options))
    # What LD_PRELOAD brings is none of the program's.
    environment = {"LD_LIBRARY_PATH": options.environment.get("LD_LIBRARY_PATH", "")}
    closure = resolve(binary, system=system, environment=environment, secure=False, files=files)
    collection.start(closure)
    opened = Opened(collection, system, files)
    opened.add_named(options.add)
    opened.add_companions()

    owners = Owners()
    owned = {item: owners.of(item.source) for item in collection.items}
    pieces = [Piece(item.elf, item.searches, owned[item] is not None) for item in collection.items]
    placement = place(pieces[0], pieces[1:], system, inherit=collection.shared_with_system)
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
    """What stays out of the bundle."""
    return Policy(keep_system_cxx=options.keep_system_cxx, exclude=options.exclude, include=options.include)


def portable(system: LoaderSystem) -> LoaderSystem:
    """The loader without what only this machine has: its processor's own variants, its preloaded libraries."""
    return system.for_any_cpu()._replace(preload=())


def file_names(items: Sequence[Item]) -> list[tuple[str, tuple[str, ...]]]:
    """The file name of each library in the bundle, and the links to it.

    A file keeps its own name (`libfoo.so.1.2.3`, to which `libfoo.so.1` is a link) unless another is asked
    for by that name.
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


def to_part(item: Item, name: str, links: tuple[str, ...], owner: Owner | None, directory: str) -> Part:
    """A file of the collection as the plan shows it."""
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
    """The newest versions that the parts need of the libraries that stay with the system."""
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
    collection: Collection, owned: Mapping[Item, Owner | None], *, set_user_id: bool
) -> Iterable[str]:
    """What the user should know about the files that were chosen."""
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
                f"{name} is {item.source}, which the system's {item.found_via} named: it may be of another "
                "version than "
                "libtorch was built with, whose own is not installed beside it."
            )
        for pattern, note in DATA_BESIDE.items():
            if matches([name], (pattern,)):
                yield f"{name}: {note}."
    yield from left_out_notes(
        collection.left_out.values(), cxx_bundled="libstdc++.so.6" in collection.by_name
    )


def left_out_notes(left_out: Iterable[LeftOut], *, cxx_bundled: bool) -> Iterable[str]:
    """What follows from libraries that stay with the system."""
    for each in left_out:
        for pattern, note in DATA_BESIDE.items():
            if matches([each.name], (pattern,)):
                yield f"{each.name}: {note}."
    drivers = [each.name for each in left_out if each.reason == GRAPHICS.reason]
    if drivers and cxx_bundled:
        yield (
            f"{', '.join(drivers)}: the graphics drivers of a newer system may need a newer libstdc++ than the "
            "bundled one; --keep-system-cxx leaves it to the system."
        )
