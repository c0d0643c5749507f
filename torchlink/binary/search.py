"""Where a loader looks for a NEEDED name, in order, by glibc's rules and musl's.

`expand` replaces `$ORIGIN`, `$LIB` and `$PLATFORM` in search paths and names as the loaders do.

Sources: glibc's `dl-load.c` (`_dl_map_object`, `fillin_rpath`), musl's `dynlink.c` (`load_library`).
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, NamedTuple

from torchlink.binary.closure import FoundVia
from torchlink.status import is_dir

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torchlink.binary.elf import ElfFile
    from torchlink.binary.system import LoaderSystem


TOKEN = re.compile(r"\$(?:\{(ORIGIN|PLATFORM|LIB)\}|(ORIGIN|PLATFORM|LIB)(?![A-Za-z0-9_]))")
MUSL_TOKEN = re.compile(r"\$(?:ORIGIN|\{ORIGIN\})")
DROPPED = "ignored, because the program runs set-uid"


def expand(
    text: str, origin: str, system: LoaderSystem, *, secure: bool = False, program: bool = False
) -> str | None:
    """Return an entry with its tokens replaced, as glibc does; None when the loader ignores the entry.

    Args:
        text: one entry of a search path, or a NEEDED name.
        origin: what `$ORIGIN` stands for.
        system: defines `$LIB` and `$PLATFORM`.
        secure: the program runs set-uid: `$ORIGIN` is valid only as the first component.
        program: the entry is the program's own: if set-uid, it must lead into a default directory.
    """
    if "$" not in text:
        return text
    values = {"ORIGIN": origin, "LIB": system.lib, "PLATFORM": system.platform}
    used = False
    for found in TOKEN.finditer(text):
        token = found.group(1) or found.group(2)
        if not values[token]:
            return None
        if token == "ORIGIN":  # noqa: S105 - a token of paths
            used = True
            if secure and (found.start() or text[found.end() : found.end() + 1] not in {"", "/"}):
                return None
    expanded = TOKEN.sub(lambda found: values[found.group(1) or found.group(2)], text)
    if used and secure and program:
        inside = posixpath.normpath(expanded) + "/"
        if not any(inside.startswith(f"{directory}/") for directory in system.default_dirs):
            return None
    return expanded


def expand_musl(text: str, origin: str) -> str | None:
    """Return a whole search path with `$ORIGIN` replaced, as musl does; None when it contains another token."""
    expanded = MUSL_TOKEN.sub(lambda _: origin, text)
    return None if "$" in MUSL_TOKEN.sub("", text) else expanded


class SearchPlace(NamedTuple):
    """A directory to search."""

    prefix: str  # prepended to the name: `/usr/lib/`, or nothing for the current directory
    outside: bool  # on this machine although the loader is an image's (the subject is not in the image)
    found_via: FoundVia
    dropped: bool = False  # the loader ignores it because the program runs set-uid


class TriedFile(NamedTuple):
    """A file that the loader would try, or (`there` is False) a directory that it skips."""

    path: str
    place: SearchPlace
    group: int  # the list of directories that it is from
    there: bool = True
    reason: str = "no such directory"  # why it is skipped


class Requester:
    """An object that needs libraries, as far as the search is concerned.

    Args:
        elf: its file.
        path: as the loader reached it.
        origin: what `$ORIGIN` stands for.
        parent: the object that first needed it; None for the subject.
        outside: it is outside the image whose loader is modelled.
    """

    __slots__ = ("_places", "elf", "origin", "outside", "parent", "path")

    def __init__(
        self, elf: ElfFile, path: str, origin: str, parent: Requester | None, *, outside: bool
    ) -> None:
        self.elf = elf
        self.path = path
        self.origin = origin
        self.parent = parent
        self.outside = outside
        self._places: dict[str, tuple[SearchPlace, ...]] = {}

    def places(self, kind: str, search: LibrarySearch) -> tuple[SearchPlace, ...]:
        """Return the directories of its RPATH or RUNPATH, expanded once."""
        if kind not in self._places:
            self._places[kind] = tuple(search.own_places(kind, self))
        return self._places[kind]


class LibrarySearch:
    """The search of one program start: a loader, an environment, and a cache of which directories exist.

    Args:
        system: the loader.
        environment: the program's; LD_LIBRARY_PATH counts unless `secure`.
        main: the program, or the library in its place.
        secure: the program runs set-uid.
    """

    def __init__(
        self, system: LoaderSystem, environment: Mapping[str, str], main: Requester, *, secure: bool
    ) -> None:
        self.system = system
        self.main = main
        self.secure = secure
        self._exists: dict[tuple[str, bool], bool] = {}
        text = environment.get("LD_LIBRARY_PATH", "")
        self._from_environment = tuple(self._environment_places(text)) if text else ()
        found_via = FoundVia("default")
        self._defaults = tuple(
            SearchPlace(f"{directory}/", False, found_via) for directory in system.default_dirs
        )

    def on_host(self, path: str, *, outside: bool) -> str:
        """Return the path on this machine of a path as the loader sees it."""
        return path if outside or not path.startswith("/") else self.system.tree.on_host(path)

    def candidates(self, name: str, requester: Requester) -> Iterator[TriedFile]:
        """Yield the files that the loader would try, in order, for a NEEDED name without a slash."""
        lists = (
            self._musl_lists(requester)
            if self.system.family == "musl"
            else self._glibc_lists(name, requester)
        )
        for group, places in enumerate(lists):
            for place in places:
                if place.dropped:
                    yield TriedFile(place.prefix, place, group, there=False, reason=DROPPED)
                elif place.found_via.kind == "ld.so.cache":
                    yield TriedFile(place.prefix, place, group)
                elif not self._is_dir(place.prefix, outside=place.outside):
                    yield TriedFile(place.prefix, place, group, there=False)
                else:
                    yield from self._hwcap_candidates(name, place, group)
                    yield TriedFile(place.prefix + name, place, group)

    def own_places(self, kind: str, requester: Requester) -> Iterator[SearchPlace]:
        """Yield the directories of an object's RPATH or RUNPATH."""
        dynamic = requester.elf.dynamic
        text = dynamic.rpath if kind == "rpath" else dynamic.runpath
        if not text:
            return
        seen: set[str] = set()
        if self.system.family == "musl":
            entries: list[tuple[str, str | None]] = []
            if self.secure and requester is self.main and "$" in text:  # musl's `fixup_rpath`
                entries = [(entry, None) for entry in re.split("[:\n]", text) if entry]
            elif expand_musl(text, requester.origin) is not None:
                entries = [
                    (entry, expand_musl(entry, requester.origin))
                    for entry in re.split("[:\n]", text)
                    if entry
                ]
        else:
            program = requester is self.main
            entries = [
                (entry, expand(entry, requester.origin, self.system, secure=self.secure, program=program))
                for entry in text.split(":")
            ]
        for entry, expanded in entries:
            if expanded is None and self.secure and ("ORIGIN" in entry or self.system.family == "musl"):
                yield SearchPlace(entry, False, FoundVia(kind, entry, requester.path), dropped=True)
            if expanded is None or (entry and not expanded) or expanded in seen:
                continue
            seen.add(expanded)
            outside = not expanded.startswith("/") or (requester.outside and "ORIGIN" in entry)
            yield SearchPlace(as_prefix(expanded), outside, FoundVia(kind, entry, requester.path))

    def _environment_places(self, text: str) -> Iterator[SearchPlace]:
        if self.secure:
            yield SearchPlace(text, False, FoundVia("LD_LIBRARY_PATH", text), dropped=True)
            return
        musl = self.system.family == "musl"
        for entry in re.split("[:\n]" if musl else "[:;]", text):
            if musl:
                expanded: str | None = entry or None
            else:
                expanded = expand(entry, self.main.origin, self.system, secure=self.secure)
            if expanded is not None and (expanded or not entry):
                yield SearchPlace(
                    as_prefix(expanded), not expanded.startswith("/"), FoundVia("LD_LIBRARY_PATH", entry)
                )

    def _glibc_lists(self, name: str, requester: Requester) -> Iterator[tuple[SearchPlace, ...]]:
        if not requester.elf.dynamic.runpath_present:
            chain: Requester | None = requester
            while chain is not None:
                if not chain.elf.dynamic.runpath_present:
                    yield chain.places("rpath", self)
                chain = chain.parent
        yield self._from_environment
        yield requester.places("runpath", self)
        nodeflib = requester.elf.dynamic.nodeflib
        cached = self.system.cached(name)
        if cached and not (nodeflib and cached.startswith(tuple(place.prefix for place in self._defaults))):
            yield (SearchPlace(cached, False, FoundVia("ld.so.cache")),)
        if not nodeflib:
            yield self._defaults

    def _musl_lists(self, requester: Requester) -> Iterator[tuple[SearchPlace, ...]]:
        yield self._from_environment
        chain: Requester | None = requester
        while chain is not None:
            yield chain.places("runpath" if chain.elf.dynamic.runpath is not None else "rpath", self)
            chain = chain.parent
        yield self._defaults

    def _hwcap_candidates(self, name: str, place: SearchPlace, group: int) -> Iterator[TriedFile]:
        if self.system.family == "musl":
            return
        top = f"{place.prefix}glibc-hwcaps/"
        if self._is_dir(top, outside=place.outside):
            for subdirectory in self.system.hwcaps():
                prefix = f"{top}{subdirectory}/"
                if self._is_dir(prefix, outside=place.outside):
                    yield TriedFile(prefix + name, place, group)
        for prefix in self._legacy(place.prefix, self.system.legacy_subdirectories(), outside=place.outside):
            yield TriedFile(prefix + name, place, group)

    def _legacy(self, top: str, names: tuple[str, ...], *, outside: bool) -> Iterator[str]:
        """Yield the legacy hardware subdirectories that exist below `top`, in search order."""
        for number, name in enumerate(names):
            prefix = f"{top}{name}/"
            if self._is_dir(prefix, outside=outside):
                yield from self._legacy(prefix, names[number + 1 :], outside=outside)
                yield prefix

    def _is_dir(self, prefix: str, *, outside: bool) -> bool:
        key = (prefix, outside)
        known = self._exists.get(key)
        if known is None:
            known = not prefix or is_dir(self.on_host(prefix, outside=outside))
            self._exists[key] = known
        return known


def as_prefix(directory: str) -> str:
    """Return a directory with exactly one trailing slash; the empty one, the current directory, stays empty."""
    return f"{directory.rstrip('/')}/" if directory else ""
