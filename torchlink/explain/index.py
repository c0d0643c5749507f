"""The index of all causes: their patterns, and the words by which a line that may match is found fast.

Parsing all files takes longer than most logs, so the index is kept in the cache; it is made anew when a file of a cause
has changed. Of a cause that is named, the file itself is read.
"""

from __future__ import annotations

import json
import os
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from torchlink.bounds import first_bytes, load_json
from torchlink.errors import FileError
from torchlink.explain import causes as all_causes
from torchlink.explain.recognised import CONTEXTS, KINDS, LIBTORCH
from torchlink.paths import distrust, kept_in, made_in

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torchlink.explain.literals import Words as Required

CACHED = "causes"  # the kind of entries in the cache
FORM = 10  # increment it whenever what is stored changes
LARGEST = 8 << 20
TICK = 3_000_000_000  # nanoseconds, more than any file system's clock takes
MOST_SETS = 4
_PART = re.compile(r"[a-z0-9_]{4,}")


class Match(NamedTuple):
    """A match of a cause; patterns are numbers."""

    certainty: str
    lines: tuple[int, ...]
    without: tuple[int, ...]
    within: int | None
    check: str | None
    trigger: int  # the one of `lines` that is searched for first; the others only where it is found


class Entry(NamedTuple):
    """What the index holds of a cause."""

    id: str
    stage: int
    hides: tuple[str, ...]
    matches: tuple[Match, ...]
    place: str  # the directory of its file


class Pattern(NamedTuple):
    """A regular expression, and sets of texts: a line with a match contains one of each; the rarest set is first."""

    expression: str
    texts: tuple[tuple[str, ...], ...]


# A word -> the patterns to try on a line with it, and for each the texts that it was chosen for.
Words = tuple[tuple[str, tuple[tuple[int, tuple[str, ...]], ...]], ...]


class Index(NamedTuple):
    """All patterns, and the words that lead to those which are searched for first."""

    patterns: tuple[Pattern, ...]
    tokens: Words  # whole words
    parts: Words  # parts of a line
    entries: tuple[Entry, ...]
    contexts: dict[str, int]  # name of a build system -> its pattern
    kinds: tuple[int, ...]  # the patterns of `recognised.KINDS`
    libtorch: int


def load(places: Sequence[Path]) -> Index:
    """Return the index of the causes in some directories; a cause in a later one replaces one of the same id.

    Raises:
        FileError: a file is not a cause.
    """
    state = [(str(place), _state(place)) for place in places]
    signs = [[kind.pattern for kind in KINDS], CONTEXTS, LIBTORCH]
    key = json.dumps([FORM, state, signs])
    file = kept_in(CACHED) / "index.json"
    cached = _read(file, key)
    if cached is not None:
        return cached
    index = build(places)
    _write(key, index)
    return index


def _state(place: Path) -> list[tuple[str, int, int, int, int]]:
    """Return what changes when a file in a directory does.

    Two changes within a tick of the file system's clock have the same time: of a file which was changed just now, or in
    the future, the contents count, too.
    """
    found = []
    settled = time.time_ns() - TICK
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.name.endswith(all_causes.SUFFIX):
                    status = entry.stat()
                    times = (status.st_mtime_ns, status.st_ctime_ns)
                    contents = _checksum(entry.path) if max(times) >= settled else 0
                    found.append((entry.name, status.st_size, *times, contents))
    except OSError as error:
        raise FileError(
            f"Cannot read {place}: {error.strerror}.", hint="Name a directory of causes."
        ) from error
    return sorted(found)


def _checksum(path: str) -> int:
    """Return a number for the contents of a file; 0 if it cannot be read, which `build` reports."""
    import zlib

    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a plain string
            return zlib.crc32(file.read(all_causes.LARGEST))
    except OSError:
        return 0


def _read(file: Path, key: str) -> Index | None:
    """Return the index in the cache if it is the one of this key."""
    try:
        if distrust(file) is not None:
            return None
        stored = load_json(first_bytes(file, LARGEST), LARGEST)
        return _from_json(stored["index"]) if stored["key"] == key else None
    except (OSError, FileError, ValueError, TypeError, KeyError, AttributeError, IndexError):
        return None


def _write(key: str, index: Index) -> None:
    """Store the index; a cache that cannot be written costs time only."""
    from torchlink.atomic import write_file

    try:
        place = made_in(CACHED)
        write_file(place / "index.json", json.dumps({"key": key, "index": index}).encode())
    except (OSError, FileError):
        pass


def _from_json(stored: Any) -> Index:
    patterns, tokens, parts, entries, contexts, kinds, libtorch = stored
    return Index(
        tuple(Pattern(expression, tuple(map(tuple, texts))) for expression, texts in patterns),
        _words_from_json(tokens, len(patterns)),
        _words_from_json(parts, len(patterns)),
        tuple(
            Entry(
                name,
                stage,
                tuple(hides),
                tuple(
                    Match(certainty, tuple(lines), tuple(without), within, check, trigger)
                    for certainty, lines, without, within, check, trigger in matches
                ),
                place,
            )
            for name, stage, hides, matches, place in entries
        ),
        dict(contexts),
        tuple(kinds),
        libtorch,
    )


def _words_from_json(stored: Any, count: int) -> Words:
    words = tuple(
        (str(word), tuple((number, tuple(texts)) for number, texts in patterns)) for word, patterns in stored
    )
    if not all(0 <= number < count for _, patterns in words for number, _ in patterns):
        raise ValueError("a pattern is missing")
    return words


def build(places: Sequence[Path]) -> Index:
    """Make the index from the files.

    Raises:
        FileError: a file is not a cause.
    """
    from torchlink.explain.literals import effort, required_words

    where: dict[str, Path] = {}
    for place in places:
        where |= dict.fromkeys(all_causes.ids(place), place)
    patterns: dict[str, int] = {}
    needs: list[list[Required]] = []

    def number(pattern: str) -> int:
        if pattern not in patterns:
            patterns[pattern] = len(patterns)
            needs.append((required_words(pattern) or [])[:MOST_SETS])
        return patterns[pattern]

    entries = []
    for name, place in sorted(where.items()):
        cause = all_causes.load(name, place)
        matches = []
        for match in cause.matches:
            lines = tuple(map(number, match.lines))
            without = tuple(map(number, match.without))
            weights = {
                at: needs[at][0].cost + effort(line) for at, line in zip(lines, match.lines, strict=True)
            }
            trigger = min(weights, key=lambda at: (weights[at], at))
            matches.append(Match(match.certainty, lines, without, match.within, match.check, trigger))
        stage = all_causes.STAGES.index(cause.stage)
        entries.append(Entry(name, stage, cause.hides, tuple(matches), str(place)))
    contexts = {name: number(pattern) for name, pattern in CONTEXTS.items()}
    kinds = tuple(number(kind.pattern) for kind in KINDS)
    libtorch = number(LIBTORCH)
    first = {match.trigger for entry in entries for match in entry.matches} | {*kinds, libtorch}
    tokens, parts = words_of({at: needs[at][0].marked for at in sorted(first)})
    return Index(
        tuple(
            Pattern(pattern, tuple(words.texts for words in needs[at])) for pattern, at in patterns.items()
        ),
        tokens,
        parts,
        tuple(entries),
        contexts,
        kinds,
        libtorch,
    )


def words_of(wanted: dict[int, tuple[str, ...]]) -> tuple[Words, Words]:
    """Return the whole words, and the parts of lines, that lead to patterns.

    Args:
        wanted: patterns, with the (marked) texts of which each needs one.
    """
    from torchlink.explain.literals import EDGE, whole_words

    tokens: dict[str, dict[int, list[str]]] = {}
    rest: dict[str, set[int]] = {}
    for at, each in wanted.items():
        for marked in each:
            text, words = marked.removeprefix(EDGE), whole_words(marked)
            for word in words:
                tokens.setdefault(word, {}).setdefault(at, []).append(text)
            if not words:
                rest.setdefault(text, set()).add(at)
    return _sorted(tokens), _sorted(_cover(rest))


def _sorted(found: dict[str, dict[int, list[str]]]) -> Words:
    return tuple(
        (word, tuple((at, tuple(texts)) for at, texts in sorted(patterns.items())))
        for word, patterns in sorted(found.items())
    )


def _cover(texts: dict[str, set[int]]) -> dict[str, dict[int, list[str]]]:
    """Choose few parts such that each text contains one of them, which leads to its patterns."""
    from torchlink.explain.literals import cost

    covers: dict[str, set[str]] = {}  # a candidate -> the texts that contain it
    for text in texts:
        for part in {text, *_PART.findall(text)}:
            covers[part] = {other for other in texts if part in other}
    chosen: dict[str, dict[int, list[str]]] = {}
    left = set(texts)
    while left:
        best = max(covers, key=lambda part: (len(covers[part] & left) / cost(part), len(part), part))
        taken = covers.pop(best) & left
        found = chosen[best] = {}
        for text in sorted(taken):
            for at in texts[text]:
                found.setdefault(at, []).append(text)
        left -= taken
    return chosen
