"""The dynamic loader as a pure model: which objects it would load for a binary, and why.

`check_binary` decides as the loader does whether a file is loaded, skipped or fatal; `resolve` follows every NEEDED
entry. Nothing is run. The rules are glibc's and musl's; the tests compare the outcome with the live loaders.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torchlink.binary.closure import Attempt, Closure, Edge, FoundVia, LoadedObject
from torchlink.binary.data import unreadable
from torchlink.binary.elf import ElfFile
from torchlink.binary.search import LibrarySearch, Requester, expand
from torchlink.binary.system import LoaderSystem, system_for
from torchlink.errors import FileError, MalformedFileError
from torchlink.status import file_kind, not_about_the_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torchlink.binary.search import TriedFile


MOST_OPEN = 200
# musl's loader contains these libraries; a NEEDED name that begins like this is the loader itself.
MUSL_OWN = re.compile(r"lib(c|pthread|rt|m|dl|util|xnet)\.")


class OpenFiles:
    """ELF files kept open, so that several closures over the same libraries read each header once.

    Only the most recent ones are kept, because each holds a file descriptor; a closure holds its own.
    """

    def __init__(self) -> None:
        self._files: dict[tuple[int, int, int, int], ElfFile] = {}

    def open(self, path: Path) -> tuple[ElfFile, os.stat_result]:
        """The open file at `path` and its status; errors are those of `ElfFile.open`."""
        try:
            status = path.stat()
        except (OSError, ValueError) as error:
            raise unreadable(path, error) from error
        return self.get(str(path), status), status

    def get(self, path: str, status: os.stat_result) -> ElfFile:
        """The open file at `path`, whose status the caller has; errors are those of `ElfFile.open`."""
        key = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
        elf = self._files.pop(key, None) or ElfFile.open(path)
        self._files[key] = elf
        if len(self._files) > MOST_OPEN:
            del self._files[next(iter(self._files))]
        return elf


class Verdict(NamedTuple):
    """Whether the loader accepts a candidate: the file, or the reason why not; with `fatal` the loader gives up."""

    elf: ElfFile | None
    status: os.stat_result | None
    reason: str = ""
    fatal: bool = False
    ends_list: bool = False  # glibc skips the rest of this list of directories; musl gives up


def check_binary(path: str, machine: str | None, files: OpenFiles) -> Verdict:
    """Open a candidate.

    Args:
        path: on this machine.
        machine: the program's; a file for another one is skipped. None: any is accepted, as musl does.
        files: where open files are kept.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - hot
    except (FileNotFoundError, NotADirectoryError):
        return Verdict(None, None, "no such file")
    except PermissionError:
        return Verdict(None, None, "may not be read")
    except (OSError, ValueError) as error:
        not_about_the_file(path, error)
        return Verdict(None, None, str(getattr(error, "strerror", None) or error), ends_list=True)
    if not stat.S_ISREG(status.st_mode):
        return Verdict(None, status, f"is {file_kind(status.st_mode)}", fatal=True)
    try:
        elf = files.get(path, status)
        dynamic = elf.dynamic
    except MalformedFileError:
        return Verdict(None, status, "is not an ELF file, or a damaged one", fatal=True)
    except FileError:
        return Verdict(None, status, "may not be read")
    if machine is None:
        return Verdict(elf, status)
    if elf.machine != machine:
        return Verdict(None, status, f"is for {elf.machine}")
    if elf.type != "dyn" or (dynamic.is_pie and elf.interpreter):
        return Verdict(None, status, "is not a shared library", fatal=True)
    return Verdict(elf, status)


class ClosureNode(Requester):
    """A loaded object with the state of the traversal."""

    __slots__ = ("done", "listed", "loaded")

    def __init__(self, loaded: LoadedObject, parent: Requester | None, *, outside: bool) -> None:
        super().__init__(loaded.elf, loaded.path, loaded.origin, parent, outside=outside)
        self.loaded = loaded
        self.done = False
        self.listed = False


def resolve(
    path: Path,
    *,
    system: LoaderSystem | None = None,
    environment: Mapping[str, str] | None = None,
    root: Path | None = None,
    secure: bool | None = None,
    files: OpenFiles | None = None,
    loaded: Sequence[LoadedObject] = (),
) -> Closure:
    """The closure of a program or shared library.

    Args:
        path: the file on this machine; a library takes the program's place, as under `ldd`.
        system: the loader; by default that of this machine, or of the image below `root`, for this file.
        environment: the environment it will run in; LD_LIBRARY_PATH and LD_PRELOAD count. Default: empty.
        root: the image or sysroot whose loader, cache and libraries are used; the file itself may be outside it.
        secure: whether it runs set-uid; by default what the file's mode says.
        files: keeps files open from one closure to the next.
        loaded: what the process has loaded already: found by name without a search, and part of the closure where
            something in it needs them.

    Raises:
        FileError: the file cannot be read, or is not a regular file.
        MalformedFileError: it is not an ELF file, or is damaged. A damaged library stops the loader: its edge is
            `fatal`.
    """
    files = files or OpenFiles()
    elf, status = files.open(path)
    system = system or system_for(elf, root)
    if secure is None:
        set_group = stat.S_ISGID | stat.S_IXGRP
        secure = bool(status.st_mode & stat.S_ISUID) or status.st_mode & set_group == set_group
    return Resolver(system, environment or {}, files).run(path, elf, status, secure=secure, loaded=loaded)


class Resolver:
    """One run of the model; `run` is called once."""

    search: LibrarySearch

    def __init__(self, system: LoaderSystem, environment: Mapping[str, str], files: OpenFiles) -> None:
        self.system = system
        self.environment = environment
        self.files = files
        self.order: list[ClosureNode] = []
        self.edges: list[Edge] = []
        self._before: set[ClosureNode] = set()
        self._by_name: dict[str, ClosureNode] = {}
        self._by_identity: dict[tuple[int, int], ClosureNode] = {}

    def run(
        self,
        path: Path,
        elf: ElfFile,
        status: os.stat_result,
        *,
        secure: bool,
        loaded: Sequence[LoadedObject] = (),
    ) -> Closure:
        """Load the subject and everything that it needs."""
        subject = self._subject(path, elf)
        self.search = LibrarySearch(self.system, self.environment, subject, secure=secure)
        self._enter(subject, str(path), status if elf.interpreter is None else None)
        self.order.append(subject)
        subject.listed = True
        self._enter_loaded(loaded, subject)
        if elf.dynamic.present:
            loader = self._enter_interpreter(subject) if elf.interpreter or elf.dynamic.needed else None
            self._preload(subject)
            self._breadth_first()
            if loader is not None and not loader.listed:
                self.order.append(loader)
        return Closure(tuple(node.loaded for node in self.order), tuple(self.edges), secure)

    def _subject(self, path: Path, elf: ElfFile) -> ClosureNode:
        tree = self.system.tree
        absolute = os.path.abspath(path)  # noqa: PTH100 - a symlink must stay one
        if tree.root is not None:
            absolute = os.path.join(os.path.realpath(os.path.dirname(absolute)), path.name)  # noqa: PTH118, PTH120
        inside = tree.inside(absolute)
        seen = absolute if inside is None else inside
        real = os.path.realpath(absolute) if inside is None else tree.real_path(inside)
        # The kernel tells a program its real path; a library knows only how it was reached.
        origin = os.path.dirname(real if elf.interpreter else seen)  # noqa: PTH120 - plain strings
        loaded = LoadedObject(str(path), seen, Path(absolute), real, origin, None, FoundVia("program"), elf)
        return ClosureNode(loaded, None, outside=inside is None)

    def _enter(self, node: ClosureNode, name: str, status: os.stat_result | None) -> None:
        """Register the object under the names by which later requests find it."""
        if self.system.family == "musl":
            if node.parent is not None and "/" not in name:
                self._by_name.setdefault(os.path.basename(node.path), node)  # noqa: PTH119 - plain strings
        else:
            for each in (node.path, name, node.elf.dynamic.soname):
                if each:
                    self._by_name.setdefault(each, node)
        if status is not None:
            self._by_identity.setdefault((status.st_dev, status.st_ino), node)

    def _enter_loaded(self, loaded: Sequence[LoadedObject], subject: ClosureNode) -> None:
        """Register what the process has loaded already."""
        for each in loaded:
            if each.found_via.kind == "interpreter":
                continue
            try:
                status = each.file.stat()
            except OSError as error:
                not_about_the_file(each.file, error)
                continue
            node = ClosureNode(each, subject, outside=self.system.tree.inside(str(each.file)) is None)
            self._before.add(node)
            self._enter(node, each.name, status)

    def _enter_interpreter(self, subject: ClosureNode) -> ClosureNode | None:
        path = self.system.interpreter
        if path is None:
            return None
        verdict = self._check(self.system.tree.on_host(path))
        if verdict.elf is None:
            self.edges.append(
                Edge(
                    subject.path,
                    path,
                    None,
                    None,
                    (Attempt(FoundVia("interpreter"), path, verdict.reason),),
                    verdict.reason,
                )
            )
            return None
        node = self._node(path, path, verdict.elf, subject, FoundVia("interpreter"), outside=False)
        self._enter(node, path, None)
        if self.system.family == "musl":
            self._by_name[os.path.basename(path)] = node  # noqa: PTH119 - plain strings
        return node

    def _preload(self, subject: ClosureNode) -> None:
        text = "" if self.search.secure else self.environment.get("LD_PRELOAD", "")
        for name in (*re.split("[ :]", text), *self.system.preload):
            if name:
                node = self._request(name, subject, optional=True, found_via=FoundVia("preload"))
                if node is not None and not node.listed:
                    self.order.append(node)
                    node.listed = True

    def _breadth_first(self) -> None:
        position = 0
        while position < len(self.order):
            node = self.order[position]
            if node.done:
                position += 1
                continue
            node.done = True
            dynamic = node.elf.dynamic
            for name in dynamic.needed:
                found = self._request(name, node)
                if found is not None and not found.listed:
                    if (
                        found in self._before
                    ):  # it counts as needed by the first object of this closure that asks
                        found.loaded = found.loaded._replace(needed_by=node.path)
                    self.order.append(found)
                    found.listed = True
            if self.system.family == "glibc":
                for name in dynamic.filter:
                    self._put_before(node, self._request(name, node))
                for name in dynamic.auxiliary:
                    self._put_before(node, self._request(name, node, optional=True))

    def _put_before(self, node: ClosureNode, found: ClosureNode | None) -> None:
        """Put a filtee ahead of its filter: symbols are looked up there first."""
        if found is None:
            return
        if found.listed:
            if self.order.index(found) < self.order.index(node):
                return
            self.order.remove(found)
        self.order.insert(self.order.index(node), found)
        found.listed = True

    def _request(
        self, name: str, node: ClosureNode, *, optional: bool = False, found_via: FoundVia | None = None
    ) -> ClosureNode | None:
        """Find the object for a name, load it if it is new, and record the edge."""
        tried: list[Attempt] = []
        fatal: str | None = None
        wanted: str | None = name
        if self.system.family == "glibc":
            if self.search.secure and "$" in name:
                wanted, fatal = None, "a set-uid program may not use tokens in a NEEDED name"
            else:
                wanted = expand(name, node.origin, self.system)
        found = self._known(wanted) if wanted is not None else None
        taken = FoundVia("loaded") if found else None
        if found is None and wanted:
            found, taken, fatal = self._load(wanted, node, tried, found_via)
        path = found.path if found else None
        self.edges.append(Edge(node.path, name, path, taken, tuple(tried), fatal, optional))
        return found

    def _known(self, name: str) -> ClosureNode | None:
        if self.system.family == "musl":
            if "/" in name:
                return None
            if MUSL_OWN.match(name):
                return self._by_name.get(os.path.basename(self.system.interpreter or ""))  # noqa: PTH119
        elif not name:  # the empty name is the program itself in glibc
            return self.order[0]
        return self._by_name.get(name)

    def _load(
        self, name: str, node: ClosureNode, tried: list[Attempt], found_via: FoundVia | None
    ) -> tuple[ClosureNode | None, FoundVia | None, str | None]:
        """Try the candidates; return the object, how it was found, and why the loader stops where it does."""
        if "/" in name:
            outside = not name.startswith("/") or node.outside
            verdict = self._check(self.search.on_host(name, outside=outside))
            if verdict.elf is not None:
                taken = found_via or FoundVia("path")
                return self._accept(name, name, verdict, node, taken, outside=outside), taken, None
            tried.append(Attempt(FoundVia("path"), name, verdict.reason))
            return None, None, verdict.reason if verdict.fatal else None
        skipped = -1
        for candidate in self.search.candidates(name, node):
            if candidate.group == skipped:
                continue
            if not candidate.there:
                tried.append(
                    Attempt(candidate.place.found_via, candidate.path.rstrip("/") or "/", candidate.reason)
                )
                continue
            verdict = self._check(self.search.on_host(candidate.path, outside=candidate.place.outside))
            if verdict.elf is not None:
                taken = found_via or candidate.place.found_via
                outside = candidate.place.outside
                return self._accept(name, candidate.path, verdict, node, taken, outside=outside), taken, None
            tried.append(self._tried(candidate, name, verdict))
            if verdict.fatal:
                return None, None, verdict.reason
            if verdict.ends_list:
                if self.system.family == "musl":
                    return None, None, verdict.reason
                skipped = candidate.group
        return None, None, None

    @staticmethod
    def _tried(candidate: TriedFile, name: str, verdict: Verdict) -> Attempt:
        path = candidate.path
        if not verdict.reason.startswith("is ") and candidate.place.found_via.kind != "ld.so.cache":
            path = path[: -len(name)].rstrip("/") or ("/" if path.startswith("/") else ".")
        return Attempt(candidate.place.found_via, path, verdict.reason)

    def _accept(
        self,
        name: str,
        path: str,
        verdict: Verdict,
        parent: ClosureNode,
        found_via: FoundVia,
        *,
        outside: bool,
    ) -> ClosureNode:
        """Return the object for an accepted file: one loaded before under another name, or a new one."""
        assert verdict.elf is not None  # noqa: S101 - for the type checker; both callers have checked
        assert verdict.status is not None  # noqa: S101 - likewise
        known = self._by_identity.get((verdict.status.st_dev, verdict.status.st_ino))
        if known is not None:
            if self.system.family == "glibc" or "/" not in name:
                self._by_name.setdefault(name, known)
            return known
        node = self._node(name, path, verdict.elf, parent, found_via, outside=outside)
        self._enter(node, name, verdict.status)
        return node

    def _node(
        self, name: str, path: str, elf: ElfFile, parent: ClosureNode, found_via: FoundVia, *, outside: bool
    ) -> ClosureNode:
        full = path if path.startswith("/") else os.path.abspath(path)  # noqa: PTH100 - a symlink must stay one
        host = self.search.on_host(full, outside=outside)
        real = os.path.realpath(full) if outside else self.system.tree.real_path(full)
        # $ORIGIN of a library is the directory through which it was reached, whatever the file links to.
        origin = os.path.dirname(path if path.startswith("/") else os.path.join(os.getcwd(), path))  # noqa: PTH109, PTH118, PTH120
        loaded = LoadedObject(name, path, Path(host), real, origin, parent.path, found_via, elf)
        return ClosureNode(loaded, parent, outside=outside)

    def _check(self, host: str) -> Verdict:
        machine = None if self.system.family == "musl" else self.search.main.elf.machine
        return check_binary(host, machine, self.files)
