"""The closure that a text describes, with the files that exist on this machine and stand-ins for the others."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torchlink.binary.bindings import MissingVersion, Scope, UndefinedSymbol
from torchlink.binary.closure import Closure, Edge, FoundVia, LoadedObject
from torchlink.binary.data import Data
from torchlink.binary.elf import KIND, ElfFile
from torchlink.binary.elf_dynamic import EMPTY
from torchlink.binary.elf_versions import VersionNeed
from torchlink.binary.loader import MUSL_OWN
from torchlink.errors import FileError
from torchlink.libtorch.machine import this_machine
from torchlink.lint.context import NOWHERE
from torchlink.lint.text.listing import LDD, READELF

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.binary.elf_dynamic import Dynamic
    from torchlink.binary.loader import OpenFiles
    from torchlink.lint.text.listing import Listing

# A shared library for x86-64 with nothing in it: the header and one segment, a stack that is not executable.
HEADER = struct.pack("<4sBBB9xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 3, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
STACK = struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)
UNNAMED = "the program"  # the name in messages of a binary that the text does not name
SOMEWHERE = "/(its directory)"  # the value of `$ORIGIN` if the text does not give a directory
# A library directly in a default directory of the loader, or in that of its architecture.
DEFAULT_DIR = re.compile(r"(/usr)?/lib(x?32|64)?(/[\w.]+-linux-\w+)?(/glibc-hwcaps/[^/]+)?/[^/]+$")


def describe(listing: Listing, files: OpenFiles) -> Described:
    """Open the files of a listing and connect them as the listing says, without a search."""
    return _Builder(listing, files).build()


class Described(NamedTuple):
    """A closure as far as a text and the files of this machine describe it."""

    closure: Closure
    scope: Scope
    subject_read: bool  # the binary's own file was read
    whole: bool  # every other file of the closure was read
    absent: tuple[str, ...]  # paths in the text that do not exist here
    at_odds: tuple[str, ...]  # NEEDED names of the binary's file that the text does not list


class _Builder:
    """Builds the closure of one listing."""

    def __init__(self, listing: Listing, files: OpenFiles) -> None:
        self.listing = listing
        self.files = files
        self.subject = listing.subject or UNNAMED
        # Of the first file that was read; a file for another machine is not the one in the text.
        self.machine = ""
        self.read: dict[str, ElfFile] = {}  # by path in the text
        self.paths: dict[str, str] = {}  # name, path and SONAME of everything found -> path
        # The found libraries: path -> the first name that they are needed by. readelf does not print paths.
        self.found: dict[str, str] = {}
        for each in listing.libraries:
            if each.path is not None:
                self.found.setdefault(each.path, each.name)

    def build(self) -> Described:
        loader = self.listing.interpreter
        searched = self.listing.kind != READELF
        for path in (*self.found, *([loader] if loader else ())):
            elf = self.open(path) if searched else None
            if elf is not None:
                self.read[path] = elf
            soname = elf.dynamic.soname if elf else None
            for name in (path, self.found.get(path), soname, path.rpartition("/")[2]):
                if name:
                    self.paths.setdefault(name, path)
        own = self.open(self.listing.subject) if self.listing.subject and searched else None
        at_odds = self.unlisted(own) if own else ()
        if at_odds:
            own = None
        edges = tuple(self.edges(own))
        users = {edge.path: edge.needed_by for edge in reversed(edges)}
        objects = [self.program(own)]
        for path, name in self.found.items():
            found_via = FoundVia("default" if DEFAULT_DIR.match(path) else "text")
            objects.append(self.library(path, name, users.get(path, self.subject), found_via))
        if loader and loader not in self.found:
            objects.append(
                self.library(loader, loader, users.get(loader, self.subject), FoundVia("interpreter"))
            )
        closure = Closure(tuple(objects), edges)
        absent = tuple(path for path in self.found if path not in self.read) if searched else ()
        incomplete = any(self.unlisted(elf) for elf in self.read.values())
        whole = searched and all(path in self.read for path in self.paths.values()) and not incomplete
        scope = TextScope(closure, self.listing, whole=whole)
        return Described(closure, scope, own is not None, whole, absent, at_odds)

    @property
    def stated_machine(self) -> str:
        """The machine of stand-ins, so that no rule reports a mismatch."""
        return self.machine or this_machine().arch

    def open(self, path: str) -> ElfFile | None:
        """Open the file at a path of the text, if it exists on this machine."""
        try:
            elf = self.files.open(Path(path))[0]
            _ = elf.dynamic
        except FileError:
            return None
        self.machine = self.machine or elf.machine
        return elf if elf.machine == self.machine and elf.type in {"dyn", "exec"} else None

    def unlisted(self, elf: ElfFile) -> tuple[str, ...]:
        """Return the NEEDED names of a file that the text does not list: the text is then of another build.

        Empty for musl's ldd, which does not list missing libraries, or lists them elsewhere.
        """
        known = {*self.paths, *(each.name for each in self.listing.libraries)}
        return () if self.listing.musl else tuple(name for name in elf.dynamic.needed if name not in known)

    def edges(self, own: ElfFile | None) -> Iterator[Edge]:
        """Return the edges: those of the files that were read, then the remaining ones of the text."""
        missing = {each.name: each.reason for each in self.listing.libraries if each.path is None}
        files = {**({self.subject: own} if own else {}), **self.read}
        from_files: set[str] = set()
        for path, elf in files.items():
            for name in elf.dynamic.needed:
                from_files.add(self.paths.get(name, name))
                if name in self.paths:
                    yield Edge(path, name, self.paths[name], FoundVia("text"), ())
                elif name in missing or (self.listing.musl and not MUSL_OWN.match(name)):
                    yield Edge(path, name, None, None, (), missing.get(name) or None)
        for each in self.listing.libraries:
            user = self.paths.get(each.needed_by or "", self.subject)
            if (each.path or each.name) in from_files and (each.needed_by is None or user in files):
                continue
            found_via = FoundVia("text") if each.path else None
            yield Edge(user, each.name, each.path, found_via, (), each.reason or None)

    def program(self, own: ElfFile | None) -> LoadedObject:
        """Return the object of the binary itself."""
        name, found_via = self.subject, FoundVia("program")
        if own is not None:
            return here(name, name, None, found_via, own)
        stand_in = Unseen(name, self.stated_machine, dynamic=self.listing.dynamic, needs=self.needs(name))
        return elsewhere(name, name, None, found_via, stand_in)

    def library(self, path: str, name: str, user: str, found_via: FoundVia) -> LoadedObject:
        """Return the object of a library or of the loader."""
        elf = self.read.get(path)
        if elf is not None:
            return here(path, name, user, found_via, elf)
        return elsewhere(
            path, name, user, found_via, Unseen(path, self.stated_machine, needs=self.needs(path))
        )

    def needs(self, path: str) -> tuple[VersionNeed, ...]:
        """Return the versions that an object needs according to `ldd -v`."""
        return tuple(
            VersionNeed(each.library.rpartition("/")[2], each.version, weak=False, number=0)
            for each in self.listing.versions
            if each.object == path
        )


def here(path: str, name: str, user: str | None, found_via: FoundVia, elf: ElfFile) -> LoadedObject:
    """Return an object whose file was read."""
    absolute = os.path.abspath(path)  # noqa: PTH100 - a symlink must stay one
    origin = absolute.rpartition("/")[0]
    return LoadedObject(name, path, Path(absolute), os.path.realpath(path), origin, user, found_via, elf)


def elsewhere(path: str, name: str, user: str | None, found_via: FoundVia, elf: Unseen) -> LoadedObject:
    """Return an object whose file does not exist on this machine."""
    return LoadedObject(name, path, NOWHERE, os.path.normpath(path), SOMEWHERE, user, found_via, elf)


class Unseen(ElfFile):
    """A stand-in for a file that a text names and this machine lacks: no symbols, nothing for a rule to find.

    Args:
        name: its path in the text.
        machine: that of the other files, as in `ElfFile.machine`.
        dynamic: its dynamic section, from `readelf -d`.
        needs: the versions that it needs, from `ldd -v`.
    """

    def __init__(
        self,
        name: str,
        machine: str,
        *,
        dynamic: Dynamic | None = None,
        needs: tuple[VersionNeed, ...] = (),
    ) -> None:
        super().__init__(Data(HEADER + STACK, name, KIND))
        self._of_machine = machine
        self._needs = needs
        self.dynamic = dynamic or EMPTY

    @property
    def machine(self) -> str:
        """The machine of the other files."""
        return self._of_machine

    def version_needs(self) -> tuple[VersionNeed, ...]:
        """Return the needed versions that the text lists."""
        return self._needs


class TextScope(Scope):
    """What symbols bind to according to a text, which takes precedence over a look-up on this machine.

    Args:
        closure: as described by the text.
        listing: the contents of the text.
        whole: every library of the closure was read.
    """

    def __init__(self, closure: Closure, listing: Listing, *, whole: bool) -> None:
        super().__init__(closure)
        self._listing = listing
        self._whole = whole
        self._names = {each.name: each.path for each in closure.objects}
        self.ordered = listing.kind == LDD  # lddtree prints in depth

    def undefined_symbols(self, path: str) -> tuple[UndefinedSymbol, ...]:
        """Return the undefined symbols of the text; if it lists none, those of the files if all were read."""
        if self._listing.undefined:
            return tuple(
                UndefinedSymbol(each.symbol, each.version, path)
                for each in self._listing.undefined
                if self._path(each.object) == path
            )
        return super().undefined_symbols(path) if self._whole else ()

    def unused_needed(self, path: str) -> tuple[Edge, ...]:
        """Return nothing unless every file was read: one that was not may be used."""
        return super().unused_needed(path) if self._whole else ()

    def used_but_not_needed(self, path: str) -> dict[str, tuple[str, ...]]:
        """Return nothing unless every file was read: one that was not may define what is used."""
        return super().used_but_not_needed(path) if self._whole else {}

    def missing_versions(self) -> tuple[MissingVersion, ...]:
        """Return the versions that the text lists as not found; for lddtree, which lists none, those of the files.

        `ldd -v` also lists a library without any versions, which `lost_versions` reports from the files.
        """
        if self._listing.kind != LDD:
            return super().missing_versions() if self._whole else ()
        missing = {
            (self._path(each.object), self._path(each.library), each.version)
            for each in self._listing.versions
            if not each.found
        }
        missing = {each for each in missing if not self._has_no_versions(*each[:2])}
        return tuple(
            MissingVersion(needed_by, provider.rpartition("/")[2], provider, version, weak=False)
            for needed_by, provider, version in sorted(missing)
        )

    def _has_no_versions(self, requester: str, provider: str) -> bool:
        """Whether the files of both were read, and the library has no versions at all."""
        if requester == provider or any(
            isinstance(self._objects[each].elf, Unseen) for each in (requester, provider)
        ):
            return False
        return not self._objects[provider].elf.version_definitions()

    def _path(self, name: str | None) -> str:
        """Return the path of the object that a line of the text refers to."""
        if name is None:
            return self.closure.subject.path
        return name if name in self._objects else self._names.get(name, self.closure.subject.path)
