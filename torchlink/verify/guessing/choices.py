"""The candidates for one argument, best first: from its type, and from the clues in the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from torchlink.verify.guessing.clues import ANY
from torchlink.verify.guessing.values import (
    BATCH,
    HEIGHT,
    LENGTH,
    SAMPLES,
    WIDTH,
    Sizes,
    Template,
    bound,
    letters,
)
from torchlink.verify.specs import DictInput, InputSpec, ListInput, ScalarInput, TensorInput, TupleInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torchlink.verify.guessing.clues import Clue, Path
    from torchlink.verify.guessing.probe import Prober
    from torchlink.verify.schema_types import Type


MOST_OPTIONS = 24  # of one argument
LIST_LENGTH = 2  # if nothing is known
NOTHING_KNOWN = "nothing in the graph fixes its shape"
# Tried where nothing is known, in this order: as many dimensions as there are, then other sizes.
GENERIC: tuple[Template, ...] = (
    (BATCH, 3, HEIGHT, WIDTH),
    (BATCH, 3),
    (BATCH, LENGTH, 16),
    (BATCH,),
    (BATCH, 16),
    (4, 4),
    (BATCH, 4, 4),
    (3, HEIGHT, WIDTH),
    (BATCH, 3, SAMPLES),
    (),
)
WHOLE_NUMBERS: tuple[Template, ...] = ((BATCH, LENGTH), (BATCH,))
PLAIN: dict[str, tuple[bool | int | float | str | None, ...]] = {
    "int": (1, 2, 0, 4),
    "float": (1.0, 0.5),
    "bool": (False, True),
    "number": (1.0, 1),
    "Scalar": (1.0, 1),
    "NoneType": (None,),
    "str": ("a", ""),
}


@dataclass(frozen=True, slots=True)
class TensorOption:
    """A tensor whose open sizes are yet to be chosen, and the reason for it."""

    dtype: str
    template: Template
    fill: str
    reason: str
    told: bool = False  # an operator that uses this very argument determines its shape


@dataclass(frozen=True, slots=True)
class ScalarOption:
    """A plain value."""

    value: bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class Container:
    """A list, tuple or dict (with its keys) of options."""

    kind: str
    parts: tuple[Option, ...]
    keys: tuple[int | str, ...] = ()


Option: TypeAlias = "TensorOption | ScalarOption | Container"


def with_sizes(option: Option, sizes: Sizes) -> InputSpec:
    """The input that an option is, with its open sizes filled in."""
    if isinstance(option, TensorOption):
        return TensorInput(option.dtype, bound(option.template, sizes), option.fill)
    if isinstance(option, ScalarOption):
        return ScalarInput(option.value)
    parts = tuple(with_sizes(part, sizes) for part in option.parts)
    if option.kind == "dict":
        return DictInput(tuple(zip(map(ScalarInput, option.keys), parts, strict=True)))
    return ListInput(parts) if option.kind == "list" else TupleInput(parts)


def tensors_of(option: Option) -> Iterable[TensorOption]:
    """The tensors in an option."""
    if isinstance(option, TensorOption):
        yield option
    elif isinstance(option, Container):
        for part in option.parts:
            yield from tensors_of(part)


def letters_of(options: Iterable[Option]) -> frozenset[str]:
    """The open sizes of several options."""
    return frozenset(
        letter for option in options for tensor in tensors_of(option) for letter in letters(tensor.template)
    )


class Chooser:
    """The options of every argument, according to a probing run."""

    def __init__(self, prober: Prober) -> None:
        self.prober = prober
        self.strong = [clue for clue in prober.clues if clue.path is not None and not clue.weak]
        self.weak = [clue for clue in prober.clues if clue.path is not None and clue.weak]
        self.lost = [clue for clue in prober.clues if clue.path is None]

    def options(self, type_: Type, path: Path) -> list[Option]:
        """The options for a value of this type at this place; empty if none can be written."""
        match type_.kind:
            case "Tensor" | "Any":
                return list(self.tensors(path))
            case "optional":
                return self.optional(self.options(type_.parts[0], path)) if type_.parts else []
            case "union":
                found = [option for part in type_.parts for option in self.options(part, path)]
                return sorted(found, key=lambda option: isinstance(option, ScalarOption))
            case "str":
                words = tuple(dict.fromkeys(self.prober.words.get(path, ())))
                return [ScalarOption(word) for word in words or PLAIN["str"]]
            case "list" | "tuple" | "dict":
                return self.containers(type_, path)
        return [ScalarOption(value) for value in PLAIN.get(type_.kind, ())]

    @staticmethod
    def optional(options: list[Option]) -> list[Option]:
        """The options for an optional value: a tensor first if the graph has clues about it, else None first."""
        told = [option for option in options[:1] if isinstance(option, TensorOption) and option.told]
        return [*told, ScalarOption(None), *options[len(told) :]]

    def containers(self, type_: Type, path: Path) -> list[Option]:
        """Containers whose parts are each of the same preference."""
        keys: tuple[int | str, ...] = ()
        types = list(type_.parts)
        asked = self.prober.elements.get(path, set())
        if type_.kind == "list" and types:
            numbers = [key + 1 if key >= 0 else -key for key in asked if isinstance(key, int)]
            types = [types[0]] * max(numbers, default=LIST_LENGTH)
        elif type_.kind == "dict" and len(types) == 2:
            text = types[0].kind == "str"
            found = sorted(key for key in asked if isinstance(key, str if text else int) and key != ANY)
            keys = tuple(found) or (("x",) if text else (0,))
            types = [types[1]] * len(keys)
        choices = [
            self.options(each, (*path, key))
            for key, each in zip(keys or range(len(types)), types, strict=True)
        ]
        if (not types and type_.kind != "tuple") or not all(choices):
            return []
        most = max(map(len, choices), default=1)
        return [
            Container(type_.kind, tuple(each[min(number, len(each) - 1)] for each in choices), keys)
            for number in range(most)
        ]

    def tensors(self, path: Path) -> list[TensorOption]:
        """The options for a tensor: from its own clues, its neighbours', those of unknown origin, and defaults."""
        own = _at(self.strong, path)
        dtype = next((clue.dtype for clue in own if clue.dtype), None)
        shapeless = next((clue for clue in own if clue.template is None), None)
        fill = shapeless.fill if shapeless else "ones"
        why = f"{shapeless.reason}; " if shapeless else ""
        told = shapeless.dtype if shapeless else None
        shaped = [clue for clue in own if clue.template is not None]
        shaped.sort(key=lambda clue: BATCH not in (clue.template or ()))
        found = [_option(clue, told, fill) for clue in shaped]
        found += [_option(clue, dtype, fill) for clue in _at(self.weak, path)]
        others = [clue for clue in (*self.strong, *self.weak) if clue.path != path and clue.template]
        generic: list[TensorOption] = []
        for clue in others:
            reason = f"{why}it may have the shape of its neighbour"
            generic.append(TensorOption(dtype or _floating(clue), clue.template or (), fill, reason))
        for clue in () if found else self.lost:
            template = clue.template or ()
            generic.append(TensorOption(clue.dtype or "float32", template, clue.fill, clue.reason))
            generic.append(TensorOption(clue.dtype or "float32", template[1:], clue.fill, clue.reason))
        reason = shapeless.reason if shapeless else NOTHING_KNOWN
        habitual = (*WHOLE_NUMBERS, *GENERIC) if dtype == "int64" else GENERIC
        generic += [TensorOption(dtype or "float32", template, fill, reason) for template in habitual]
        if dtype is None and not found:
            generic += [
                TensorOption(other, template, "ones", reason)
                for other in ("int64", "bool")
                for template in WHOLE_NUMBERS
            ]
        if dtype == "int64" and shapeless:
            generic += [TensorOption("bool", template, fill, reason) for template in GENERIC[1:4]]
        return list(dict.fromkeys(found + generic))[:MOST_OPTIONS]


def _at(clues: Sequence[Clue], path: Path) -> list[Clue]:
    """The clues about this place; in a list, about any of its elements."""
    return [
        clue
        for clue in clues
        if clue.path is not None
        and len(clue.path) == len(path)
        and all(mine in (theirs, ANY) or theirs == ANY for mine, theirs in zip(path, clue.path, strict=True))
    ]


def _option(clue: Clue, dtype: str | None = None, fill: str = "ones") -> TensorOption:
    """The option for a clue."""
    chosen = clue.fill if clue.fill != "ones" else fill
    return TensorOption(dtype or clue.dtype or "float32", clue.template or (), chosen, clue.reason, told=True)


def _floating(clue: Clue) -> str:
    """The dtype of a neighbour, if it is a floating-point dtype."""
    return clue.dtype if clue.dtype and ("float" in clue.dtype or "complex" in clue.dtype) else "float32"
