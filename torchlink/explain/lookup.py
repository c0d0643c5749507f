"""Looking up undefined symbols and missing libraries in a libtorch."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from torchlink.binary.elf import ElfFile
from torchlink.errors import ResourcesError, TorchlinkError
from torchlink.explain.expressions import Expression
from torchlink.explain.symbols import namesakes, string_of, undefined_in
from torchlink.libtorch.libraries import is_own
from torchlink.libtorch.names import DEBIAN_PACKAGES, NVIDIA, PYTHON_LIBRARY, TEST_LIBRARIES, bare_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torchlink.explain.symbols import Namesake, Symbol
    from torchlink.libtorch.facts import Libtorch

# Where most symbols are; the libraries of an accelerator and the rest follow, Python's last.
FIRST = ("c10", "torch_cpu", "torch")
MOST_EXACT = 200  # symbols that are looked up by their hash
MOST_SCANNED = 8  # symbols whose namesakes are searched for in the names of all libraries, 0.05 s each
# Names in libtorch_cuda and the like, which a CPU build does not have.
OF_CUDA = Expression(r"c10::cuda::|at::cuda::|torch::cuda::|_ZNK?(?:3c10|2at|5torch)4cuda\d")
# Libraries of older versions only: bare name → the last one.
REMOVED = {"caffe2": "1.1", "caffe2_gpu": "1.1", "torch_cuda_cu": "1.13", "torch_cuda_cpp": "1.13"}
SO = r"[\w.+-]+\.(?:so(?:\.\d+)*|dylib)"
MISSING = (
    Expression(rf"(?:^|[\s:/])({SO}): cannot open shared object file"),
    Expression(rf"({SO}), needed by \S+,? not found"),
    Expression(rf"Library not loaded: (?:\S*/)?({SO})"),
    Expression(rf"Error loading shared library ({SO})"),
    Expression(rf"^\s*({SO}) => not found"),
    Expression(rf"No rule to make target '\S*/({SO})'"),
    Expression(rf"ninja: error: '(?:\S*/)?({SO})'"),
)
LINKED = (
    Expression(
        r"(?:cannot find|unable to find library|library not found for|cannot find library) -l([\w.+-]+)"
    ),
    Expression(r"library not found: ([\w.+-]+)"),
    Expression(r"library '([\w.+-]+)' not found"),
)


class SymbolFact(NamedTuple):
    """What a libtorch says about one undefined symbol."""

    symbol: Symbol
    # "defined": it is in `library`; "other-abi": it is there with another string type; "other-signature": only
    # functions of the same name with other parameters are; "absent": nothing of that name is in any library
    kind: str
    library: str | None = None
    namesake: Namesake | None = None


class LibraryFact(NamedTuple):
    """What is known about a library that was not found."""

    name: str  # of the file, or `libX.so` of -lX
    # "here": libtorch has it in `directory`; "companion": a package next to it has it; "missing": this libtorch
    # needs it, and its package is not installed; "other-version": libtorch has `instead`; "removed": only versions up
    # to `instead` had it; "no-accelerator": it is CUDA's, and this is a CPU build; "cuda-version": of another major
    # version than this libtorch's CUDA; "system": a package of the system has it; "unknown"
    kind: str
    directory: str | None = None
    package: str | None = None
    instead: str | None = None


class Symbols:
    """The symbols of a libtorch's libraries, each file opened when it is first needed."""

    def __init__(self, libtorch: Libtorch) -> None:
        self.libtorch = libtorch
        self._files: dict[str, ElfFile | None] = {}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The ELF libraries in the order in which they are searched."""
        if self.libtorch.packed or self.libtorch.platform != "linux":
            return ()

        def order(name: str) -> tuple[int, str]:
            bare = bare_name(name)
            return FIRST.index(bare) if bare in FIRST else 8 + (bare == PYTHON_LIBRARY), name

        own = (name for name in self.libtorch.libraries if is_own(bare_name(name)))
        return tuple(sorted((name for name in own if bare_name(name) not in TEST_LIBRARIES), key=order))

    def _file(self, name: str) -> ElfFile | None:
        if name not in self._files:
            try:
                self._files[name] = ElfFile.open(self.libtorch.library_dir / name)
            except ResourcesError:
                raise
            except TorchlinkError:
                self._files[name] = None
        return self._files[name]

    def defining(self, mangled: str) -> str | None:
        """Return the library that defines a mangled name, by its hash."""
        try:
            return next(
                (name for name in self.names if (file := self._file(name)) and file.defines(mangled)), None
            )
        except ResourcesError:
            raise
        except TorchlinkError:
            return None

    def look_up(self, symbols: Iterable[Symbol]) -> list[SymbolFact]:
        """Return what the libraries say about symbols: about all by their hash, about a few others by their name."""
        facts: list[SymbolFact] = []
        left: list[Symbol] = []
        for symbol in list(symbols)[:MOST_EXACT]:
            library = self.defining(symbol.text) if symbol.mangled else None
            if library:
                facts.append(SymbolFact(symbol, "defined", library))
            elif self.names:
                left.append(symbol)
        return [*facts, *map(self._by_name, left[:MOST_SCANNED])]

    def _by_name(self, symbol: Symbol) -> SymbolFact:
        nearest = SymbolFact(symbol, "absent")
        if symbol.text.startswith("?"):
            return nearest
        for name in self.names:
            file = self._file(name)
            found = _namesakes(symbol, file) if file else []
            if not found:
                continue
            best = found[0]
            if best.exact:
                return SymbolFact(symbol, "defined", name, best)
            if best.same:
                return SymbolFact(symbol, "other-abi", name, best)
            if nearest.kind == "absent":
                nearest = SymbolFact(symbol, "other-signature", name, best)
        return nearest


def _namesakes(symbol: Symbol, file: ElfFile) -> list[Namesake]:
    try:
        return namesakes(symbol, file)
    except ResourcesError:
        raise
    except TorchlinkError:
        return []


def undefined_symbols(lines: Iterable[str]) -> list[Symbol]:
    """Return the symbols of torch that lines report as undefined, each once."""
    found = (undefined_in(line) for line in lines)
    return list(dict.fromkeys(symbol for symbol in found if symbol and symbol.of_torch))


def other_string(fact: SymbolFact) -> str:
    """Return whose std::string the undefined symbol of an `other-abi` fact has: "libc++", "old" or "new"."""
    shown = string_of(fact.symbol)
    if shown:
        return shown
    return "old" if fact.namesake and "cxx11" in fact.namesake.name else "new"


def missing_libraries(lines: Iterable[str]) -> Iterator[str]:
    """Yield the file names of libraries that lines report as not found."""
    for line in lines:
        for pattern in MISSING:
            if found := pattern.search(line):
                yield found[1]
                break
        else:
            for pattern in LINKED:
                if found := pattern.search(line):
                    yield f"lib{found[1]}.so"
                    break


def look_up_library(name: str, libtorch: Libtorch) -> LibraryFact:
    """Return where a libtorch or what it is installed with has a library, by its file name."""
    bare = bare_name(name)
    of_cuda = re.match(NVIDIA, name) is not None or bare in {"torch_cuda", "c10_cuda", "torch_cuda_linalg"}
    if name in libtorch.libraries:
        return LibraryFact(name, "here", str(libtorch.library_dir))
    companion = next((each for each in libtorch.companion_dirs if name in each.libraries), None)
    if companion:
        return LibraryFact(name, "companion", str(companion.path))
    missing = next((each for each in libtorch.missing_libraries if each.name == name), None)
    if missing:
        return LibraryFact(name, "missing", package=missing.requirement or missing.package)
    instead = next((each for each in libtorch.libraries if bare_name(each) == bare), None)
    if instead:
        return LibraryFact(name, "other-version", str(libtorch.library_dir), instead=instead)
    if bare in REMOVED:
        return LibraryFact(name, "removed", instead=REMOVED[bare])
    if of_cuda and libtorch.accelerator == "cpu":
        return LibraryFact(name, "no-accelerator")
    if of_cuda:
        return _of_other_cuda(name, libtorch)
    if name in DEBIAN_PACKAGES:
        return LibraryFact(name, "system", package=DEBIAN_PACKAGES[name])
    return LibraryFact(name, "unknown")


def _of_other_cuda(name: str, libtorch: Libtorch) -> LibraryFact:
    stem = name.partition(".so")[0]
    named = (
        *(library for each in libtorch.companion_dirs for library in each.libraries),
        *(each.name for each in libtorch.missing_libraries),
    )
    instead = next((each for each in named if each.partition(".so")[0] == stem), None)
    if instead and ".so." in name:
        return LibraryFact(name, "cuda-version", instead=instead)
    from torchlink.libtorch.packages import package_of

    return LibraryFact(name, "missing", package=package_of(name, libtorch.accelerator_version))


def leads_to(file: str, library: str) -> bool | None:
    """Whether a binary needs a library of libtorch, itself or through another one; None: it cannot be read."""
    try:
        with ElfFile.open(file) as elf:
            needed = {bare_name(name) for name in elf.dynamic.needed}
    except ResourcesError:
        raise
    except TorchlinkError:
        return None
    # All of the others need libc10, and libtorch.so needs them.
    return bare_name(library) in needed or any(name.startswith("torch") for name in needed)
