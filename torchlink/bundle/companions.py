"""Libraries that are opened by name when a program runs: found where their openers would find them."""

from __future__ import annotations

import os
import posixpath
from fnmatch import filter as fit
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.binary.loader import resolve
from torchlink.binary.tokens import expand
from torchlink.bundle.collect import missing_error
from torchlink.bundle.facts import LeftOut, Why
from torchlink.bundle.policy import DRIVER, companions_of, matches
from torchlink.errors import ResourcesError, TorchlinkError
from torchlink.libtorch.disk import names_in
from torchlink.status import is_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torchlink.binary.closure import Closure
    from torchlink.binary.opening import OpenFiles
    from torchlink.binary.system import LoaderSystem
    from torchlink.bundle.collect import Collection, Item, Walk


class Opened:
    """Adds to a collection what its libraries open.

    Args:
        collection: grows.
        system: the loader.
        files: keeps ELF files open.
    """

    def __init__(self, collection: Collection, system: LoaderSystem, files: OpenFiles) -> None:
        self.collection = collection
        self.system = system
        self.files = files
        self.notes: list[str] = []
        self._without: dict[str, LeftOut] = {}  # companions that nothing can load here

    def add_companions(self) -> None:
        """Add the companions of every library, and those of the companions."""
        for item in self.collection.items:  # grows on the way
            for pattern, purpose in companions_of([item.source.name, *item.names]):
                paths = self._beside(item, pattern)
                for path in paths:
                    self._add_companion(path, item, purpose)
                if not paths and mentions(item, pattern):
                    self.notes.append(
                        f"{item.file_name} opens {pattern} when it runs ({purpose}), and there is none where it "
                        "would be found: what needs it will fail."
                    )
        for name, each in self._without.items():
            if name not in self.collection.by_name:  # nor did anything that is bundled need it
                self.collection.left_out.setdefault(name, each)

    def add_named(self, paths: Sequence[Path]) -> None:
        """Add libraries that the user named.

        Raises:
            FileError: one cannot be read.
            MalformedFileError: one is no ELF file.
            BundleFailedError: a library that one needs is missing.
        """
        for path in paths:
            closure = self._resolve(path)
            walk = self.collection.follow(closure)
            if walk.missing:
                raise missing_error(walk.missing, path.name)
            item = self.collection.add(closure.subject, Why("added", None))
            self._name(item, path.name)
            self.collection.take(walk)

    def _add_companion(self, path: Path, opener: Item, purpose: str) -> None:
        """Add one, or note what it lacks."""
        known = self.collection.item_of(path)
        if known is not None and known.at_start:
            return
        try:
            closure = self._resolve(path)
        except ResourcesError:
            raise
        except TorchlinkError:  # a linker script such as libx.so, or a damaged file: nobody can open it
            return
        soname = closure.subject.elf.dynamic.soname
        if closure.subject.elf.machine != opener.elf.machine or self.collection.policy.reason(
            path.name, soname
        ):
            return
        walk = self.collection.follow(closure)
        lacking = unmet(walk)
        if lacking:
            reason = (
                f"optional, opened by {opener.file_name} when it runs ({purpose}); nothing can load it here "
                f"without {', '.join(lacking)}"
            )
            self._without.setdefault(path.name, LeftOut(path.name, opener.file_name, reason, found=True))
            return
        opener.searches = True
        item = self.collection.add(closure.subject, Why("opened", opener.file_name, purpose))
        self._name(item, path.name)
        self.collection.take(walk)

    def _name(self, item: Item, name: str) -> None:
        if self.collection.by_name.setdefault(name, item) is item:
            item.names.setdefault(name)

    def _resolve(self, path: Path) -> Closure:
        """The closure of a library as if the bundle's own were loaded: their directories come first."""
        places = ":".join(place for place in self._places() if not set(place) & set(":;$"))
        return resolve(
            path,
            system=self.system,
            environment={"LD_LIBRARY_PATH": places},
            secure=False,
            files=self.files,
        )

    def _beside(self, opener: Item, pattern: str) -> list[Path]:
        """The files that a name may mean: of the first directory that has any, one path for each file."""
        for place in self._places(opener):
            names = fit(names_in(place), pattern)
            found: dict[str, Path] = {}
            for name in names:
                path = Path(place, name)
                real = os.path.realpath(path)
                # The SONAME's own link is the name that is asked for, rather than the file behind it.
                if is_file(path) and (real not in found or len(name) < len(found[real].name)):
                    found[real] = path
            if found:
                return list(found.values())
        return []

    def _places(self, first: Item | None = None) -> list[str]:
        """Directories, where the loader would look first: the opener's own, then those of the others."""
        items = [*([first] if first else []), *self.collection.items[1:]]
        return list(dict.fromkeys(place for item in items for place in self._places_of(item)))

    def _places_of(self, item: Item) -> Iterator[str]:
        dynamic = item.elf.dynamic
        entries = dynamic.runpath if dynamic.runpath is not None else dynamic.rpath
        for entry in (entries or "").split(":"):
            place = expand(entry, item.origin, self.system)
            if place and place.startswith("/"):
                yield posixpath.normpath(place)
        yield posixpath.dirname(item.reached)
        yield str(item.source.parent)


def unmet(walk: Walk) -> list[str]:
    """What a library needs and this machine has not, be it to be bundled or to stay with the system.

    A GPU's driver does not count: bundles are made on machines without one, for machines that have it.
    """
    stays = (each.name for each in walk.left_out if not each.found and not matches([each.name], DRIVER.names))
    return list(dict.fromkeys((*(edge.name for edge in walk.missing), *stays)))


def mentions(item: Item, pattern: str) -> bool:
    """Whether a library holds the beginning of such a name: another version may open nothing of that kind."""
    stem = pattern.partition("*")[0].partition(".so")[0]
    return item.elf.find_in_section(".rodata", stem.encode(), 0, 0) is not None
