"""Which objects take the place of libtorch's own functions, because they are loaded before it.

A library that exports what it also calls looks those calls up by name, and the first object in load order that has the
name gets them: libtorch_cpu.so holds a BLAS, a libuv, a miniz and more, and exports them.

The rule about libraries that take the place of what libtorch's libraries hold themselves.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torchlink.binary.elf_hash import gnu_hash
from torchlink.libtorch.names import TEST_LIBRARIES, TORCH_LIBRARIES, bare_name
from torchlink.lint.context import file_name, real_dir
from torchlink.lint.finding import Severity, rule
from torchlink.lint.rules.copies import OWN_SYMBOLS
from torchlink.lint.unused import CXX_RUNTIME, IMPLIED, LIBM, PARTS_OF_LIBC

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torchlink.binary.closure import LoadedObject
    from torchlink.binary.elf_layout import Definition, Wanted
    from torchlink.lint.context import LintContext
    from torchlink.lint.finding import Finding, Rule


RUNTIMES = re.compile(f"{IMPLIED}|{CXX_RUNTIME}|{LIBM}|{PARTS_OF_LIBC}")
SPECIAL = ("_ZG", "_ZT", "_ZZ")  # what C++ makes for a class or function beside it
# What is next to libtorch's libraries, links them and is not linked by users.
OF_TORCH = TORCH_LIBRARIES | TEST_LIBRARIES | {"shm"}


class BoundSymbols(NamedTuple):
    """What one object takes of one of libtorch's libraries."""

    library: LoadedObject  # libtorch's
    symbols: dict[str, tuple[str, ...]]  # family -> mangled names that bind to the object instead
    kept: dict[str, tuple[str, ...]]  # family -> what stays the library's own; only families that are mixed

    @property
    def total(self) -> int:
        """How many symbols are taken."""
        return sum(map(len, self.symbols.values()))


def interposed(context: LintContext) -> dict[str, list[BoundSymbols]]:
    """Paths of objects that libtorch's libraries bind to instead of themselves, each with what is taken.

    Nothing for libtorch's own libraries as the subject, and nothing for an extension that Python imports when libtorch
    has bound its symbols already.
    """
    found: dict[str, list[BoundSymbols]] = {}
    if (
        context.imported is not None
        or not context.scope.ordered
        or is_of_torch(context.subject)
        or is_torchs_program(context)
    ):
        return found
    own, shelf = brought_by_torch(context), _Definitions()
    for library in (each for objects in context.torch.values() for each in objects):
        before = [each for each in context.scope.before(library.path) if may_take(each, own)]
        for path, taken in taken_of(library, before, context, shelf):
            found.setdefault(path, []).append(taken)
    return found


def is_of_torch(each: LoadedObject) -> bool:
    """Whether an object is one of libtorch's libraries, by its name."""
    return bare_name(each.elf.dynamic.soname or file_name(each.path)) in OF_TORCH


def is_torchs_program(context: LintContext) -> bool:
    """Whether the binary is one of the test programs in a wheel's or zip's `bin`, which hold parts of libtorch."""
    directory, name = posixpath.split(real_dir(context.subject))
    roots = {posixpath.dirname(each) for each in context.torch_dirs}
    return name == "bin" and directory in roots and is_torch_root(Path(directory))


def is_torch_root(directory: Path) -> bool:
    """Whether a directory is a wheel's package or an unpacked zip, and no prefix of many things."""
    return any((directory / mark).is_file() for mark in ("version.py", "build-version"))


def brought_by_torch(context: LintContext) -> set[str]:
    """Paths of libtorch's libraries and of all that they need: made to go with it."""
    own = {each.path for objects in context.torch.values() for each in objects}
    left = list(own)
    while left:
        asked = {edge.path for edge in context.closure.edges_of(left.pop()) if edge.path} - own
        own |= asked
        left += asked
    return own


def may_take(each: LoadedObject, own: set[str]) -> bool:
    """Whether it matters what an object defines that is loaded before libtorch."""
    name = each.elf.dynamic.soname or file_name(each.path)
    return not (
        each.path in own or each.found_via.kind == "interpreter" or RUNTIMES.match(name) or is_of_torch(each)
    )


class _Definitions:
    """What objects define and what libtorch's libraries let others take, each read once."""

    def __init__(self) -> None:
        self._own: dict[str, list[Definition]] = {}
        self._all: dict[str, list[Definition]] = {}

    def preemptible(self, library: LoadedObject) -> list[Definition]:
        """What a library of libtorch looks up by name although it defines it."""
        if library.path not in self._own:
            self._own[library.path] = library.elf.preemptible()
        return self._own[library.path]

    def shared(self, each: LoadedObject, library: LoadedObject) -> list[bytes]:
        """The names that an object defines in its own right and a library of libtorch has too.

        Looked up in the larger one of the two. Not copies of inline functions.
        """
        if each.elf.symbol_count > library.elf.symbol_count:
            names = served(each, (symbol.name for symbol in self.preemptible(library)))
            return [name for name in names if not is_cxx(name) or is_strong(name, each)]
        if each.path not in self._all:
            self._all[each.path] = each.elf.definitions()
        own = self._all[each.path]
        return served(library, (symbol.name for symbol in own if symbol.strong or not is_cxx(symbol.name)))


def served(each: LoadedObject, names: Iterable[bytes]) -> list[bytes]:
    """Those of some names that would bind to an object."""
    wanted: list[Wanted] = [(gnu_hash(name), name, None, number) for number, name in enumerate(names)]
    unresolved = {number for *_, number in each.elf.unresolved(wanted)}
    return [name for _, name, _, number in wanted if number not in unresolved]


def is_strong(name: bytes, each: LoadedObject) -> bool:
    """Whether an object's definition is more than a copy of an inline function."""
    found = each.elf.find_symbol(name.decode("utf-8", "surrogateescape"))
    return found is not None and found.binding == "global"


def is_cxx(name: bytes) -> bool:
    """Whether a name is C++'s, where a weak definition is a copy of an inline function that any user may have."""
    return name.startswith(b"_Z")


def replacing(each: LoadedObject, library: LoadedObject, shelf: _Definitions) -> frozenset[bytes]:
    """The names of a library's own implementation that an object brings another implementation of.

    Not variables that copy relocations have brought into a program.
    """
    names = frozenset(shelf.shared(each, library))
    if names and each.found_via.kind == "program":
        names -= {reference.name for reference in each.elf.references() if reference.copied}
    if not names:
        return names
    from torchlink.lint.symbol_families import family, is_hook

    return frozenset(name for name in names if family(name) is not None and not is_hook(name))


def taken_of(
    library: LoadedObject, before: Iterable[LoadedObject], context: LintContext, shelf: _Definitions
) -> Iterator[tuple[str, BoundSymbols]]:
    """What is taken of one library, by the paths of who takes it.

    A symbol counts where one implementation takes the place of another. Where any has, all that binds there of its
    family is counted, copies of inline functions included.
    """
    named = {each.path: replacing(each, library, shelf) for each in before}
    candidates = frozenset[bytes]().union(*named.values())
    if not candidates:
        return
    from torchlink.lint.symbol_families import family, is_hook

    own = shelf.preemptible(library)
    seeds = [each for each in own if each.name in candidates and (each.strong or is_cxx(each.name))]
    bound, _ = context.scope.interposed(library.path, seeds)
    seeds = [each for path, symbols in bound.items() for each in symbols if each.name in named.get(path, ())]
    if not seeds:
        return
    families, languages = {family(each.name) for each in seeds}, {is_cxx(each.name) for each in seeds}
    alike = [each for each in own if is_cxx(each.name) in languages and family(each.name) in families]
    bound, kept = context.scope.interposed(library.path, alike)
    # What any user of the headers has a copy of says nothing about whose implementation it is.
    left = by_family(each for each in kept if each.strong and not is_hook(each.name))
    for path, symbols in bound.items():
        if path in named:
            grouped = by_family(symbols)
            yield path, BoundSymbols(library, grouped, {each: left[each] for each in grouped if each in left})


def by_family(symbols: Iterable[Definition]) -> dict[str, tuple[str, ...]]:
    """Mangled names by family, in alphabetical order with vtables, guards and the like at the end."""
    from torchlink.lint.symbol_families import family

    found: dict[str, list[str]] = {}
    for each in symbols:
        found.setdefault(family(each.name) or "", []).append(each.name.decode("utf-8", "surrogateescape"))
    return {
        each: tuple(sorted(names, key=lambda name: (name.startswith(SPECIAL), name)))
        for each, names in found.items()
    }


SHOWN = 3  # symbols of a kind in a finding's evidence
FAMILIES = 3  # families in a sentence
FLAGS = "$(torchlink flags --link)"
KEEP = f"-Wl,--push-state,--no-as-needed {FLAGS} -Wl,--pop-state"


@rule(
    "interposed-symbols",
    Severity.WARNING,
    "A library that is loaded before libtorch takes the place of functions that libtorch has itself.",
)
def interposed_symbols(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding for each object that takes some; an error where libtorch then mixes two implementations.

    Python imports torch first as a rule, and libtorch has bound its symbols when the extension is loaded.
    """
    for path, taken in context.once(interposed).items():
        taker = context.closure.object(path)
        if taker is None or any(taker.elf.defines(symbol) for symbol in OWN_SYMBOLS.values()):
            continue  # a static copy of libtorch is another rule's
        severity = Severity.ERROR if any(each.kept for each in taken) else None
        yield rule.finding(
            file_name(path),
            " ".join((sentence(taker, taken, context), *map(consequence, taken))) + when(context),
            cure(taker, context),
            tuple(evidence(taker, taken, context)),
            severity=Severity.NOTE if context.is_extension else severity,
        )._replace(parts=tuple(sorted({family for each in taken for family in each.symbols})))


def sentence(taker: LoadedObject, taken: list[BoundSymbols], context: LintContext) -> str:
    """Who takes how many symbols of whom."""
    counts = [
        f"{each.total} symbol{'s' * (each.total > 1)} that {file_name(each.library.path)} defines for itself "
        f"({some([f'{len(names)} of {family}' for family, names in most_first(each.symbols)])})"
        for each in taken
    ]
    itself = taker.path == context.subject.path
    who = (
        f"{context.name} itself takes"
        if itself
        else f"{file_name(taker.path)} is loaded before libtorch and takes"
    )
    return f"{who} {' and '.join(counts)}: libtorch's own calls go there."


def consequence(taken: BoundSymbols) -> str:
    """What that does to libtorch, as a sentence."""
    library = file_name(taken.library.path)
    if not taken.kept:
        families = some([family for family, _ in most_first(taken.symbols)])
        return (
            f"It has all that {library} uses of {families}, so that libtorch runs with another implementation than it "
            "was built and tested with."
        )
    kept = [f"{len(names)} of {family}" for family, names in most_first(taken.kept)]
    return (
        f"The rest stays {library}'s own ({some(kept)}): two implementations are mixed, which crashes or "
        "computes wrong results."
    )


def when(context: LintContext) -> str:
    """In what case that happens, where the binary does not decide it alone."""
    if context.is_extension:
        return f" That is so where {context.name} is imported before torch."
    return "" if context.is_program else " That is so where nothing has loaded libtorch before."


def cure(taker: LoadedObject, context: LintContext) -> str:
    """The order on the link line that puts libtorch first, or what else helps."""
    if taker.found_via.kind == "preload":
        return f"Take {file_name(taker.path)} out of LD_PRELOAD (or /etc/ld.so.preload)."
    if taker.path == context.subject.path:
        return (
            "Do not export what is linked statically: link with -Wl,--exclude-libs,ALL (in CMake "
            "target_link_options(TARGET PRIVATE LINKER:--exclude-libs,ALL)) and without -rdynamic, or compile it with "
            "-fvisibility=hidden."
        )
    owner, named = on_whose_line(taker, context)
    flags = FLAGS if uses_torch(owner, context) else KEEP
    file = file_name(named.path)
    library = f"-l{bare_name(named.elf.dynamic.soname or file)}" if file.startswith("lib") else named.path
    return (
        f"Link {file_name(owner.path)} with torchlink's flags before {library}: g++ … {flags} {library}; in CMake "
        f"target_link_libraries(TARGET PRIVATE ${{TORCH_LIBRARIES}} {library.removeprefix('-l')}), with torchlink's "
        "prefix."
    )


def on_whose_line(taker: LoadedObject, context: LintContext) -> tuple[LoadedObject, LoadedObject]:
    """The object to link again, and the library on its line before which libtorch has to come.

    The one that asks for the taker, or the binary itself where that is nobody's to link: either way libtorch is loaded
    before the taker, because the loader goes breadth first.
    """
    named = taker
    while True:
        asking = context.closure.object(named.needed_by or "")
        if asking is None or asking is context.subject or (named is taker and asking in context.own):
            return asking or context.subject, named
        named = asking


def uses_torch(owner: LoadedObject, context: LintContext) -> bool:
    """Whether an object uses a library of libtorch, so that a linker keeps it wherever it stands on the line."""
    if not owner.elf.dynamic.present:  # only a text names it
        return True
    providers = map(context.scope.provider, context.scope.references(owner.path))
    return any(each is not None and is_of_torch(each) for each in providers)


def evidence(taker: LoadedObject, taken: list[BoundSymbols], context: LintContext) -> Iterator[str]:
    """Some of the symbols, some of those that stay, and the order in which the objects are loaded."""
    for each in taken:
        names = [name for _, names in most_first(each.symbols) for name in names]
        yield from (f"taken: {name}" for name in names[:SHOWN])
        for _, left in most_first(each.kept):
            yield from (f"kept by {file_name(each.library.path)}: {name}" for name in left[:SHOWN])
    if taker.path != context.subject.path:
        yield f"{taker.path}: {taker.found_via}, needed by {taker.needed_by}"
    libraries = {each.library.path for each in taken}
    order = [each.path for each in context.closure.objects]
    places = (path for path in order if path == taker.path or path in libraries)
    yield f"load order: {', '.join(f'#{order.index(path) + 1} {file_name(path)}' for path in places)}"


def most_first(families: dict[str, tuple[str, ...]]) -> list[tuple[str, tuple[str, ...]]]:
    """Families with their names, the largest first."""
    return sorted(families.items(), key=lambda each: (-len(each[1]), each[0]))


def some(words: list[str]) -> str:
    """The first few, and how many more."""
    more = len(words) - FAMILIES
    return ", ".join(words[:FAMILIES]) + (f" and {more} more" if more > 0 else "")


INTERPOSING = (interposed_symbols,)
