"""The rule about objects that interpose libtorch's own functions because they are loaded before it.

A library binds calls to its own exported functions by name, and the first object in load order that defines the name
wins. libtorch_cpu.so contains and exports a BLAS, libuv, miniz and more, so a library loaded earlier can replace those.
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
SPECIAL = ("_ZG", "_ZT", "_ZZ")  # guards, vtables, local statics
# Libraries next to libtorch's that link it and are not linked by users are included.
OF_TORCH = TORCH_LIBRARIES | TEST_LIBRARIES | {"shm"}
SHOWN = 3  # symbols of a kind in a finding's evidence
FAMILIES = 3  # families in a sentence
FLAGS = "$(torchlink flags --link)"
KEEP = f"-Wl,--push-state,--no-as-needed {FLAGS} -Wl,--pop-state"


class BoundSymbols(NamedTuple):
    """The symbols of one of libtorch's libraries that bind to another object."""

    library: LoadedObject  # libtorch's
    symbols: dict[str, tuple[str, ...]]  # family -> mangled names that bind to the other object
    kept: dict[
        str, tuple[str, ...]
    ]  # family -> names that bind to the library itself, for mixed families only

    @property
    def total(self) -> int:
        """The number of symbols that bind to the other object."""
        return sum(map(len, self.symbols.values()))


def interposed(context: LintContext) -> dict[str, list[BoundSymbols]]:
    """Return the objects that libtorch's libraries bind to instead of to themselves: path -> bound symbols.

    Empty if the binary is one of libtorch's libraries, or an extension that is imported after torch, when libtorch has
    already bound its symbols.
    """
    found: dict[str, list[BoundSymbols]] = {}
    if (
        context.imported is not None
        or not context.scope.ordered
        or is_torch_library(context.subject)
        or is_torch_test_program(context)
    ):
        return found
    own, definitions = torch_and_dependencies(context), _Definitions()
    for library in (each for objects in context.torch.values() for each in objects):
        before = [each for each in context.scope.before(library.path) if may_interpose(each, own)]
        for path, bound in bound_elsewhere(library, before, context, definitions):
            found.setdefault(path, []).append(bound)
    return found


def is_torch_library(each: LoadedObject) -> bool:
    """Whether an object is one of libtorch's libraries, by its name."""
    return bare_name(each.elf.dynamic.soname or file_name(each.path)) in OF_TORCH


def is_torch_test_program(context: LintContext) -> bool:
    """Whether the binary is one of the test programs in a wheel's or zip's `bin`, which contain parts of libtorch."""
    directory, name = posixpath.split(real_dir(context.subject))
    roots = {posixpath.dirname(each) for each in context.torch_dirs}
    return name == "bin" and directory in roots and is_torch_root(Path(directory))


def is_torch_root(directory: Path) -> bool:
    """Whether a directory is a wheel's package or an unpacked zip, rather than a prefix of many packages."""
    return any((directory / name).is_file() for name in ("version.py", "build-version"))


def torch_and_dependencies(context: LintContext) -> set[str]:
    """Return the paths of libtorch's libraries and of everything that they need, which was built to match."""
    own = {each.path for objects in context.torch.values() for each in objects}
    pending = list(own)
    while pending:
        needed = {edge.path for edge in context.closure.edges_of(pending.pop()) if edge.path} - own
        own |= needed
        pending += needed
    return own


def may_interpose(each: LoadedObject, own: set[str]) -> bool:
    """Whether the definitions of an object that is loaded before libtorch matter."""
    name = each.elf.dynamic.soname or file_name(each.path)
    return not (
        each.path in own
        or each.found_via.kind == "interpreter"
        or RUNTIMES.match(name)
        or is_torch_library(each)
    )


class _Definitions:
    """The definitions of objects and the preemptible ones of libtorch's libraries, each read once."""

    def __init__(self) -> None:
        self._own: dict[str, list[Definition]] = {}
        self._all: dict[str, list[Definition]] = {}

    def preemptible(self, library: LoadedObject) -> list[Definition]:
        """Return the definitions of a library of libtorch that it binds to by name."""
        if library.path not in self._own:
            self._own[library.path] = library.elf.preemptible()
        return self._own[library.path]

    def shared(self, each: LoadedObject, library: LoadedObject) -> list[bytes]:
        """Return the names that both an object and a library of libtorch define, without copies of inline functions.

        The names of the smaller one are looked up in the larger one.
        """
        if each.elf.symbol_count > library.elf.symbol_count:
            names = defined_in(each, (symbol.name for symbol in self.preemptible(library)))
            return [name for name in names if not is_cxx(name) or is_strong(name, each)]
        if each.path not in self._all:
            self._all[each.path] = each.elf.definitions()
        own = self._all[each.path]
        return defined_in(
            library, (symbol.name for symbol in own if symbol.strong or not is_cxx(symbol.name))
        )


def defined_in(each: LoadedObject, names: Iterable[bytes]) -> list[bytes]:
    """Return those of some names that would bind to an object."""
    wanted: list[Wanted] = [(gnu_hash(name), name, None, number) for number, name in enumerate(names)]
    unresolved = {number for *_, number in each.elf.unresolved(wanted)}
    return [name for _, name, _, number in wanted if number not in unresolved]


def is_strong(name: bytes, each: LoadedObject) -> bool:
    """Whether an object's definition is strong, that is, not a copy of an inline function."""
    found = each.elf.find_symbol(name.decode("utf-8", "surrogateescape"))
    return found is not None and found.binding == "global"


def is_cxx(name: bytes) -> bool:
    """Whether a name is a mangled C++ name, whose weak definitions are copies of inline functions in every user."""
    return name.startswith(b"_Z")


def replaced_names(each: LoadedObject, library: LoadedObject, definitions: _Definitions) -> frozenset[bytes]:
    """Return the names of a library for which an object has another implementation.

    Variables with a copy relocation in a program are left out.
    """
    names = frozenset(definitions.shared(each, library))
    if names and each.found_via.kind == "program":
        names -= {reference.name for reference in each.elf.references() if reference.copied}
    if not names:
        return names
    from torchlink.lint.symbol_families import family, is_hook

    return frozenset(name for name in names if family(name) is not None and not is_hook(name))


def bound_elsewhere(
    library: LoadedObject, before: Iterable[LoadedObject], context: LintContext, definitions: _Definitions
) -> Iterator[tuple[str, BoundSymbols]]:
    """Return the symbols of one library that bind to objects loaded before it: (path of the object, symbols).

    A family counts if one of its implementations replaces another; then all its symbols that bind to the object are
    counted, copies of inline functions included.
    """
    replaced = {each.path: replaced_names(each, library, definitions) for each in before}
    candidates = frozenset[bytes]().union(*replaced.values())
    if not candidates:
        return
    from torchlink.lint.symbol_families import family, is_hook

    own = definitions.preemptible(library)
    seeds = [each for each in own if each.name in candidates and (each.strong or is_cxx(each.name))]
    bound, _ = context.scope.interposed(library.path, seeds)
    seeds = [
        each for path, symbols in bound.items() for each in symbols if each.name in replaced.get(path, ())
    ]
    if not seeds:
        return
    families, languages = {family(each.name) for each in seeds}, {is_cxx(each.name) for each in seeds}
    alike = [each for each in own if is_cxx(each.name) in languages and family(each.name) in families]
    bound, kept = context.scope.interposed(library.path, alike)
    # A copy of an inline function does not show whose implementation it is.
    own_names = by_family(each for each in kept if each.strong and not is_hook(each.name))
    for path, symbols in bound.items():
        if path in replaced:
            grouped = by_family(symbols)
            mixed = {each: own_names[each] for each in grouped if each in own_names}
            yield path, BoundSymbols(library, grouped, mixed)


def by_family(symbols: Iterable[Definition]) -> dict[str, tuple[str, ...]]:
    """Group mangled names by family, in alphabetical order with vtables, guards and the like at the end."""
    from torchlink.lint.symbol_families import family

    found: dict[str, list[str]] = {}
    for each in symbols:
        found.setdefault(family(each.name) or "", []).append(each.name.decode("utf-8", "surrogateescape"))
    return {
        each: tuple(sorted(names, key=lambda name: (name.startswith(SPECIAL), name)))
        for each, names in found.items()
    }


@rule(
    "interposed-symbols",
    Severity.WARNING,
    "A library that is loaded before libtorch interposes functions that libtorch contains itself.",
)
def interposed_symbols(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding per interposing object; an error if libtorch then mixes two implementations.

    A note for a Python extension: torch is usually imported first, and has then bound its symbols.
    """
    for path, bound in context.once(interposed).items():
        interposer = context.closure.object(path)
        if interposer is None or any(interposer.elf.defines(symbol) for symbol in OWN_SYMBOLS.values()):
            continue  # `static-libtorch-copy` reports it
        severity = Severity.ERROR if any(each.kept for each in bound) else None
        yield rule.finding(
            file_name(path),
            " ".join((interposition(interposer, bound, context), *map(consequence, bound)))
            + condition(context),
            fix(interposer, context),
            tuple(evidence(interposer, bound, context)),
            severity=Severity.NOTE if context.is_extension else severity,
        )._replace(parts=tuple(sorted({family for each in bound for family in each.symbols})))


def interposition(interposer: LoadedObject, bound: list[BoundSymbols], context: LintContext) -> str:
    """Return a sentence: which object interposes how many symbols of which library."""
    counts = [
        f"{each.total} symbol{'s' * (each.total > 1)} that {file_name(each.library.path)} defines for itself "
        f"({some([f'{len(names)} of {family}' for family, names in largest_first(each.symbols)])})"
        for each in bound
    ]
    itself = interposer.path == context.subject.path
    subject = (
        f"{context.name} itself interposes"
        if itself
        else f"{file_name(interposer.path)} is loaded before libtorch and interposes"
    )
    return f"{subject} {' and '.join(counts)}: libtorch's own calls go to it."


def consequence(bound: BoundSymbols) -> str:
    """Return a sentence: the effect on libtorch."""
    library = file_name(bound.library.path)
    if not bound.kept:
        families = some([family for family, _ in largest_first(bound.symbols)])
        return (
            f"It defines everything that {library} uses of {families}, so libtorch runs a different implementation "
            "than the one it was built and tested with."
        )
    kept = [f"{len(names)} of {family}" for family, names in largest_first(bound.kept)]
    return (
        f"The rest binds to {library} itself ({some(kept)}): two implementations are mixed, which crashes or gives "
        "wrong results."
    )


def condition(context: LintContext) -> str:
    """Return a sentence about the load order that this depends on, or an empty string for a program."""
    if context.is_extension:
        return f" This happens if {context.name} is imported before torch."
    return "" if context.is_program else " This happens if nothing has loaded libtorch before."


def fix(interposer: LoadedObject, context: LintContext) -> str:
    """Return the fix: usually the order on the link line that puts libtorch first."""
    if interposer.found_via.kind == "preload":
        return f"Remove {file_name(interposer.path)} from LD_PRELOAD (or /etc/ld.so.preload)."
    if interposer.path == context.subject.path:
        return (
            "Do not export statically linked symbols: link with -Wl,--exclude-libs,ALL (in CMake "
            "target_link_options(TARGET PRIVATE LINKER:--exclude-libs,ALL)) and without -rdynamic, or compile with "
            "-fvisibility=hidden."
        )
    owner, named = object_to_relink(interposer, context)
    flags = FLAGS if uses_torch(owner, context) else KEEP
    file = file_name(named.path)
    library = f"-l{bare_name(named.elf.dynamic.soname or file)}" if file.startswith("lib") else named.path
    return (
        f"Link {file_name(owner.path)} with torchlink's flags before {library}: g++ … {flags} {library}; in CMake "
        f"target_link_libraries(TARGET PRIVATE ${{TORCH_LIBRARIES}} {library.removeprefix('-l')}), with torchlink's "
        "prefix."
    )


def object_to_relink(interposer: LoadedObject, context: LintContext) -> tuple[LoadedObject, LoadedObject]:
    """Return the object to relink, and the library on its link line that libtorch has to precede.

    That is the object that needs the interposer, or the binary itself if the user cannot relink that one: either way
    libtorch is loaded before the interposer, because the loader proceeds breadth first.
    """
    named = interposer
    while True:
        requester = context.closure.object(named.needed_by or "")
        if (
            requester is None
            or requester is context.subject
            or (named is interposer and requester in context.own)
        ):
            return requester or context.subject, named
        named = requester


def uses_torch(owner: LoadedObject, context: LintContext) -> bool:
    """Whether an object uses a library of libtorch, so that --as-needed keeps it anywhere on the link line."""
    if not owner.elf.dynamic.present:  # only a text names it
        return True
    providers = map(context.scope.provider, context.scope.references(owner.path))
    return any(each is not None and is_torch_library(each) for each in providers)


def evidence(interposer: LoadedObject, bound: list[BoundSymbols], context: LintContext) -> Iterator[str]:
    """Return some of the interposed symbols, some that bind to the library itself, and the load order."""
    for each in bound:
        names = [name for _, names in largest_first(each.symbols) for name in names]
        yield from (f"interposed: {name}" for name in names[:SHOWN])
        for _, kept in largest_first(each.kept):
            yield from (f"kept by {file_name(each.library.path)}: {name}" for name in kept[:SHOWN])
    if interposer.path != context.subject.path:
        yield f"{interposer.path}: {interposer.found_via}, needed by {interposer.needed_by}"
    libraries = {each.library.path for each in bound}
    order = [each.path for each in context.closure.objects]
    paths = (path for path in order if path == interposer.path or path in libraries)
    yield f"load order: {', '.join(f'#{order.index(path) + 1} {file_name(path)}' for path in paths)}"


def largest_first(families: dict[str, tuple[str, ...]]) -> list[tuple[str, tuple[str, ...]]]:
    """Return families with their names, the largest first."""
    return sorted(families.items(), key=lambda each: (-len(each[1]), each[0]))


def some(texts: list[str]) -> str:
    """Return the first few texts and the number of further ones."""
    more = len(texts) - FAMILIES
    return ", ".join(texts[:FAMILIES]) + (f" and {more} more" if more > 0 else "")


INTERPOSING = (interposed_symbols,)
