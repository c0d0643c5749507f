"""Inputs that a model's `forward` may take, the most likely first, each with the reason.

Candidates come from the operators with parameters that each input reaches first. libtorch decides which of them
fits: each is run, and the error that it raises guides the choice of the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, product
from typing import TYPE_CHECKING

from torchlink.verify.guessing.choices import (
    Chooser,
    Option,
    ScalarOption,
    letters_of,
    tensors_of,
    with_sizes,
)
from torchlink.verify.guessing.sizes import Narrowing, amounts, in_words
from torchlink.verify.guessing.walk import probed
from torchlink.verify.schema_types import parse_type

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from torchlink.verify.graph import Argument, Description
    from torchlink.verify.guessing.values import Sizes
    from torchlink.verify.specs import InputSpec


MOST_COMBINATIONS = 300  # of the arguments' options
LIKELY = 6  # combinations that are tried with many sizes before others
SAME = 4  # sizes that raise the same error: the other sizes of the combination are postponed
# Combinations, or candidates, that raise the same error: the model raises it for any input.
SAME_EVERYWHERE, SAME_ALWAYS = 12, 80
# How many sizes are tried of a combination in each round: of the likely ones, and of the others.
ROUNDS = ((80, 3), (2000, 80))
DEVICES = (ScalarOption("cpu"), ScalarOption("cuda"))


@dataclass(frozen=True, slots=True)
class Guess:
    """Arguments for `forward`, in order, and one sentence that states the choice and the reason."""

    inputs: tuple[InputSpec, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Combination:
    """One option for each argument that is given."""

    names: tuple[str, ...]
    options: tuple[Option, ...]

    @property
    def told(self) -> int:
        """How many of its arguments the graph determines, or need no clue."""
        return sum(all(tensor.told for tensor in tensors_of(option)) for option in self.options)

    def guess(self, sizes: Sizes) -> Guess:
        """The guess, with the open sizes filled in."""
        inputs = tuple(with_sizes(option, sizes) for option in self.options)
        sentences = [
            _because(name, option, spec, sizes)
            for name, option, spec in zip(self.names, self.options, inputs, strict=True)
        ]
        return Guess(inputs, "; ".join(sentences) or "forward needs no arguments")


def guesses(description: Description) -> Generator[Guess, str, None]:
    """Inputs to try, the most likely first; none if an argument cannot be written.

    Each one is answered, through `send`, with the message of the error that it raised, or with an empty one if the
    process died. It ends when all were tried, or when enough were tried to conclude that the model raises the
    same error for any input.
    """
    combinations = _combinations(description)
    if not combinations:
        return
    told = [combination.told for combination in combinations]
    most = max(told)
    best = [number for number, count in enumerate(told) if count == most][:LIKELY]
    likely = [combinations[number] for number in best]
    others = [combination for number, combination in enumerate(combinations) if number not in best]
    search = _Search()
    for round_, limits in enumerate(ROUNDS):
        for group, limit in zip((likely, others), limits, strict=True):
            for combination in group:
                most_sizes = limit if group is likely or len(search.messages) > 1 else 1
                yield from search.tries(combination, most_sizes, patient=round_ > 0)
                if search.hopeless:
                    return


class _Search:
    """The inputs tried so far, and the errors raised."""

    def __init__(self) -> None:
        self.sizes: dict[Combination, Narrowing] = {}
        self.seen: set[tuple[InputSpec, ...]] = set()
        self.messages: set[str] = set()

    @property
    def hopeless(self) -> bool:
        """Whether so many have raised the same error that the model does so for any input."""
        return len(self.messages) == 1 and (
            len(self.sizes) >= SAME_EVERYWHERE or len(self.seen) >= SAME_ALWAYS
        )

    def tries(self, combination: Combination, most: int, *, patient: bool) -> Generator[Guess, str, None]:
        """A combination with the next few sizes, until a few raise the same error, unless `patient`."""
        if combination not in self.sizes:
            self.sizes[combination] = Narrowing(letters_of(combination.options))
        narrowing = self.sizes[combination]
        last: list[object] = []
        for chosen in islice(narrowing, most):
            guess = combination.guess(chosen)
            if guess.inputs in self.seen:
                continue
            message = yield guess
            self.seen.add(guess.inputs)
            self.messages.add(message)
            narrowing.told(chosen, message)
            last = [*last[1 - SAME :], amounts(message) or message]
            same = len(last) == SAME and len(set(last)) == 1
            if not message or (same and not patient) or (self.hopeless and len(self.seen) >= SAME_ALWAYS):
                return


def _combinations(description: Description) -> list[Combination]:
    """Options for all arguments, the best first; none if one of them has no option."""
    arguments = _given(description.arguments)
    chooser = Chooser(probed(description))
    choices: list[Sequence[Option]] = [
        DEVICES
        if argument.type == "Device"
        else [default]
        if (default := _default(argument))
        else chooser.options(parse_type(argument.type), (number,))
        for number, argument in enumerate(arguments)
    ]
    if not all(choices):
        return []
    names = tuple(argument.name for argument in arguments)
    return [Combination(names, options) for options in _ordered(choices)]


def _given(arguments: Sequence[Argument]) -> list[Argument]:
    """The arguments up to the last one without a default."""
    last = max((number for number, argument in enumerate(arguments) if not argument.has_default), default=-1)
    return list(arguments[: last + 1])


def _default(argument: Argument) -> ScalarOption | None:
    """The default of an argument that must be written because a later one has none; None if it is not a plain value."""
    if not argument.has_default or argument.default is None:
        return None
    text = argument.default.strip()
    if argument.type == "str":
        return ScalarOption(text[1:-1] if text[:1] == text[-1:] == '"' else text)
    if text.lower() in ("none", "true", "false"):
        return ScalarOption({"none": None, "true": True, "false": False}[text.lower()])
    for convert in (int, float):
        try:
            return ScalarOption(convert(text))
        except ValueError:
            continue
    return None


def _ordered(choices: Sequence[Sequence[Option]]) -> list[tuple[Option, ...]]:
    """Combinations of options, those with the best options first."""
    depth = 2
    while depth < max(map(len, choices), default=0) and (depth + 1) ** len(choices) <= MOST_COMBINATIONS:
        depth += 1
    indices = product(*(range(min(depth, len(each))) for each in choices))
    numbered = sorted(
        islice(indices, MOST_COMBINATIONS * 4), key=lambda numbers: (sum(numbers), max(numbers, default=0))
    )
    return [
        tuple(each[number] for each, number in zip(choices, numbers, strict=True))
        for numbers in numbered[:MOST_COMBINATIONS]
    ]


def _because(name: str, option: Option, spec: InputSpec, sizes: Sizes) -> str:
    """The reason for this argument: "x = float32[1,3,64,64]: conv.weight takes 3 channels, …"."""
    reasons = list(dict.fromkeys(tensor.reason for tensor in tensors_of(option)))
    if not reasons:
        return f"{name} = {spec.to_text()}"
    size = in_words(letters_of([option]), sizes)
    tried = f", tried with {size}" if size else ""
    return f"{name} = {spec.to_text()}: {' and '.join(reasons)}{tried}"
