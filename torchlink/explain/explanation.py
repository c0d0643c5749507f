"""What a log shows: its causes in the order in which to fix them, or what else was recognised."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from torchlink.errors import FileError
from torchlink.explain import causes as all_causes
from torchlink.explain.choice import chosen, preloads_the_same
from torchlink.explain.expressions import Expression
from torchlink.explain.index import load
from torchlink.explain.matching import Search
from torchlink.explain.placeholders import PLACEHOLDER, command, filled

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torchlink.explain.causes import Cause
    from torchlink.explain.index import Entry, Index, Match
    from torchlink.explain.lines import Gap, Line, Stream

MOST_EVIDENCE = 5  # lines that are shown of each cause
# Where in a file: "main.cpp:3:10:", "main.cpp(3,10):", "main.o:main.cpp:(.text+0x1f):"; GCC's " 27 | ".
_PLACE = Expression(
    r"^\s*\d+\s+\|\s|(?<!\S)(?:[A-Za-z]:)?(?:[^\s:()]+:){1,2}(?:\d+(?::\d+)?|\([.\w]+\+0x[0-9a-f]+\)):?(?!\S)"
    r"|(?<!\S)[^\s()]+\(\d+(?:,\d+)?\)\s?:?(?!\S)"
)


class Facts(Protocol):
    """What is asked of this machine; made by `facts.MachineFacts`, None with --no-machine-facts."""

    def about(self, hits: Sequence[str], others: Sequence[str]) -> None:
        """Learn which machine and which libtorch the logs are about.

        Args:
            hits: the lines that match any pattern.
            others: the lines at the ends of the logs.
        """

    def settled(self, cause: str, certainty: str, lines: Sequence[Line]) -> tuple[str, str]:
        """Return the cause and the certainty that this machine's files show in place of what the text says."""

    def holds(self, check: str, lines: Sequence[Line]) -> bool | None:
        """Whether a named check holds of the lines that match; None: it cannot be told here."""

    def values(self, cause: str, lines: Sequence[Line]) -> Mapping[str, str]:
        """Return the values of placeholders in the fixes of a cause."""

    def repeats(self, command: str) -> bool:
        """Whether a fix is the command that has just failed."""

    def for_interpreter(self, command: str) -> str:
        """Return a command with the interpreter that has failed, if one has."""

    def notes(self, cause: str, lines: Sequence[Line], *, replaced: bool) -> tuple[str, ...]:
        """Return sentences on what this machine says about a cause.

        Args:
            cause: its id.
            lines: those that carry it.
            replaced: whether its fixes show values of this machine.
        """


class FoundFix(NamedTuple):
    """A fix with its placeholders replaced."""

    target: str
    text: str
    command: str


class Found(NamedTuple):
    """A cause that the log shows."""

    cause: Cause
    certainty: str
    evidence: tuple[Line, ...]
    more: int  # further lines of the same kind
    fixes: tuple[FoundFix, ...]  # those of the log's build system first
    fitting: int  # how many of these are for the log's build system
    notes: tuple[str, ...] = ()
    page: str | None = None  # the name of its page; a project's own causes have none


class Recognised(NamedTuple):
    """Something that was recognised in a log without a cause."""

    what: str
    evidence: Line
    next: tuple[str, ...]


class Explanation(NamedTuple):
    """What some logs show."""

    causes: tuple[Found, ...]
    recognised: tuple[Recognised, ...]
    libtorch: bool  # whether there is anything about libtorch at all
    lines: int  # how many were searched
    gaps: tuple[Gap, ...] = ()  # those that were not


def explain(
    logs: Iterable[tuple[str, Stream]],
    facts: Facts | None = None,
    places: Sequence[Path] | None = None,
    failed: list[FileError] | None = None,
) -> Explanation:
    """Explain logs.

    Args:
        logs: their names and contents.
        facts: of this machine; None: the text alone decides.
        places: directories of causes; None: torchlink's own.
        failed: gets the errors of logs that are not texts; the others are explained.

    Raises:
        FileError: a log is not a text, and `failed` is None; or a file of a cause is none.
    """
    index = load([all_causes.directory()] if places is None else places)
    searches = []
    for name, stream in logs:
        search = Search(index, name)
        try:
            search.run(stream)
        except FileError as error:
            if failed is None:
                raise
            failed.append(error)
            continue
        searches.append(search)
    return judge(index, searches, facts)


class _Named(NamedTuple):
    """A cause that holds, and why."""

    entry: Entry
    certainty: str
    first: tuple[int, int]  # which log, which line
    lines: tuple[Line, ...]  # the evidence first


def judge(index: Index, searches: Sequence[Search], facts: Facts | None) -> Explanation:
    """Name the causes that the hits carry."""
    if facts is not None:
        hits = [line.text for search in searches for lines in search.hits.values() for line in lines]
        facts.about(hits, [text for search in searches for text in search.surroundings()])
    named = [found for entry in index.entries if (found := _named(entry, searches, facts)) is not None]
    if facts is not None:
        named = _settled(named, index, facts)
    hidden = {name for found in named for name in found.entry.hides}
    left = sorted(
        (found for found in named if found.entry.id not in hidden),
        key=lambda found: (found.entry.stage, found.first),
    )
    contexts = {
        name
        for name, number in (index.contexts.items() if left else ())
        if any(search.shows(number) for search in searches)
    }
    return Explanation(
        tuple(_found(found, contexts, facts) for found in left),
        _recognised(index, searches, facts),
        libtorch=bool(named) or any(index.libtorch in search.hits for search in searches),
        lines=sum(search.count for search in searches),
        gaps=tuple(gap for search in searches for gap in search.gaps),
    )


def _named(entry: Entry, searches: Sequence[Search], facts: Facts | None) -> _Named | None:
    """Return the evidence for a cause in all logs, the most certain first; None: it is not carried."""
    best: _Named | None = None
    for match in entry.matches:
        if best is not None and match.certainty in {best.certainty, "likely"}:
            continue
        lines = [line for search in searches for line in _lines(match, search)]
        if not lines or (match.check is not None and (facts is None or not facts.holds(match.check, lines))):
            continue
        files = [search.name for search in searches]
        first = min((files.index(line.file), line.number) for line in lines)
        best = _Named(entry, match.certainty, first, tuple(lines))
    return best


def _settled(named: Sequence[_Named], index: Index, facts: Facts) -> list[_Named]:
    """Return the causes that this machine's files show in place of some that the text shows."""
    entries = {entry.id: entry for entry in index.entries}
    found: dict[str, _Named] = {}
    for each in named:
        name, certainty = facts.settled(each.entry.id, each.certainty, each.lines)
        settled = each
        if name in entries:  # a directory of causes need not have all
            settled = each._replace(entry=entries[name], certainty=certainty)
        known = found.get(settled.entry.id)
        if known is None or (known.certainty, known.first) > (settled.certainty, settled.first):
            found[settled.entry.id] = settled
    return list(found.values())


def _lines(match: Match, search: Search) -> list[Line]:
    """Return the lines of one log that carry a match, in order of their weight; none: it does not hold."""
    if match.within is not None:
        return [line for lines in search.near.get(match, ()) for line in lines]
    if any(number in search.hits for number in match.without):
        return []
    hits = [search.hits.get(number, []) for number in match.lines]
    if not all(hits):
        return []
    # One line of each pattern, then the rest.
    return [*(lines[0] for lines in hits), *(line for lines in hits for line in lines[1:])]


def _found(named: _Named, contexts: set[str], facts: Facts | None) -> Found:
    cause = all_causes.load(named.entry.id, Path(named.entry.place), indexed=True)
    different = list(dict.fromkeys(named.lines))
    shown = sorted(_unlike(different)[:MOST_EVIDENCE], key=lambda line: (line.file, line.number))
    values = facts.values(cause.id, named.lines) if facts is not None else {}
    fixes = [
        FoundFix(fix.target, filled(fix.text, values), command(fix.command, fix.target, values))
        for fix in cause.fixes
    ]
    texts = [line.text for line in named.lines]
    fixes = [
        fix
        for fix in fixes
        if not (facts is not None and facts.repeats(fix.command))
        and not preloads_the_same(fix.command, texts)
    ]
    own, others = chosen(cause, fixes, contexts, texts)
    replaced = any(PLACEHOLDER.search(fix.command) for fix in cause.fixes)
    notes = facts.notes(cause.id, named.lines, replaced=replaced) if facts is not None else ()
    return Found(
        cause,
        named.certainty,
        tuple(shown),
        len(different) - len(shown),
        (*own, *others),
        len(own),
        notes,
        f"causes/{cause.id}" if Path(named.entry.place) == all_causes.directory() else None,
    )


def _unlike(lines: Iterable[Line]) -> list[Line]:
    """Leave out the lines that say the same as one before, such as at another place in the sources."""
    found: list[Line] = []
    said: list[tuple[str, str]] = []
    for line in lines:
        text = _PLACE.sub("", line.text).strip()
        if text and any(line.file == file and text in other for file, other in said):
            continue
        said.append((line.file, text))
        found.append(line)
    return found


def _recognised(index: Index, searches: Sequence[Search], facts: Facts | None) -> tuple[Recognised, ...]:
    """Return the kinds of errors in the logs."""
    from torchlink.explain.recognised import KINDS

    found = []
    for kind, number in zip(KINDS, index.kinds, strict=True):
        lines = [line for search in searches for line in search.hits.get(number, ())]
        if lines:
            next_ = kind.next if facts is None else tuple(map(facts.for_interpreter, kind.next))
            found.append(Recognised(kind.what, lines[0], next_))
    return tuple(found)
