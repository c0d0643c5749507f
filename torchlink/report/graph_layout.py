"""The closure as a graph, and its layout as a drawing.

The graph separates the edges by which objects were loaded (a forest) from all other NEEDED edges. The layout has a
column for each depth of that forest, in which objects are in the order of the objects that loaded them. So the edges
of the forest never cross, and each joins neighbouring columns. All lengths are CSS pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torchlink.lint.finding import ClosureEntry


MARGIN = 14.0
HEIGHT = 40.0  # of a node
PITCH = 50.0  # from node to node in a column
STUB = 22.0  # from a column to the nearest lane of edges
LANE = 9.0  # from lane to lane
ROUND = 6.0  # radius of an edge's corners
BULGE = 40.0  # how far a curve leaves a node before it turns
CHAR = 7.3  # widest advance of a monospace font at 12 px
PADDING = 24.0
NARROWEST, WIDEST = 150.0, 236.0  # of a node
NAME_CHARS = int((WIDEST - PADDING) / CHAR)


@dataclass(frozen=True, slots=True)
class Edges:
    """A closure as a graph over `ClosureEntry.key`.

    `loads` is a forest: each object below the one that needed it first, children in load order. `repeats`
    holds every other NEEDED edge, including cycles.
    """

    entries: Mapping[str, ClosureEntry]
    roots: tuple[str, ...]
    parents: Mapping[str, str]
    loads: Mapping[str, tuple[str, ...]]
    repeats: Mapping[str, tuple[str, ...]]


def edges(closure: Sequence[ClosureEntry]) -> Edges:
    """Return the graph of a closure; an entry whose `needed_by` is not an entry, or would close a cycle, is a root."""
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
    """Return an object and its ancestors in the forest of `loads`."""
    return set(_upward(key, graph.parents))


def _upward(key: str, parents: Mapping[str, str]) -> Iterator[str]:
    """Return a key and its ancestors."""
    current: str | None = key
    while current is not None:
        yield current
        current = parents.get(current)


@dataclass(frozen=True, slots=True)
class Box:
    """The position of a node."""

    column: int
    x: float
    y: float
    width: float


@dataclass(frozen=True, slots=True)
class Line:
    """An edge: which object needs which, whether that loaded it, and its SVG path."""

    source: str
    target: str
    loads: bool
    cycle: bool
    path: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """A graph with its layout; boxes in the order of columns, top to bottom."""

    boxes: Mapping[str, Box]
    lines: tuple[Line, ...]
    width: float
    height: float


def layout(graph: Edges) -> Drawing:
    """Place every object of a closure and every NEEDED edge."""
    columns = _columns(graph)
    tops: dict[str, float] = {}
    for column in columns:
        _stack(column, graph, tops)
    boxes: dict[str, Box] = {}
    turns: dict[str, float] = {}  # x at which the edges of a loader turn downward
    x = MARGIN
    for number, column in enumerate(columns):
        longest = max(len(graph.entries[key].name.rpartition("/")[2]) for key in column)
        width = min(max(longest * CHAR + PADDING, NARROWEST), WIDEST)
        boxes.update({key: Box(number, x, tops[key], width) for key in column})
        lanes = _lanes(column, graph, tops)
        turns.update({key: x + width + STUB + LANE * lane for key, lane in lanes.items()})
        x += width + 2 * STUB + LANE * max(lanes.values(), default=0)
    right = max((box.x + box.width for box in boxes.values()), default=0.0)
    bottom = max(tops.values(), default=0.0) + HEIGHT
    # Edges between nodes of the last column bulge out of it.
    return Drawing(boxes, tuple(_lines(graph, boxes, turns)), right + BULGE + MARGIN, bottom + MARGIN)


def shorten(text: str, chars: int) -> str:
    """Shorten text to a number of characters by cutting the middle: start and end (the version) are kept."""
    if len(text) <= chars:
        return text
    tail = (chars - 1) // 2
    return f"{text[: chars - 1 - tail]}…{text[-tail:]}"


def _columns(graph: Edges) -> list[list[str]]:
    columns = []
    column = list(graph.roots)
    while column:
        columns.append(column)
        column = [child for key in column for child in graph.loads[key]]
    return columns


def _stack(column: Sequence[str], graph: Edges, tops: dict[str, float]) -> None:
    """Add the tops of a column's nodes: none above its parent, none nearer than `PITCH` to the one before."""
    free = MARGIN
    for key in column:
        parent = graph.parents.get(key)
        tops[key] = max(free, MARGIN if parent is None else tops[parent])
        free = tops[key] + PITCH


def _lanes(column: Sequence[str], graph: Edges, tops: Mapping[str, float]) -> dict[str, int]:
    """Return for each parent the lane, counted from the left, in which its edges run down to the next column.

    If the lanes of two parents overlap in height, that of the upper one is further right, so that neither the edge
    to it nor the branches of the other cross a lane.
    """
    ends = {key: max(tops[child] for child in graph.loads[key]) for key in column if graph.loads[key]}
    lanes: dict[str, int] = {}
    for key in reversed(ends):
        below = (lane + 1 for other, lane in lanes.items() if tops[other] <= ends[key])
        lanes[key] = max(below, default=0)
    return lanes


def _lines(graph: Edges, boxes: Mapping[str, Box], turns: Mapping[str, float]) -> Iterator[Line]:
    for key, box in boxes.items():
        above = ancestors(key, graph)
        for child in graph.loads[key]:
            yield Line(key, child, True, False, _elbow(box, boxes[child], turns[key]))
        for child in graph.repeats[key]:
            yield Line(key, child, False, child in above, _curve(box, boxes[child]))


def _elbow(source: Box, target: Box, turn: float) -> str:
    """Return a line that runs right, down, and right again, with round corners."""
    x, y1, y2 = source.x + source.width, source.y + HEIGHT / 2, target.y + HEIGHT / 2
    if y2 == y1:
        return f"M{x:.1f} {y1:.1f}H{target.x:.1f}"
    corner = min(ROUND, (y2 - y1) / 2)
    return (
        f"M{x:.1f} {y1:.1f}H{turn - corner:.1f}Q{turn:.1f} {y1:.1f} {turn:.1f} {y1 + corner:.1f}"
        f"V{y2 - corner:.1f}Q{turn:.1f} {y2:.1f} {turn + corner:.1f} {y2:.1f}H{target.x:.1f}"
    )


def _curve(source: Box, target: Box) -> str:
    """Return a curve from the side of one node to the facing side of another, or around to the same side."""
    y1, y2 = source.y + HEIGHT / 2, target.y + HEIGHT / 2
    if source == target:
        y1, y2 = y1 - HEIGHT / 4, y2 + HEIGHT / 4
    if source.column > target.column:
        x1, x2, out, back = source.x, target.x + target.width, -BULGE, BULGE
    elif source.column < target.column:
        x1, x2, out, back = source.x + source.width, target.x, BULGE, -BULGE
    else:
        x1, x2, out, back = source.x + source.width, target.x + target.width, BULGE, BULGE
    return f"M{x1:.1f} {y1:.1f}C{x1 + out:.1f} {y1:.1f} {x2 + back:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
