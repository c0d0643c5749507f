"""To which object of a closure the references of another would bind, as the loader's relocation decides it.

A reference binds to the first object in load order that defines its name in a version that fits. What is
judged is what relocations name: the symbol table alone over- and under-counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchlink.binary.elf_hash import gnu_hash

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torchlink.binary.closure import Closure, Edge, LoadedObject
    from torchlink.binary.elf import Reference


@dataclass(frozen=True, slots=True)
class UndefinedSymbol:
    """A strong reference that no object of the closure serves."""

    symbol: str  # mangled
    version: str | None
    object: str  # path of the object that refers to it


@dataclass(frozen=True, slots=True)
class MissingVersion:
    """A symbol version that an object needs of a library which is there but lacks it."""

    object: str  # path of the object that needs it
    library: str  # the NEEDED name
    provider: str  # path of the library
    version: str
    weak: bool  # the loader does not stop for it


class Scope:
    """The objects of a closure in look-up order, with what was looked up before."""

    def __init__(self, closure: Closure) -> None:
        self.closure = closure
        self._bound: dict[tuple[bytes, str | None], LoadedObject | None] = {}

    def provider(self, reference: Reference) -> LoadedObject | None:
        """The object that a reference binds to, None when there is none."""
        key = (reference.name, reference.version)
        if reference.copied or key not in self._bound:
            found = self._search(reference)
            if reference.copied:
                return found
            self._bound[key] = found
        return self._bound[key]

    def _search(self, reference: Reference) -> LoadedObject | None:
        hashed = gnu_hash(reference.name)
        for each in self.closure.objects[1 if reference.copied else 0 :]:
            if each.elf.provides(reference.name, hashed, reference.version):
                return each
        return None

    def is_defined(self, reference: Reference, hints: Iterable[LoadedObject]) -> bool:
        """Whether any object serves a reference; `hints` are asked first, the order does not matter here."""
        key = (reference.name, reference.version)
        if key not in self._bound:
            hashed = gnu_hash(reference.name)
            for each in (*hints, *self.closure.objects):
                if each.elf.provides(reference.name, hashed, reference.version):
                    return True
            self._bound[key] = None
        return self._bound[key] is not None


def unused_needed(closure: Closure, path: str | None = None, scope: Scope | None = None) -> tuple[Edge, ...]:
    """The NEEDED entries of an object to which none of its relocations binds.

    Args:
        closure: a closure.
        path: the object in it; the subject by default.
        scope: keeps what was looked up from one question to the next.
    """
    scope = scope or Scope(closure)
    asking = closure.subject if path is None else closure.object(path)
    if asking is None:
        return ()
    edges = [edge for edge in closure.edges_of(asking.path) if edge.name in asking.elf.dynamic.needed]
    unproven = {edge.path: closure.object(edge.path) for edge in edges if edge.path is not None}
    for reference in asking.elf.references():
        if not unproven:
            break
        hashed = gnu_hash(reference.name)
        # Where an unproven library has the name, the whole order decides who gets it.
        if any(
            each and each.elf.provides(reference.name, hashed, reference.version)
            for each in unproven.values()
        ):
            provider = scope.provider(reference)
            if provider is not None:
                unproven.pop(provider.path, None)
    return tuple(edge for edge in edges if edge.path in unproven)


def used_but_not_needed(
    closure: Closure, path: str | None = None, scope: Scope | None = None
) -> dict[str, tuple[str, ...]]:
    """Libraries that an object uses without a NEEDED entry: path → mangled names that bind there.

    The program only starts because another library brings them along.
    """
    scope = scope or Scope(closure)
    asking = closure.subject if path is None else closure.object(path)
    if asking is None:
        return {}
    needed = {edge.path for edge in closure.edges_of(asking.path)}
    direct = [each for each in closure.objects if each.path in needed or each is asking]
    indirect: dict[str, list[str]] = {}
    for reference in asking.elf.references():
        hashed = gnu_hash(reference.name)
        if any(each.elf.provides(reference.name, hashed, reference.version) for each in direct):
            continue
        provider = scope.provider(reference)
        if provider is not None and provider.how.kind != "interpreter":
            indirect.setdefault(provider.path, []).append(reference.name.decode("utf-8", "surrogateescape"))
    return {provider: tuple(names) for provider, names in indirect.items()}


def undefined_symbols(
    closure: Closure, paths: Iterable[str] | None = None, scope: Scope | None = None
) -> tuple[UndefinedSymbol, ...]:
    """Strong references that nothing in the closure serves.

    Args:
        closure: a closure; with libraries missing, what they would define counts as undefined.
        paths: the objects that are asked, all by default.
        scope: keeps what was looked up from one question to the next.
    """
    scope = scope or Scope(closure)
    wanted = None if paths is None else set(paths)
    undefined: list[UndefinedSymbol] = []
    for each in closure.objects:
        if wanted is not None and each.path not in wanted:
            continue
        served = {edge.name: edge.path for edge in closure.edges_of(each.path)}
        near = [other for path in dict.fromkeys(served.values()) if path and (other := closure.object(path))]
        by_name = {name: closure.object(path) for name, path in served.items() if path}
        for reference in each.elf.references(relocated=False):
            if reference.weak:
                continue
            linked = by_name.get(reference.version_library or "")
            if scope.is_defined(reference, (linked,) if linked else near):
                continue
            if each.elf.is_relocated(reference.number):
                name = reference.name.decode("utf-8", "surrogateescape")
                undefined.append(UndefinedSymbol(name, reference.version, each.path))
    return tuple(undefined)


def missing_versions(closure: Closure) -> tuple[MissingVersion, ...]:
    """Symbol versions that the libraries of a closure lack, as the loader checks them at start.

    A library without any versions is let pass, as the loader does.
    """
    missing: list[MissingVersion] = []
    defined: dict[str, frozenset[str]] = {}
    for each in closure.objects:
        served = {edge.name: edge.path for edge in closure.edges_of(each.path) if edge.path}
        for need in each.elf.version_needs():
            path = served.get(need.library)
            provider = closure.object(path) if path else None
            if provider is None:
                continue
            if provider.path not in defined:
                definitions = provider.elf.version_definitions()
                defined[provider.path] = frozenset(definition.version for definition in definitions)
            versions = defined[provider.path]
            if versions and need.version not in versions:
                missing.append(
                    MissingVersion(each.path, need.library, provider.path, need.version, need.weak)
                )
    return tuple(missing)
