"""The closure of each file as a tree: which object needs which, and how each was found."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchlink.report.finding_nodes import Nodes
from torchlink.report.graph_layout import ancestors, edges
from torchlink.report.plain import BOLD, DIM, RED, SEVERITY, brief, paint, totals, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torchlink.lint.finding import ClosureEntry, FileReport, Finding, LintReport
    from torchlink.report.graph_layout import Edges


MISSING = "not found"  # `found_via` of a missing object without further information


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The line characters of a tree, all of one width."""

    branch: str
    last: str
    pass_by: str
    blank: str
    arrow: str


BOX = Glyphs("├── ", "└── ", "│   ", "    ", "→")
ASCII = Glyphs("|-- ", "`-- ", "|   ", "    ", "=>")


def glyphs_for(encoding: str | None) -> Glyphs:
    """Return box-drawing characters if an encoding has them, else ASCII."""
    try:
        f"{BOX.branch}{BOX.last}{BOX.pass_by}{BOX.arrow}".encode(encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return ASCII
    return BOX


def render(
    report: LintReport,
    *,
    glyphs: Glyphs = BOX,
    color: bool = False,
    verbose: bool = False,
    width: int = 100,
) -> str:
    """Return each object below the one that needed it first, with how it was found.

    What else an object needs is listed in one line below it, with `(cycle)` after its own ancestors.

    Args:
        report: what to show.
        glyphs: what `glyphs_for(sys.stdout.encoding)` returns.
        color: write ANSI colours; only for a terminal, and never if NO_COLOR is set.
        verbose: list the directories that were searched below each object.
        width: columns to wrap lists of names at.
    """
    parts: list[str] = []
    for file in report.files:
        tree = _Tree(file, edges(file.closure), glyphs, color, verbose, max(width, 40))
        parts.extend(tree.lines())
        parts.append("")
    parts.append(totals(report))
    return "\n".join(parts) + "\n"


@dataclass(frozen=True, slots=True)
class _Tree:
    """The tree of one file."""

    file: FileReport
    graph: Edges
    glyphs: Glyphs
    color: bool
    verbose: bool
    width: int

    def lines(self) -> Iterator[str]:
        marks = _marks(self.file)
        if self.file.unreadable:
            yield paint(visible(self.file.path), BOLD, color=self.color)
            yield from (f"could not be checked: {visible(sentence)}" for sentence in self.file.not_checked)
            return
        yield from self.nodes(marks)
        yield from (f"assumed: {visible(sentence)}" for sentence in self.file.assumed)

    def nodes(self, marks: Mapping[str, Sequence[Finding]]) -> Iterator[str]:
        """Return the lines of the tree itself."""
        if not self.graph.roots:
            yield f"{paint(visible(self.file.path), BOLD, color=self.color)} ({visible(self.file.kind)})"
        # A stack, not recursion: a chain of a thousand libraries must not raise RecursionError.
        stack = [(key, "", "") for key in reversed(self.graph.roots)]
        while stack:
            key, stem, below = stack.pop()
            entry = self.graph.entries[key]
            yield stem + self.label(entry, marks)
            children = self.graph.loads[key]
            repeats = self.graph.repeats[key]
            if self.verbose:
                bar = self.glyphs.pass_by if children or repeats else self.glyphs.blank
                for number, place in enumerate(entry.searched, 1):
                    yield below + bar + paint(f"{number}. {visible(place)}", DIM, color=self.color)
            yield from self.repeated(key, repeats, below, bool(children))
            for index, child in enumerate(reversed(children)):
                stroke = self.glyphs.last if index == 0 else self.glyphs.branch
                rest = self.glyphs.blank if index == 0 else self.glyphs.pass_by
                stack.append((child, below + stroke, below + rest))

    def label(self, entry: ClosureEntry, marks: Mapping[str, Sequence[Finding]]) -> str:
        """Return `name → path [how]`, and the rules with findings about it."""
        name = visible(entry.name)
        found_via = visible(entry.found_via if self.verbose else brief(entry.found_via))
        found_via = paint(f"[{found_via}]", DIM, color=self.color)
        if entry.path is None:
            text = f"{name} {self.glyphs.arrow} {paint('NOT FOUND', RED, color=self.color)}"
        elif entry.key in self.graph.roots:
            text, found_via = (
                paint(visible(entry.path), BOLD, color=self.color),
                f"({visible(self.file.kind)})",
            )
        elif entry.path == entry.name:
            text = name
        else:
            text = f"{name} {self.glyphs.arrow} {visible(entry.path)}"
        found = " ".join(
            paint(f"<{f.severity.value}: {visible(f.rule)}>", SEVERITY[f.severity], color=self.color)
            for f in marks.get(entry.key, ())
        )
        redundant = entry.path is None and entry.found_via == MISSING
        return " ".join(part for part in (text, "" if redundant else found_via, found) if part)

    def repeated(self, key: str, repeats: Sequence[str], below: str, more: bool) -> Iterator[str]:
        """Return one wrapped line with the objects that this one needs and that another loaded before."""
        if not repeats:
            return
        above = ancestors(key, self.graph)
        names = [
            visible(self.graph.entries[child].name) + (" (cycle)" if child in above else "")
            for child in repeats
        ]
        stroke = self.glyphs.branch if more else self.glyphs.last
        rest = self.glyphs.pass_by if more else self.glyphs.blank
        wrapped = textwrap.wrap(
            "already loaded: " + ", ".join(name.replace(" ", "\0") for name in names),
            max(self.width - len(below + stroke), 40),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for index, line in enumerate(wrapped):
            text = paint(line.replace("\0", " "), DIM, color=self.color)
            yield below + (stroke if index == 0 else rest) + text


def _marks(file: FileReport) -> dict[str, list[Finding]]:
    """Return the findings about each closure entry."""
    nodes = Nodes(file)
    marks: dict[str, list[Finding]] = {}
    for finding in file.findings:
        for key in nodes.of(finding):
            marks.setdefault(key, []).append(finding)
    return marks
