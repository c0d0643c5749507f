"""The edges of a closure as reports draw them: who loaded what first, and who else needs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torchlink.lint.finding import ClosureEntry


@dataclass(frozen=True, slots=True)
class Edges:
    """A closure as a graph over `ClosureEntry.key`.

    `loads` is a forest: each object below the one that asked for it first, children in load order. `repeats`
    holds every other NEEDED edge, cycles among them.
    """

    entries: Mapping[str, ClosureEntry]
    roots: tuple[str, ...]
    parents: Mapping[str, str]
    loads: Mapping[str, tuple[str, ...]]
    repeats: Mapping[str, tuple[str, ...]]


def edges(closure: Sequence[ClosureEntry]) -> Edges:
    """The graph of a closure; an entry whose `needed_by` is no entry (or would close a ring) is a root."""
    entries = {entry.key: entry for entry in reversed(closure)}
    order = list(dict.fromkeys(entry.key for entry in closure))
    parents: dict[str, str] = {}
    loads: dict[str, list[str]] = {key: [] for key in order}
    roots = []
    for key in order:
        parent = entries[key].needed_by
        if parent is None or parent not in entries or key in _upward(parent, parents):
            roots.append(key)
        else:
            parents[key] = parent
            loads[parent].append(key)
    repeats = {
        key: tuple(
            child
            for child in dict.fromkeys(entries[key].needs)
            if child in entries and parents.get(child) != key
        )
        for key in order
    }
    return Edges(entries, tuple(roots), parents, {key: tuple(below) for key, below in loads.items()}, repeats)


def ancestors(key: str, graph: Edges) -> set[str]:
    """An object and those above it in the forest of `loads`."""
    return set(_upward(key, graph.parents))


def _upward(key: str, parents: Mapping[str, str]) -> Iterator[str]:
    """A key and what stands above it."""
    current: str | None = key
    while current is not None:
        yield current
        current = parents.get(current)
