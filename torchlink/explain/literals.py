"""Which words every match of a regular expression contains: a line without them need not be searched."""

from __future__ import annotations

import importlib
import re
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SHORTEST = 3
MOST = 16  # texts of one place
FEW = 4  # characters of a set
MOST_ROUNDS = 3  # sets of an alternation
ASCII = 128
# What separates the words of a line. A path is one word: a line of a build has many paths, and few words.
# Case and the direction of slashes do not count either.
DELIMITERS = " \t\n\r\x1e'\"`:,;()[]<>{}!*#|=&?"
_SPACES = str.maketrans(DELIMITERS, " " * len(DELIMITERS))
_REPETITIONS = re.compile(r"(?<!\\)[*+]|\{\d*,\}")
_PARTS = re.compile(r"[a-z0-9_]+")
# Marks the beginning of a text before which a line may have anything, as at the beginning of an expression.
EDGE = "\0"
# A word there is taken to be a whole word, perhaps with one of these before it: no message has "xundefined symbol".
PREFIXES = ("", "un", "in", "non", "re")
NEVER_WHOLE = ("error", "warning", "exception")  # RuntimeError, ImportError, …
SHORTEST_WHOLE = 5
# What ordinary lines of a build contain as well: finding it saves little.
COMMON = frozenset(
    {
        *(
            "torch",
            "libtorch",
            "include",
            "lib",
            "error",
            "cpp",
            "c10",
            "std",
            "cmake",
            "python",
            "cuda",
            "file",
        ),
        *(
            "files",
            "pytorch",
            "packages",
            "package",
            "src",
            "build",
            "usr",
            "local",
            "opt",
            "home",
            "user",
            "csrc",
        ),
        *(
            "cpu",
            "aten",
            "object",
            "warning",
            "not",
            "for",
            "the",
            "was",
            "with",
            "this",
            "that",
            "from",
            "line",
        ),
        *(
            "found",
            "find",
            "type",
            "function",
            "could",
            "name",
            "version",
            "compile",
            "command",
            "target",
            "and",
        ),
        *(
            "error:",
            "tensor",
            "kernel",
            "defined",
            "open",
            "must",
            "have",
            "are",
            "but",
            "does",
            "any",
            ".pt",
        ),
        *(
            "/include",
            "/torch/",
            "api",
            "libc10",
            "symbol",
            "input",
            "output",
            "value",
            "path",
            "torch::",
            "c10::",
        ),
    }
)


class Words(NamedTuple):
    """Texts of which every match contains one, `folded` and ASCII; some are marked with `EDGE`."""

    marked: tuple[str, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """Return them without marks."""
        return tuple(text.removeprefix(EDGE) for text in self.marked)

    @property
    def cost(self) -> float:
        """How much it takes to search a log for them; searching for one rare text costs 1, for a whole word little."""
        return sum(map(cost, self.marked))


def folded(text: str) -> str:
    """Return a text as it is searched for: in lower case, with slashes for backslashes."""
    return text.lower().replace("\\", "/")


def cost(marked: str) -> float:
    """Return the cost of searching a log for one text."""
    words = whole_words(marked)
    if words:
        return 3.0 if COMMON.intersection(words) else 0.05
    text = marked.removeprefix(EDGE)
    rare = len(text.strip()) > SHORTEST and not COMMON.issuperset(_PARTS.findall(text))
    if rare:
        return 1.0 + 2.0 / len(text)
    return 60.0 if "/" in text else 25.0  # every line of a build has paths


def effort(pattern: str) -> float:
    """Return how much it takes to search a line for an expression: repetitions make it slow."""
    return 2.0 * len(_REPETITIONS.findall(pattern))


def whole_words(marked: str) -> tuple[str, ...]:
    """Return words one of which is in every line with a text, as whole words; the rarest choice, or none."""
    first, *inner = marked.translate(_SPACES).split(" ")
    if not inner:
        return ()
    found = [word for word in inner[:-1] if len(word) >= SHORTEST]
    choice = max(found, key=lambda word: (word not in COMMON, len(word)), default="")
    if choice and choice not in COMMON:
        return (choice,)
    word = first.removeprefix(EDGE)
    if first != word and len(word) >= SHORTEST_WHOLE and word.isalpha() and not word.endswith(NEVER_WHOLE):
        return tuple(prefix + word for prefix in PREFIXES)
    return (choice,) if choice else ()


def required_words(pattern: str) -> list[Words] | None:
    """Return sets of texts such that each match contains one of each set, the cheapest first; None if there are none.

    Raises:
        re.error: it is not a regular expression.
    """
    re.compile(pattern)
    found = [words for words in _of_sequence(parsed(pattern), edge=True) if _long(words)]
    return sorted(found, key=lambda words: words.cost) or None


def parsed(pattern: str) -> Any:
    """Return the nodes of an expression, from the parser of `re` itself.

    Raises:
        re.error: it is not a regular expression.
    """
    # It has had this name since Python 3.11.
    parser: Any = importlib.import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse")
    return parser.parse(pattern)


def _long(words: Words) -> bool:
    return all(len(text) >= SHORTEST for text in words.texts)


def _of_sequence(items: Any, *, edge: bool) -> list[Words]:
    """Return the required texts of a sequence of nodes of the parsed expression.

    Args:
        items: the nodes.
        edge: whether a line may have anything before it.
    """
    found: list[Words] = []
    runs = [EDGE if edge else ""]  # the texts that what was read last can be
    for name, value in _flat(items):
        kind = str(name)
        if kind in {
            "AT",
            "ASSERT",
            "ASSERT_NOT",
        }:  # `^`, `$`, `\b` and what looks ahead or behind take no characters
            continue
        texts = _exactly(kind, value)
        if texts is not None and len(texts) * len(runs) <= MOST:
            runs = [run + text for run in runs for text in texts]
            continue
        found.append(Words(tuple(dict.fromkeys(runs))))
        inner = all(run in {EDGE, ""} for run in runs) and runs[0] == EDGE
        found += _of_node(kind, value, edge=inner)
        edge = _is_anything(kind, value)
        runs = [EDGE if edge else ""]
        if texts is not None:
            runs = texts
    found.append(Words(tuple(dict.fromkeys(runs))))
    return found


def _is_anything(kind: str, value: Any) -> bool:
    """Whether a node is `.*` or white space, after which a word begins anew."""
    if kind in {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}:
        items = list(value[2])
        return len(items) == 1 and _is_anything(str(items[0][0]), items[0][1])
    return kind == "ANY" or (kind == "IN" and [str(each) for _, each in value] == ["CATEGORY_SPACE"])


def _exactly(kind: str, value: Any) -> list[str] | None:
    """Return all texts that a node can match, if these are a few."""
    if kind == "LITERAL":
        return [folded(chr(value))] if value < ASCII else None
    if kind == "IN" and len(value) <= FEW:
        letters = all(str(name) == "LITERAL" and each < ASCII for name, each in value)
        return list(dict.fromkeys(folded(chr(each)) for _, each in value)) if letters else None
    if kind == "BRANCH":
        found: list[str] = []
        for each in value[1]:
            texts = _texts(each)
            if texts is None:
                return None
            found += texts
        return found if len(found) <= MOST else None
    return None


def _texts(items: Any) -> list[str] | None:
    """Return all texts that a sequence can match, if these are a few."""
    runs = [""]
    for name, value in _flat(items):
        texts = _exactly(str(name), value)
        if texts is None or len(texts) * len(runs) > MOST:
            return None
        runs = [run + text for run in runs for text in texts]
    return runs


def _flat(items: Any) -> Any:
    """Yield the nodes of a sequence, those of plain groups included."""
    for name, value in items:
        if str(name) == "SUBPATTERN":
            yield from _flat(value[-1])
        else:
            yield name, value


def _of_node(kind: str, value: Any, *, edge: bool) -> list[Words]:
    if kind == "BRANCH":
        return _of_branches([_cheapest(filter(_long, _of_sequence(each, edge=edge))) for each in value[1]])
    if kind in {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"} and value[0] >= 1:
        return _of_sequence(value[2], edge=False)
    if kind == "ATOMIC_GROUP":
        return _of_sequence(value, edge=edge)
    return []


def _cheapest(sets: Iterable[Words]) -> list[Words]:
    return sorted(sets, key=lambda words: words.cost)


def _of_branches(branches: Sequence[Sequence[Words]]) -> list[Words]:
    """Return sets for an alternation: the best of each branch together, then the second best, and so on."""
    if not all(branches):
        return []
    rounds = range(min(max(map(len, branches)), MOST_ROUNDS))
    return [
        Words(tuple(dict.fromkeys(text for sets in branches for text in sets[min(at, len(sets) - 1)].marked)))
        for at in rounds
    ]
