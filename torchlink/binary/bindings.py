"""Symbol binding in a closure, as the loader's relocation does it.

A reference binds to the first object in load order that defines its name in a matching version. Only references that
relocations name count: the symbol table alone has too many and too few.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torchlink.binary.elf_dynamic import DT_VERSYM
from torchlink.binary.elf_hash import gnu_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torchlink.binary.closure import Closure, Edge, LoadedObject
    from torchlink.binary.elf import Definition, Reference
    from torchlink.binary.elf_layout import Wanted

STRIDE = 32  # references are visited in this many passes over the table
BATCH = 1024  # references per look-up
FIRST_BATCH = 48  # references after which most libraries that are used have been met


class UndefinedSymbol(NamedTuple):
    """A strong reference that no object of the closure defines."""

    symbol: str  # mangled
    version: str | None
    object: str  # path of the object that refers to it


class MissingVersion(NamedTuple):
    """A symbol version that an object needs from a library that was found but does not define it."""

    object: str  # path of the object that needs it
    library: str  # the NEEDED name
    provider: str  # path of the library
    version: str
    weak: bool  # the loader only warns


class LostVersions(NamedTuple):
    """A library that an object needs symbol versions from, and that has none at all."""

    object: str  # path of the object that needs them
    provider: str  # path of the library
    versions: tuple[str, ...]
    # mangled names that bind there although they ask for a version: glibc fails an assertion when it looks one up;
    # () where it only warns, `no version information available`
    symbols: tuple[str, ...]


class Scope:
    """The objects of a closure in look-up order; results are cached.

    Args:
        closure: a closure; symbols of missing libraries count as undefined.
    """

    ordered = True  # the closure's objects are in the order in which the loader loads them

    def __init__(self, closure: Closure) -> None:
        self.closure = closure
        self._objects = {each.path: each for each in reversed(closure.objects)}
        self._references: dict[str, Sequence[Reference]] = {}
        self._bound: dict[tuple[bytes, str | None], LoadedObject | None] = {}

    def references(self, path: str) -> Sequence[Reference]:
        """Return the references of an object that its relocations name."""
        if path not in self._references:
            self._references[path] = tuple(self._objects[path].elf.references())
        return self._references[path]

    def provider(self, reference: Reference) -> LoadedObject | None:
        """Return the object that a reference binds to, or None."""
        if reference.copied:  # the program's own copy does not count
            return first_provider(reference, self.closure.objects[1:])
        key = (reference.name, reference.version)
        if key not in self._bound:
            self._bound[key] = first_provider(reference, self.closure.objects)
        return self._bound[key]

    def interposed(
        self, path: str, symbols: Iterable[Definition]
    ) -> tuple[dict[str, list[Definition]], list[Definition]]:
        """Find out where an object's references to its own definitions bind.

        Args:
            path: of the object.
            symbols: some of those that `ElfFile.preemptible` returns for it.

        Returns:
            Paths of objects loaded before it, in load order, each with the symbols that bind to it; and those that bind
            to the object itself.
        """
        left = {each.number: each for each in symbols}
        wanted = [as_wanted(each) for each in left.values()]
        taken: dict[str, list[Definition]] = {}
        for each in self.before(path):
            rest = each.elf.unresolved(wanted)
            if len(rest) < len(wanted):
                others = {number for *_, number in rest}
                taken[each.path] = [left.pop(number) for *_, number in wanted if number not in others]
                wanted = rest
        return taken, list(left.values())

    def before(self, path: str) -> list[LoadedObject]:
        """Return the objects that are loaded, and searched for symbols, before the one with this path."""
        found: list[LoadedObject] = []
        for each in self.closure.objects:
            if each.path == path:
                break
            found.append(each)
        return found

    def unused_needed(self, path: str) -> tuple[Edge, ...]:
        """Return the NEEDED entries of an object to which none of its relocations binds."""
        needed = self._objects[path].elf.dynamic.needed
        edges = [
            edge for edge in self.closure.edges_of(path) if edge.name in needed and edge.path is not None
        ]
        unproven = {edge.path: self._objects[edge.path] for edge in edges if edge.path is not None}
        elf = self._objects[path].elf
        numbers = elf.reference_numbers()
        # In strides, so that a library is met early even where its few symbols are neighbours in the table.
        strides = [number for start in range(STRIDE) for number in numbers[start::STRIDE]]
        self._strike(elf.references_at(strides[:FIRST_BATCH]), unproven)
        left = strides[FIRST_BATCH:]
        # Where a library has fewer names than are left to look up, only references by these names can bind there.
        few = {each: library for each, library in unproven.items() if library.elf.symbol_count <= len(left)}
        if few:
            exported = frozenset().union(*(each.elf.exports() for each in few.values()))
            named = zip(left, elf.symbol_names(left), strict=True)
            self._strike(elf.references_at(number for number, name in named if name in exported), few)
        many = {each: library for each, library in unproven.items() if library.elf.symbol_count > len(left)}
        for first in range(0, len(left), BATCH):
            self._strike(elf.references_at(left[first : first + BATCH]), many)
        return tuple(edge for edge in edges if edge.path in few or edge.path in many)

    def _strike(self, references: Iterable[Reference], unproven: dict[str, LoadedObject]) -> None:
        """Remove from `unproven` the libraries that a reference binds to."""
        asked = {each.number: each for each in references} if unproven else {}
        wanted = [as_wanted(each) for each in asked.values()]
        for path, library in list(unproven.items()):
            for hashed, name, version, number in library.elf.likely(wanted):
                # Only where it defines the name is the load order needed to decide what the reference binds to.
                if not library.elf.provides(name, hashed, version):
                    continue
                provider = self.provider(asked[number])
                if provider is not None:
                    unproven.pop(provider.path, None)
                if path not in unproven:
                    break

    def used_but_not_needed(self, path: str) -> dict[str, tuple[str, ...]]:
        """Return the libraries that an object uses without a NEEDED entry: path → mangled names that bind there.

        Such a program starts only because another library loads them.
        """
        direct = {edge.path for edge in self.closure.edges_of(path)} | {path}
        self._bind_all(path)
        indirect: dict[int, tuple[Reference, LoadedObject]] = {}
        for reference in self.references(path):
            if reference.weak:  # it may stay undefined, so nothing is relied on
                continue
            provider = self.provider(reference)
            if provider and provider.path not in direct and provider.found_via.kind != "interpreter":
                indirect[reference.number] = reference, provider
        left = [as_wanted(reference) for reference, _ in indirect.values()]
        for each in direct:
            left = self._objects[each].elf.unresolved(left) if each and left else left
        names: dict[str, list[str]] = {}
        for _, _, _, number in left:
            reference, provider = indirect[number]
            names.setdefault(provider.path, []).append(reference.name.decode("utf-8", "surrogateescape"))
        return {each: tuple(bound) for each, bound in names.items()}

    def _bind_all(self, path: str) -> None:
        """Look up all references of an object, library by library: many names at once are cheap."""
        left = {
            each.number: each
            for each in self.references(path)
            if not each.copied and (each.name, each.version) not in self._bound
        }
        wanted = [as_wanted(each) for each in left.values()]
        for library in self.closure.objects:
            if not wanted:
                break
            rest = library.elf.unresolved(wanted)
            for number in {number for *_, number in wanted}.difference(number for *_, number in rest):
                reference = left.pop(number)
                self._bound[reference.name, reference.version] = library
            wanted = rest
        self._bound.update(((each.name, each.version), None) for each in left.values())

    def undefined_symbols(self, path: str) -> tuple[UndefinedSymbol, ...]:
        """Return the strong references of an object that nothing in the closure defines."""
        elf = self._objects[path].elf
        # The whole symbol table is cheaper to read than the relocations of a large library.
        left = elf.strong()
        # Which object defines it does not matter, so those with most symbols come first.
        for each in sorted(self.closure.objects, key=lambda each: -each.elf.symbol_count):
            if not left:
                break
            left = each.elf.unresolved(left)
        return tuple(
            UndefinedSymbol(name.decode("utf-8", "surrogateescape"), version, path)
            for _, name, version, number in left
            if elf.is_relocated(number)
        )

    def missing_versions(self) -> tuple[MissingVersion, ...]:
        """Return symbol versions that libraries of the closure lack, as the loader checks them at start.

        A library without any versions is accepted here, as by the loader: see `lost_versions`.
        """
        missing: list[MissingVersion] = []
        defined: dict[str, frozenset[str]] = {}
        for each in self.closure.objects:
            served = {edge.name: edge.path for edge in self.closure.edges_of(each.path) if edge.path}
            for need in each.elf.version_needs():
                provider = served.get(need.library)
                if provider is None:
                    continue
                if provider not in defined:
                    definitions = self._objects[provider].elf.version_definitions()
                    defined[provider] = frozenset(definition.version for definition in definitions)
                if defined[provider] and need.version not in defined[provider]:
                    missing.append(MissingVersion(each.path, need.library, provider, need.version, need.weak))
        return tuple(missing)

    def lost_versions(self) -> tuple[LostVersions, ...]:
        """Return libraries that define no symbol versions, where an object was linked against one that did.

        glibc's `check_match` fails an assertion for a library without DT_VERSYM that a reference's version should come
        from. A library that has the table, for versions that it needs itself, is accepted.
        """
        lost: list[LostVersions] = []
        for each in self.closure.objects:
            served = {edge.name: edge.path for edge in self.closure.edges_of(each.path) if edge.path}
            needed: dict[str, list[str]] = {}
            for need in each.elf.version_needs():
                provider = served.get(need.library)
                if provider is not None and not self._objects[provider].elf.version_definitions():
                    needed.setdefault(need.library, []).append(need.version)
            for library, versions in needed.items():
                provider = served[library]
                elf = self._objects[provider].elf
                if DT_VERSYM in elf.dynamic.tags:
                    lost.append(LostVersions(each.path, provider, tuple(versions), ()))
                elif symbols := self._bound_to(each.path, library, provider):
                    lost.append(LostVersions(each.path, provider, tuple(versions), symbols))
        return tuple(lost)

    def _bound_to(self, path: str, library: str, provider: str) -> tuple[str, ...]:
        """Return the names that an object references in a version of `library`, and that bind to `provider`."""
        names = []
        for reference in self.references(path):
            if reference.version_library == library:
                found = self.provider(reference)
                if found is not None and found.path == provider:
                    names.append(reference.name.decode("utf-8", "surrogateescape"))
        return tuple(names)


def as_wanted(symbol: Reference | Definition) -> Wanted:
    """Return a symbol in the form that `ElfFile.unresolved` takes."""
    return gnu_hash(symbol.name), symbol.name, symbol.version, symbol.number


def first_provider(reference: Reference, objects: Iterable[LoadedObject]) -> LoadedObject | None:
    """Return the first of these objects that a reference would bind to."""
    name, version = reference.name, reference.version
    hashed = gnu_hash(name)
    for each in objects:
        if each.elf.provides(name, hashed, version):
            return each
    return None
