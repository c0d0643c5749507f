"""Whether a regular expression takes exponential time: a repetition in one whose rounds nothing separates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torchlink.explain.literals import parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UNBOUNDED = 64  # rounds, from which on a repetition counts as one without an end
BEYOND = "\u0100"  # stands for it and all characters after it
ALL = frozenset(map(chr, range(ord(BEYOND) + 1)))
REPEATS = {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}
_CATEGORIES: dict[str, Callable[[str], bool]] = {
    "DIGIT": str.isdigit,
    "SPACE": str.isspace,
    "WORD": lambda each: each.isalnum() or each == "_",
}


def is_exponential(pattern: str) -> bool:
    """Whether an unbounded repetition contains another one, such as `(x+x+)+`, and nothing separates its rounds.

    In `(?:[a-z]+/)*` the slash does, which the inner repetition cannot take.

    Raises:
        re.error: it is not a regular expression.
    """
    return any(
        _is_unbounded(value) and bool(inner := [*_repeated(value[2])]) and not _is_separated(value[2], inner)
        for kind, value in _all(parsed(pattern))
        if kind in REPEATS
    )


def _is_unbounded(value: Any) -> bool:
    return int(value[1]) >= UNBOUNDED


def _parts(kind: str, value: Any) -> list[Any]:
    """Return the sequences in a node."""
    if kind == "SUBPATTERN":
        return [value[-1]]
    if kind in REPEATS:
        return [value[2]]
    if kind == "BRANCH":
        return list(value[1])
    if kind in {"ASSERT", "ASSERT_NOT"}:
        return [value[1]]
    if kind == "ATOMIC_GROUP":
        return [value]
    if kind == "GROUPREF_EXISTS":
        return [each for each in value[1:] if each]
    return []


def _all(items: Any) -> Iterator[tuple[str, Any]]:
    """Yield the nodes of a sequence, and those in them."""
    for name, value in items:
        yield str(name), value
        for part in _parts(str(name), value):
            yield from _all(part)


def _repeated(items: Any) -> Iterator[frozenset[str]]:
    """Yield the characters that the unbounded repetitions in a sequence take."""
    for kind, value in _all(items):
        if kind in REPEATS and _is_unbounded(value):
            sets = [_characters(*node) for node in _all(value[2])]
            yield frozenset().union(*(each for each in sets if each is not None))


def _is_separated(items: Any, repeated: list[frozenset[str]]) -> bool:
    """Whether each round has a character that none of the repetitions takes."""
    for name, value in items:
        kind = str(name)
        if kind == "SUBPATTERN" and _is_separated(value[-1], repeated):
            return True
        found = _characters(kind, value)
        if found and not any(found & each for each in repeated):
            return True
    return False


def _characters(kind: str, value: Any) -> frozenset[str] | None:
    """Return the characters that a node takes, in both cases; None: it is not for one character."""
    if kind == "LITERAL":
        found = _member(kind, value)
    elif kind == "NOT_LITERAL":
        return ALL - (_member(kind, value) - {BEYOND})
    elif kind == "ANY":
        return ALL
    elif kind == "IN":
        found = set().union(*(_member(str(name), each) for name, each in value if str(name) != "NEGATE"))
        if str(value[0][0]) == "NEGATE":
            return ALL - (found - {BEYOND})
    else:
        return None
    return frozenset(found | {each.swapcase() for each in found})


def _member(kind: str, value: Any) -> set[str]:
    """Return the characters of a member of a set."""
    if kind == "RANGE":
        codes = range(min(value[0], ord(BEYOND)), min(value[1], ord(BEYOND)) + 1)
        return {chr(code) for code in codes}
    if kind == "CATEGORY":
        name = str(value).removeprefix("CATEGORY_")
        test = _CATEGORIES.get(name.removeprefix("NOT_"), str.isprintable)
        return {each for each in ALL if test(each) is not name.startswith("NOT_")}
    return {min(chr(value), BEYOND)}
