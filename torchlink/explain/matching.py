"""Searching a log for the patterns of an index.

The first pass finds out which matches are possible at all, by the rarest pattern of each; the second collects the lines
of these, and is not needed for most logs. Only lines that contain certain words are searched with regular
expressions, which are compiled when they are first needed. Long lines are searched in a window around the word: no
expression sees more than `WINDOW` characters.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from string import ascii_lowercase, ascii_uppercase
from typing import TYPE_CHECKING

from torchlink.explain.lines import SEPARATOR, Line, Replay, without_prefix
from torchlink.explain.literals import DELIMITERS, folded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torchlink.explain.index import Index, Match, Words
    from torchlink.explain.lines import Block, Gap, Stream

    Places = tuple[tuple[int, tuple[bytes, ...]], ...]  # texts, by how far before a word they begin
    # A pattern, where its texts are around the word, and sets of texts of which its line contains one each.
    Trial = tuple[int, Places, tuple[tuple[bytes, ...], ...]]

WINDOW = 8192  # characters of a line that an expression is searched in
MOST_KNOWN = 100_000  # words that are remembered
FEW_TEXTS = 6  # are searched for themselves, instead of the places of their word
MOST_TOKENS = 16 << 20  # bytes of them that are kept
MOST_WINDOWS = 8  # of one line and word
BEFORE = 2048  # of these, before the word
MOST_HITS = 200  # lines that are kept of each pattern
MOST_TRIED = 2000  # hits whose neighbours are searched
MOST_NEAR = 5  # results that are kept of each match with neighbours
END = 1 << 16  # bytes at the beginning and the end of a log that show what it is of
FARTHEST = 100  # lines, the largest `within`
# For words: all that separates them becomes a space.
_SPACES = bytes.maketrans(DELIMITERS.encode() + bytes(range(128, 256)), b" " * (len(DELIMITERS) + 128))
_FOLD = bytes.maketrans(ascii_uppercase.encode() + b"\\", ascii_lowercase.encode() + b"/")
_BREAKS = re.compile(f"[\n{SEPARATOR.decode()}]")


class Search:
    """The hits of an index's patterns in one log."""

    def __init__(self, index: Index, name: str) -> None:
        self.index = index
        self.name = name
        self.hits: dict[int, list[Line]] = {}
        self.near: dict[Match, list[list[Line]]] = {}  # matches with `within`
        self.count = 0  # lines searched
        self.gaps: tuple[Gap, ...] = ()  # what was not
        self._ends: list[bytes] = []  # what the log begins and ends with
        self._compiled: dict[int, re.Pattern[str]] = {}
        self._tried: dict[int, int] = {}
        self._anchored: dict[int, list[Match]] = {}
        self._tokens = _Tokens()

    def run(self, stream: Stream) -> None:
        """Search the whole log.

        Raises:
            FileError: it is not a text.
        """
        with Replay(stream, self.name) as log:
            self._scan(log.blocks(), self.index.tokens, self.index.parts, self._sign)
            self.gaps = tuple(log.gaps)
            self.count -= sum(max(gap.last - gap.first - 1, 0) for gap in self.gaps if gap.last is not None)
            possible = [
                match for entry in self.index.entries for match in entry.matches if match.trigger in self.hits
            ]
            alone = {
                number
                for match in possible
                if match.within is None
                for number in (*match.lines, *match.without)
            }
            for match in possible:
                if match.within is not None:
                    self._anchored.setdefault(match.lines[0], []).append(match)
            wanted = alone | {*self._anchored}
            for number in wanted:
                self.hits.pop(number, None)
            if wanted:
                texts = {number: self.index.patterns[number].texts[0] for number in wanted}
                parts: dict[str, list[tuple[int, tuple[str, ...]]]] = {}
                for number, each in texts.items():
                    for text in each:
                        parts.setdefault(text, []).append((number, (text,)))
                words = tuple((text, tuple(found)) for text, found in parts.items())
                self._scan(log.again(), (), words, self._collect)
        for found in self.hits.values():
            found.sort(key=lambda line: line.number)

    def shows(self, pattern: int) -> bool:
        """Whether the beginning or the end of the log contains a pattern, at least in one line."""
        found = self._expression(pattern)
        return any(map(found.search, self.surroundings()))

    def surroundings(self) -> Iterator[str]:
        """Yield the lines at the end of the log, and those at its beginning."""
        for end in reversed(self._ends):
            for line in end.decode("utf-8", "replace").splitlines():
                yield without_prefix(line[:WINDOW])

    def _scan(
        self,
        following: Iterator[Block],
        tokens: Words,
        parts: Words,
        take: Callable[[int, _View, int, str], bool],
    ) -> None:
        """Give the lines with a match of the patterns that words lead to, to `take`, until it returns True."""
        whole = {word.encode(): self._trials(word.encode(), numbers) for word, numbers in tokens}
        # The longest piece of a part that is in one word is searched for in the words that are new, until it has
        # been found once; only then the part is.
        some = [
            (
                word.encode(),
                self._trials(word.encode(), numbers),
                max(word.encode().translate(_SPACES).split(), key=len, default=b""),
            )
            for word, numbers in parts
        ]
        seen: set[int] = set()
        known: set[bytes] = set()
        done: set[int] = set()
        before: Block | None = None
        block = next(following, None)
        first = not self._ends
        while block is not None:
            after = next(following, None)
            view = _View(block, None if block.gap else before, None if after is None or after.gap else after)
            fresh = view.lowered
            if whole:
                spaced = b" " + view.lowered.translate(_SPACES)
                words = set(spaced.split())
                fresh = b" ".join(words - known)
                self._tokens.add(fresh)
                if len(known) > MOST_KNOWN:
                    known.clear()
                known |= words
                for word in whole.keys() & words:
                    self._word((b" %b " % word, spaced), whole[word], view, take, done)
                    if not whole[word]:
                        del whole[word]
            for number, (word, trials, piece) in enumerate(some):
                if trials and (number in seen or piece in fresh):
                    seen.add(number)
                    self._word((word, view.lowered), trials, view, take, done)
            if first:
                self._note(block, is_first=before is None, is_last=after is None)
            elif not whole and not any(trials for _, trials, _ in some):
                return
            before, block = block, after

    def _note(self, block: Block, *, is_first: bool, is_last: bool) -> None:
        """Count the lines of a block, and keep the beginning and the end of the log."""
        self.count = block.first + block.data.count(b"\n") - 1
        if is_first or is_last:
            self._ends.append(block.data[:END] if is_first else block.data[-END:])

    def _trials(self, word: bytes, patterns: Iterable[tuple[int, tuple[str, ...]]]) -> list[Trial]:
        return [
            (
                number,
                _places(word, texts),
                tuple(
                    tuple(text.encode() for text in some)
                    for some in (texts, *self.index.patterns[number].texts[1:])
                ),
            )
            for number, texts in patterns
        ]

    def _word(
        self,
        wanted: tuple[bytes, bytes],
        trials: list[Trial],
        view: _View,
        take: Callable[[int, _View, int, str], bool],
        done: set[int],
    ) -> None:
        """Try patterns on the lines of a block that contain a word; remove those that `take` has enough of.

        Most of the places of a word have none of the texts around it: these are left quickly.
        """
        _drop(trials, done)  # through other words, too
        likely = [trial for trial in trials if self._tokens.has_all(trial[2])]
        word, where = wanted
        lowered, find = view.lowered, where.find
        anything = _joined(likely)
        at = find(word) if _may_have(lowered, anything) else -1
        windows = 0  # of one long line
        start = end = -1
        text = ""
        tried: set[int] = set()  # in this line, or window
        while at >= 0:
            if not _is_around(lowered, at, anything):
                at = find(word, at + 1)
                continue
            if at >= end:
                start, end = view.line(at)
                windows = windows + 1 if end - start >= WINDOW else 0
                text = ""
                tried.clear()
            if windows > MOST_WINDOWS:
                windows, end = 0, view.end(end)
                at = find(word, end)
                continue
            fitting = _fitting(likely, lowered, at, lowered[start:end], tried)
            if fitting:
                text = text or view.text(start, end)
            enough = False
            for number in fitting:
                if (
                    number not in done
                    and self._expression(number).search(text)
                    and take(number, view, at, text)
                ):
                    done.add(number)
                    enough = True
            if enough:
                _drop(likely, done)
                anything = _joined(likely)
            at = find(word, at + 1) if likely else -1
        _drop(trials, done)

    def _expression(self, number: int) -> re.Pattern[str]:
        found = self._compiled.get(number)
        if found is None:
            found = self._compiled[number] = re.compile(self.index.patterns[number].expression)
        return found

    def _sign(self, number: int, view: _View, at: int, text: str) -> bool:
        """Keep the first hit of a pattern."""
        self.hits[number] = [Line(self.name, view.number(at), text)]
        return True

    def _collect(self, number: int, view: _View, at: int, text: str) -> bool:
        """Keep a hit, unless there are enough."""
        line = Line(self.name, view.number(at), text)
        found = self.hits.setdefault(number, [])
        if len(found) < MOST_HITS and not (found and found[-1].number == line.number):
            found.append(line)
        anchored = self._anchored.get(number, ())
        for match in anchored:
            near = self.near.setdefault(match, [])
            if len(near) < MOST_NEAR:
                evidence = self._neighbours(match, line, view, at)
                if evidence:
                    near.append(evidence)
        tried = self._tried[number] = self._tried.get(number, 0) + 1
        enough = tried >= MOST_TRIED or all(len(self.near[match]) >= MOST_NEAR for match in anchored)
        return enough and len(found) >= MOST_HITS

    def _neighbours(self, match: Match, line: Line, view: _View, at: int) -> list[Line]:
        """Return the evidence for a match with `within` around a hit of its first pattern, or nothing."""
        near = list(view.around(at, min(match.within or 0, FARTHEST), self.name))
        if any(self._searched(number, each.text) for number in match.without for each in near):
            return []
        evidence = [line]
        for number in match.lines[1:]:
            found = next((each for each in near if self._searched(number, each.text)), None)
            if found is None:
                return []
            evidence.append(found)
        return evidence

    def _searched(self, number: int, text: str) -> bool:
        lowered = folded(text)
        return all(
            any(each in lowered for each in some) for some in self.index.patterns[number].texts
        ) and bool(self._expression(number).search(text))


class _Tokens:
    """The distinct tokens of a log so far: they rule out most patterns before any line is searched."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._first = 0  # the number of the first chunk that is kept
        self._size = 0
        self._seen: set[bytes] = set()  # looked for and found
        self._next: dict[bytes, int] = {}  # word -> the first chunk that was not searched for it
        self._words: dict[bytes, list[bytes]] = {}  # of a text, the longest first

    def add(self, words: bytes) -> None:
        """Add those that are new in a block."""
        self._chunks.append(words)
        self._size += len(words)
        while self._size > MOST_TOKENS and len(self._chunks) > 1:
            self._size -= len(self._chunks.pop(0))
            self._first += 1

    def has_all(self, sets: tuple[tuple[bytes, ...], ...]) -> bool:
        """Whether one text of each set may have occurred."""
        return all(any(map(self._has, some)) for some in sets)

    def _has(self, text: bytes) -> bool:
        words = self._words.get(text)
        if words is None:
            words = self._words[text] = sorted(text.translate(_SPACES).split(), key=len, reverse=True)
        return all(word in self._seen or self._occurs(word) for word in words)

    def _occurs(self, word: bytes) -> bool:
        """Search the tokens that were added since the last time."""
        begin = self._next.get(word, 0) - self._first
        # What was dropped before it was searched may contain it.
        if begin < 0 or any(word in chunk for chunk in self._chunks[begin:]):
            self._seen.add(word)
            return True
        self._next[word] = self._first + len(self._chunks)
        return False


def _drop(trials: list[Trial], done: set[int]) -> None:
    """Remove the patterns that there are enough hits of."""
    if done:
        trials[:] = [trial for trial in trials if trial[0] not in done]


def _places(word: bytes, texts: Iterable[str]) -> Places:
    """Return where texts begin that contain a word, or a word without its prefix: see `literals.whole_words`."""
    found: dict[int, list[bytes]] = {}
    for text in texts:
        raw = text.encode()
        at = (b" " + raw.translate(_SPACES)).find(b" %b " % word)  # as a whole word, if it is one
        if at < 0:
            at = raw.find(word)
        if at < 0:
            at = len(raw.translate(_SPACES).partition(b" ")[0]) - len(word)
        found.setdefault(at, []).append(raw)
    return tuple((before, tuple(each)) for before, each in found.items())


def _joined(trials: Iterable[Trial]) -> Places:
    """Return the texts of all patterns."""
    found: dict[int, dict[bytes, None]] = {}
    for _, places, _ in trials:
        for before, texts in places:
            found.setdefault(before, {}).update(dict.fromkeys(texts))
    return tuple((before, tuple(texts)) for before, texts in found.items())


def _is_around(lowered: bytes, at: int, places: Places) -> bool:
    """Whether one of some texts is around a position."""
    for before, texts in places:  # noqa: SIM110 - generators take three times as long
        if at >= before and lowered.startswith(texts, at - before):
            return True
    return False


def _may_have(lowered: bytes, places: Places) -> bool:
    """Whether a block has one of some texts, if these are few."""
    texts = [text for _, each in places for text in each]
    return len(texts) > FEW_TEXTS or any(map(lowered.__contains__, texts))


def _fitting(trials: Iterable[Trial], lowered: bytes, at: int, line: bytes, tried: set[int]) -> list[int]:
    """Return the patterns that have their texts around a position, and the others in its line; add those to `tried`."""
    found = []
    for number, places, sets in trials:
        if number not in tried and _is_around(lowered, at, places):
            tried.add(number)
            if _has_all(line, sets[1:]):
                found.append(number)
    return found


def _has_all(line: bytes, sets: tuple[tuple[bytes, ...], ...]) -> bool:
    """Whether a line contains one text of each set; loops, as generators take three times as long."""
    for some in sets:
        for each in some:
            if each in line:
                break
        else:
            return False
    return True


class _View:
    """A block, with what is before and after it."""

    def __init__(self, block: Block, before: Block | None, after: Block | None) -> None:
        self.block, self.before, self.after = block, before, after
        self.lowered = block.data.translate(_FOLD)  # of the same length
        self._breaks = SEPARATOR in block.data
        self._newlines: list[int] = []

    def line(self, at: int) -> tuple[int, int]:
        """Return the limits of the line at a position; of a long one, those of a window."""
        data = self.block.data
        start = data.rfind(b"\n", max(at - BEFORE, 0), at) + 1 or max(at - BEFORE, 0)
        end = data.find(b"\n", at, start + WINDOW)
        end = min(start + WINDOW, len(data)) if end < 0 else end
        if self._breaks:
            start = max(start, data.rfind(SEPARATOR, start, at) + 1)
            cut = data.find(SEPARATOR, at, end)
            end = end if cut < 0 else cut
        return start, end

    def end(self, at: int) -> int:
        """Return where the line at a position ends, however long it is."""
        end = self.block.data.find(b"\n", at)
        return len(self.block.data) if end < 0 else end

    def text(self, start: int, end: int) -> str:
        """Return a part of a line as text."""
        return without_prefix(self.block.data[start:end].decode("utf-8", "backslashreplace"))

    def number(self, at: int) -> int:
        """Return the number of the line at a position."""
        if not self._newlines:
            self._newlines = [found.start() for found in re.finditer(b"\n", self.block.data)]
        return self.block.first + bisect_right(self._newlines, at - 1)

    def around(self, at: int, count: int, name: str) -> Iterator[Line]:
        """Yield the lines up to `count` before and after the one at a position, and itself."""
        data, number, start = self.block.data, self.number(at), at
        reach = count * WINDOW
        for _ in range(count + 1):
            start = data.rfind(b"\n", 0, max(start, 0))
            if start < 0:
                break
        head = b""
        missing = count - data.count(b"\n", 0, at)
        if missing > 0 and self.before is not None:
            head = b"\n".join(self.before.data[-reach - 1 : -1].split(b"\n")[-missing:]) + b"\n"
        end = at
        for _ in range(count + 1):
            end = data.find(b"\n", end) + 1
            if not end:
                break
        tail = b""
        missing = count - data.count(b"\n", at) + 1
        if missing > 0 and self.after is not None:
            tail = b"\n".join(self.after.data[: reach + 1].split(b"\n")[:missing])
        own = data[start + 1 : end or len(data)]
        first = number - data.count(b"\n", start + 1, at) - head.count(b"\n")
        for offset, raw in enumerate((head + own + tail).split(b"\n")):
            text = raw[:WINDOW].decode("utf-8", "backslashreplace")
            for part in _BREAKS.split(text):
                if part:
                    yield Line(name, first + offset, without_prefix(part))
