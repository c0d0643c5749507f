"""What a rule is given: a binary's closure, the options of the check, and facts derived from both."""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from torchlink.binary.search import expand
from torchlink.errors import ResourcesError, TorchlinkError
from torchlink.libtorch.names import LINKABLE, NVIDIA, TORCH_LIBRARIES, bare_name
from torchlink.status import not_about_the_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torchlink.binary.bindings import MissingVersion, Scope, UndefinedSymbol
    from torchlink.binary.closure import Closure, LoadedObject
    from torchlink.binary.elf import ElfFile
    from torchlink.binary.system import LoaderSystem
    from torchlink.lint.importing import Imported

TORCH_MARKERS = frozenset({"c10", "torch_cpu"})  # every libtorch's directory has at least one of these
# `found_via` kinds of the system's own libraries
SYSTEM_KINDS = frozenset({"ld.so.cache", "default", "interpreter"})
# `found_via` kinds of the user's own objects
OWN_KINDS = frozenset({"program", "rpath", "runpath", "LD_LIBRARY_PATH", "path", "text"})
PYTHON_NAME = r"_?Py[A-Z_]"  # symbols of the interpreter
VARIABLES = ("LD_LIBRARY_PATH", "LD_PRELOAD")  # environment variables that change a closure
# The file of an object that only a text describes: a path that cannot exist, nor anything next to it.
NOWHERE = Path(os.devnull, "no", "such", "directory", "file")
NOTHING: Mapping[str, Any] = MappingProxyType({})
Derived = TypeVar("Derived")


class LintOptions(NamedTuple):
    """What a binary is checked against."""

    # "GLIBC" -> (2, 31): the newest symbol versions that may be needed
    floors: Mapping[str, tuple[int, ...]] = NOTHING
    target: str | None = None  # as the user gave it: "debian:12", "glibc=2.31"
    allowed_rpath: tuple[str, ...] = ()  # prefixes that a search path entry may have; () allows any
    environment: Mapping[str, str] = NOTHING  # the loader's variables that the binary will run with
    # The loader's variables in lint's own environment: not used for the check, but their effect is reported
    shell: Mapping[str, str] = NOTHING


class LintContext:
    """A binary, its closure, and facts that are derived once for all rules.

    Args:
        closure: of the binary.
        scope: what its symbols bind to.
        options: what it is checked against.
        kind: as in `FileReport.kind`.
        system: the loader that the closure was modelled with.
        from_text: a text lists the undefined symbols, also those of libtorch's own libraries.
        imported: the libtorch that Python has loaded before it imports this extension.
        failed: Python has tried to import the binary and failed.
        errors: lines of a text with errors that torchlink does not recognise.
    """

    def __init__(
        self,
        closure: Closure,
        scope: Scope,
        options: LintOptions,
        kind: str,
        system: LoaderSystem,
        *,
        from_text: bool = False,
        imported: Imported | None = None,
        failed: bool = False,
        errors: tuple[str, ...] = (),
    ) -> None:
        self.closure = closure
        self.scope = scope
        self.options = options
        self.kind = kind
        self.system = system
        self.from_text = from_text
        self.imported = imported
        self.failed = failed
        self.errors = errors
        self._imports: dict[str, frozenset[bytes]] = {}
        self._derived: dict[Callable[[LintContext], Any], Any] = {}

    @property
    def subject(self) -> LoadedObject:
        """The object of the binary that is checked."""
        return self.closure.subject

    @cached_property
    def name(self) -> str:
        """The file name of the binary, for messages."""
        return file_name(self.subject.path)

    @property
    def is_program(self) -> bool:
        """Whether the binary is a program; a library may rely on what the program that loads it has loaded."""
        return self.kind == "executable"

    @property
    def is_extension(self) -> bool:
        """Whether the binary is a Python extension."""
        return self.kind == "python extension"

    @property
    def fails(self) -> str:
        """A clause: the effect of an undefined symbol."""
        if self.is_extension:  # Python binds everything at once
            return f"importing {self.name} fails"
        return f"{self.name} fails at start or at the first call"

    @cached_property
    def complete(self) -> bool:
        """Whether every library was found; undefined symbols can only be checked then."""
        return not self.closure.missing

    @cached_property
    def torch(self) -> dict[str, tuple[LoadedObject, ...]]:
        """The libtorch libraries of the closure by bare name: `c10`, `torch_cpu`, `torch_cuda`, …."""
        found: dict[str, list[LoadedObject]] = {}
        for each in self.closure.objects:
            name = bare_name(each.elf.dynamic.soname or file_name(each.path))
            if name in TORCH_LIBRARIES:
                found.setdefault(name, []).append(each)
        return {name: tuple(objects) for name, objects in found.items()}

    @cached_property
    def torch_dirs(self) -> tuple[str, ...]:
        """The directories of the closure's libtorch libraries, as real paths, in load order."""
        objects = (each for objects in self.torch.values() for each in objects)
        return tuple(dict.fromkeys(real_dir(each) for each in objects))

    @cached_property
    def torch_siblings(self) -> dict[str, ElfFile]:
        """The libraries of the closure's libtorch that are not in the closure, by file name."""
        return self.linkable_in({each.file.parent for objects in self.torch.values() for each in objects})

    def linkable_in(self, directories: set[Path]) -> dict[str, ElfFile]:
        """Return the libraries of libtorch in some directories that are not in the closure, by file name."""
        from torchlink.binary.elf import ElfFile

        loaded = {os.path.realpath(each.file) for each in self.closure.objects}
        found: dict[str, ElfFile] = {}
        for directory in sorted(directories):
            for name in sorted(names_in(directory)):
                path, bare = directory / name, bare_name(name)
                if bare not in LINKABLE or bare in self.torch or os.path.realpath(path) in loaded:
                    continue
                try:
                    found[name] = ElfFile.open(path)
                except ResourcesError:
                    raise
                except TorchlinkError:  # a linker script or a damaged file cannot be linked either
                    continue
        return found

    def belongs_to_torch(self, each: LoadedObject) -> bool:
        """Whether an object is in a libtorch's directory, so that its flaws are not the user's."""
        return real_dir(each) in self.torch_dirs

    @cached_property
    def came_with_torch(self) -> bool:
        """Whether the binary is a library in the directory of a libtorch: one of its own or a companion.

        Companions do not link libtorch, so the closure alone does not show it.
        """
        if self.is_program or self.is_extension:
            return False
        if self.belongs_to_torch(self.subject):
            return True
        return holds_torch(self.subject.file.parent)

    def is_system(self, each: LoadedObject) -> bool:
        """Whether an object belongs to the operating system, so that another system has its own."""
        if each.found_via.kind in {"rpath", "runpath"}:
            return real_dir(each) in self._system_dirs
        return each.found_via.kind in SYSTEM_KINDS

    @cached_property
    def _system_dirs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(self.system.tree.real_path, self.system.default_dirs)))

    @cached_property
    def own(self) -> tuple[LoadedObject, ...]:
        """The binary and the user's own libraries.

        Left out are libtorch, its companions and their dependencies, NVIDIA's libraries, and those installed with the
        operating system. If the binary is one of libtorch's own, everything but itself is left out.
        """
        foreign: set[str] = set()  # paths of libtorch's objects and of their dependencies
        companion_dirs: set[str] = set()
        candidates: list[LoadedObject] = []
        for each in self.closure.objects:
            needed_by_torch = each.needed_by in foreign
            if needed_by_torch or self.belongs_to_torch(each):
                foreign.add(each.path)
                if needed_by_torch:
                    companion_dirs.add(real_dir(each))
            elif (
                each.found_via.kind in OWN_KINDS
                and each is not self.subject
                and not re.match(NVIDIA, each.name)
            ):
                candidates.append(each)
        mine = (each for each in candidates if real_dir(each) not in companion_dirs)
        return (self.subject, *(each for each in mine if not self._is_installed(each)))

    def _is_installed(self, each: LoadedObject) -> bool:
        """Whether an object is part of the operating system, including another package's private libraries."""
        directory = f"{real_dir(each)}/"
        if directory.startswith(f"{real_dir(self.subject)}/"):
            return False
        return self.is_system(each) or any(directory.startswith(f"{top}/") for top in self._system_dirs)

    def imports(self, each: LoadedObject) -> frozenset[bytes]:
        """Return the mangled names that an object leaves undefined."""
        if each.path not in self._imports:
            self._imports[each.path] = frozenset(each.elf.undefined_names())
        return self._imports[each.path]

    @cached_property
    def undefined(self) -> tuple[UndefinedSymbol, ...]:
        """The undefined symbols of the user's own objects; () while a library is missing, which might define them.

        Those of libtorch's own libraries are included if a text lists them. In a Python extension, the symbols that the
        interpreter defines are left out.
        """
        if not self.complete:
            return ()
        checked = [each.path for each in self.own]
        if self.from_text:
            checked += [each.path for objects in self.torch.values() for each in objects]
        symbols = (symbol for path in dict.fromkeys(checked) for symbol in self.scope.undefined_symbols(path))
        return tuple(
            symbol
            for symbol in symbols
            if not (self.is_extension and re.match(PYTHON_NAME, symbol.symbol))
            and not self._is_shared(symbol)
        )

    def _is_shared(self, symbol: UndefinedSymbol) -> bool:
        """Whether a library that `import torch` loads with RTLD_GLOBAL defines a symbol."""
        shared = self.imported.shared if self.imported else ()
        return any(each.elf.defines(symbol.symbol) for each in shared)

    @cached_property
    def missing_versions(self) -> tuple[MissingVersion, ...]:
        """The symbol versions that libraries of the closure lack; musl's loader does not check versions."""
        return () if self.system.family == "musl" else self.scope.missing_versions()

    def once(self, derive: Callable[[LintContext], Derived]) -> Derived:
        """Return `derive(self)`, computed once for all rules."""
        if derive not in self._derived:
            self._derived[derive] = derive(self)
        made: Derived = self._derived[derive]
        return made

    @cached_property
    def without_library_path(self) -> Closure | None:
        """The closure without LD_LIBRARY_PATH; None if it is not set anyway."""
        if not self.options.environment.get("LD_LIBRARY_PATH"):
            return None
        bare = {name: value for name, value in self.options.environment.items() if name != "LD_LIBRARY_PATH"}
        return self._resolved(bare)

    @cached_property
    def without_variables(self) -> LintContext | None:
        """The same context without the loader's variables; None if none is set anyway."""
        if not any(map(self.options.environment.get, VARIABLES)):
            return None
        from torchlink.binary.bindings import Scope

        closure = self._resolved({})
        options = self.options._replace(environment={})
        return LintContext(
            closure,
            Scope(closure),
            options,
            self.kind,
            self.system,
            from_text=self.from_text,
            imported=self.imported,
            failed=self.failed,
            errors=self.errors,
        )

    def _resolved(self, environment: Mapping[str, str]) -> Closure:
        from torchlink.binary.loader import resolve

        before = self.imported.objects if self.imported else ()
        return resolve(self.subject.file, system=self.system, environment=environment, loaded=before)

    def on_host(self, directory: str, each: LoadedObject) -> Path:
        """Return where a directory of an object's search path is on this machine.

        Args:
            directory: as the loader sees it, `$ORIGIN` expanded.
            each: the object; one outside the image sees the directories of this machine around it.
        """
        root = self.system.tree.root
        inside = root is None or str(each.file).startswith(f"{root}/")
        if not inside and f"{directory}/".startswith(f"{each.origin}/"):
            return Path(directory)
        return Path(self.system.tree.on_host(directory))


def directories_of(each: LoadedObject, context: LintContext) -> Iterator[tuple[str, str, Path]]:
    """Return the directories of an object's RPATH or RUNPATH: (entry, directory for the loader, directory here).

    The RPATH is ignored if there is a RUNPATH.
    """
    dynamic = each.elf.dynamic
    text = dynamic.runpath if dynamic.runpath is not None else dynamic.rpath
    for entry in dict.fromkeys(text.split(":")) if text else ():
        directory = expand(entry, each.origin, context.system)
        if directory is None:  # a token without a value on this machine: the loader drops the entry
            continue
        host = context.on_host(directory, each) if directory.startswith("/") else Path(directory)
        yield entry, directory, host


def names_in(directory: Path) -> list[str]:
    """Return the names in a directory; none if it cannot be read or only a text mentions it."""
    try:
        return os.listdir(directory)  # noqa: PTH208 - names alone: /usr/lib has thousands
    except OSError as error:
        not_about_the_file(directory, error)
        return []


def holds_torch(directory: Path) -> bool:
    """Whether a directory holds the libraries of a libtorch."""
    return not TORCH_MARKERS.isdisjoint(map(bare_name, names_in(directory)))


def is_unseen(each: LoadedObject) -> bool:
    """Whether only a text describes an object: its file does not exist on this machine."""
    return each.file == NOWHERE


def file_name(path: str) -> str:
    """Return the last component of a path as the loader sees it."""
    return path.rpartition("/")[2]


def real_dir(each: LoadedObject) -> str:
    """Return the directory of an object's file, symlinks followed."""
    return each.real_path.rpartition("/")[0] or "/"
