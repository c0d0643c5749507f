"""Following a model's inputs through its graph to the first operators that determine their shapes.

A run of the graph in which each argument is a `Probe`: operators that keep or move dimensions pass it on with
a note of how to undo them; an operator with parameters gives a `Clue`, and the probe ends there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torchlink.model.stored import is_floating
from torchlink.verify.guessing.clues import (
    ANY,
    CLUE_RULES,
    PASS,
    ArgumentClue,
    ArgumentPart,
    Clue,
    Derived,
    KnownSize,
    Path,
    among,
)
from torchlink.verify.guessing.inverse import InvertedStep, known_size, step_of, undone
from torchlink.verify.guessing.operators import KEEPING_SIZES, NOT_KNOWN, TELLING, plain_name
from torchlink.verify.guessing.values import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torchlink.verify.guessing.values import Template

CASTS = frozenset(("to", "float", "double", "half", "bfloat16", "long", "int", "bool", "type_as"))
COMPARISONS = frozenset(("eq", "ne", "lt", "le", "gt", "ge", "logical_not", "isnan"))
LOOKING_UP = frozenset(("aten::__getitem__", "prim::TupleIndex", "aten::get"))
IDENTITY = frozenset(("aten::__is__", "aten::__isnot__"))
UNPACKING = frozenset(("prim::TupleUnpack", "prim::ListUnpack"))
JOINING = frozenset(("cat", "concat", "stack"))
# These keep the size of the last dimension, or of the channels.
KEEPING_LAST = KEEPING_SIZES | frozenset(
    ("unsqueeze", "select", "slice", "expand", "batch_norm", "layer_norm", "group_norm", "native_dropout")
)
LONGEST_WAY = 64  # steps of one probe: a loop must not make it grow without bound
MOST_CLUES = 100
MOST_ARGUMENTS = 14  # of an operator that a clue rule names; older versions have fewer


class Prober:
    """The observer of the probing run: computes the operators that take a probe, and collects clues."""

    def __init__(self) -> None:
        self.clues: list[Clue] = []
        self.elements: dict[
            Path, set[int | str]
        ] = {}  # keys and indices that are read from container arguments
        self.words: dict[Path, list[str]] = {}  # strings that an argument is compared with

    def answer(self, kind: str, arguments: list[object], results: int) -> tuple[object] | None:
        """The result of an operator for probes; None if none is among its arguments."""
        bare = plain_name(kind)
        told = self.told(bare, arguments)
        if told is not None:
            return told
        probes = [value for value in _flat(arguments) if isinstance(value, Derived)]
        if kind in IDENTITY:
            return None
        if not probes:
            known = [value for value in arguments if isinstance(value, KnownSize)]
            return (known[0],) if known and bare in KEEPING_LAST else None
        if bare not in JOINING and isinstance(arguments[0], (list, tuple, dict)):
            return None  # a container that merely contains probes
        if kind in UNPACKING:
            return (tuple(self.element(probes[0], index) for index in range(results)),)
        if kind in LOOKING_UP and isinstance(arguments[0], Derived):
            return (self.element(arguments[0], arguments[1]),)
        if kind in ("aten::eq", "aten::ne") and any(isinstance(value, str) for value in arguments):
            word = next(value for value in arguments if isinstance(value, str))
            self.words.setdefault(probes[0].sources[0].path, []).append(word)
            return (UNKNOWN,)
        if bare in TELLING:
            return (UNKNOWN,)
        value = self.passed(bare, arguments)
        return (value if results == 1 else (value,) * results,)

    def agreed(self, values: Sequence[object]) -> object:
        """The joint result of the branches of an unknown condition: the probes of all of them."""
        return among(*values)

    def told(self, bare: str, arguments: list[object]) -> tuple[object] | None:
        """Record the clues of an operator; returns its result, unless the value just passes through it."""
        rule = CLUE_RULES.get(bare)
        if rule is None:
            return None
        try:
            found = rule(*arguments, *[UNKNOWN] * (MOST_ARGUMENTS - len(arguments)))
        except NOT_KNOWN:
            return None
        if found is None:
            return None
        tellings, result = found
        open_ = [
            each for each in tellings if each.value is UNKNOWN or isinstance(each.value, (Derived, KnownSize))
        ]
        self.note(open_)
        return (result,) if open_ and result is not PASS else None

    def element(self, container: Derived, key: object) -> Derived:
        """One element of a container argument."""
        path = container.sources[0].path
        named: int | str = key if isinstance(key, (int, str)) else ANY
        self.elements.setdefault(path, set()).add(named)
        return Derived((ArgumentPart((*path, named)),))

    def passed(self, bare: str, arguments: list[object]) -> object:
        """The value after an operator that moves dimensions or keeps them."""
        if bare in JOINING and isinstance(arguments[0], (list, tuple)):
            return _joined("stack" if bare == "stack" else "cat", list(arguments[0]), arguments[1])
        probes = [each for each in _flat(arguments) if isinstance(each, Derived)]
        sources = list(dict.fromkeys(source for probe in probes for source in probe.sources))
        step = step_of(bare, arguments) if isinstance(arguments[0], Derived) else None
        if step is not None:
            sources = _stepped(sources, step)
        if bare in CASTS or bare in COMPARISONS:
            sources = [replace(source, cast=True) for source in sources]
        return Derived(tuple(sources))

    def note(self, tellings: Iterable[ArgumentClue]) -> None:
        """Turn an operator's facts about a value into clues about the arguments that it came from."""
        for telling in tellings:
            for template in telling.templates:
                if isinstance(telling.value, Derived):
                    for source in telling.value.sources:
                        self.note_source(source, template, telling)
                elif telling.value is UNKNOWN and template is not None and not telling.weak:
                    self.add(Clue(None, telling.dtype, template, telling.fill, telling.reason))

    def note_source(self, source: ArgumentPart, template: Template | None, telling: ArgumentClue) -> None:
        """Add one clue, with the shape converted back to that of the argument."""
        before = template
        for step in reversed(source.steps):
            if before is None:
                break
            before = undone(before, step)
        if template is not None and before is None:
            return
        dtype, fill = telling.dtype, telling.fill
        if source.cast and dtype is not None and is_floating(dtype):
            dtype = "float32"
        elif source.cast and dtype == "bool":  # compared on the way: any dtype, and ones pass the comparison
            dtype, fill = None, "ones"
        self.add(Clue(source.path, dtype, before, fill, telling.reason, telling.weak))

    def add(self, clue: Clue) -> None:
        """Keep a clue, once."""
        if len(self.clues) < MOST_CLUES and clue not in self.clues:
            self.clues.append(clue)


def _flat(arguments: Iterable[object]) -> Iterable[object]:
    """The arguments, with lists and tuples flattened."""
    for argument in arguments:
        if isinstance(argument, (list, tuple)):
            yield from argument
        else:
            yield argument


def _stepped(sources: Iterable[ArgumentPart], step: InvertedStep) -> list[ArgumentPart]:
    """The sources, one step further."""
    return [
        replace(source, steps=(*source.steps, step)) if len(source.steps) < LONGEST_WAY else source
        for source in sources
    ]


def _joined(kind: str, parts: list[object], dim: object) -> object:
    """Several values joined along a dimension; the first takes the remainder."""
    place = dim if isinstance(dim, int) else 0
    sought = [part for part in parts if isinstance(part, Derived)]
    known = sum(
        (part.along(place) if isinstance(part, KnownSize) else known_size(part, place)) or 0 for part in parts
    )
    if not sought:
        return KnownSize(last=known) if kind == "cat" and known else UNKNOWN
    sources: list[ArgumentPart] = []
    for number, probe in enumerate(sought):
        which = "cat_first" if kind == "cat" and number == 0 else kind
        sources += _stepped(probe.sources, InvertedStep(which, (place, len(sought), known)))
    return Derived(tuple(dict.fromkeys(sources)))
