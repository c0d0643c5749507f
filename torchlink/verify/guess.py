"""Inputs that a model's `forward` may take, likeliest first, each with the reason why."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, product
from typing import TYPE_CHECKING

from torchlink.verify.guessing import sizes as sizing
from torchlink.verify.guessing.check import Checker
from torchlink.verify.guessing.clues import Probe, Source
from torchlink.verify.guessing.options import (
    Chooser,
    Option,
    ScalarOption,
    letters_of,
    tensors_of,
    with_sizes,
)
from torchlink.verify.guessing.probe import Prober
from torchlink.verify.schema_types import parse_type
from torchlink.verify.shapes.run import OutOfStepsError, Run
from torchlink.verify.shapes.values import Mismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torchlink.verify.graph import Argument, Description
    from torchlink.verify.guessing.templates import Sizes
    from torchlink.verify.specs import InputSpec

MOST_GUESSES = 24
MOST_COMBINATIONS = 300  # of the arguments' options
LIKELY = 6  # combinations that are tried with all sizes before others are looked at
MORE_SIZES = 2  # of a combination that fits with one size
DEVICES = (ScalarOption("cpu"), ScalarOption("cuda"))
PROBING_STEPS = 100_000


@dataclass(frozen=True, slots=True)
class Guess:
    """Arguments for `forward`, in order, and one sentence that says what was taken and why."""

    inputs: tuple[InputSpec, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Combination:
    """One option for each argument that is given."""

    names: tuple[str, ...]
    options: tuple[Option, ...]

    @property
    def told(self) -> int:
        """How many of its arguments are told by the graph, or need no telling."""
        return sum(all(tensor.told for tensor in tensors_of(option)) for option in self.options)

    def inputs(self, sizes: Sizes) -> tuple[InputSpec, ...]:
        """The arguments, with the open sizes filled in."""
        return tuple(with_sizes(option, sizes) for option in self.options)

    def guess(self, sizes: Sizes, *, fits: bool) -> Guess:
        """The guess, with its sentence."""
        inputs = self.inputs(sizes)
        sentences = [
            _because(name, option, spec, sizes, fits=fits)
            for name, option, spec in zip(self.names, self.options, inputs, strict=True)
        ]
        return Guess(inputs, "; ".join(sentences) or "forward needs no arguments")


def guesses(description: Description) -> Iterator[Guess]:
    """Inputs to try, likeliest first, at most `MOST_GUESSES`; none where an argument cannot be written.

    Candidates come from the operators with parameters that each input meets first. Each candidate is run
    through the graph on shapes alone, and those that pass come first; the others follow, because the rules for
    shapes do not know every operator.
    """
    seen: set[tuple[InputSpec, ...]] = set()
    for guess in _candidates(description):
        if guess.inputs not in seen:
            seen.add(guess.inputs)
            yield guess
        if len(seen) == MOST_GUESSES:
            return


def _candidates(description: Description) -> Iterator[Guess]:
    """All guesses, perhaps with repetitions."""
    arguments = _given(description.arguments)
    chooser = Chooser(_probed(description))
    choices: list[Sequence[Option]] = [
        DEVICES
        if argument.type == "Device"
        else [default]
        if (default := _default(argument))
        else chooser.options(parse_type(argument.type), (number,))
        for number, argument in enumerate(arguments)
    ]
    if not all(choices):
        return
    names = tuple(argument.name for argument in arguments)
    combinations = [Combination(names, options) for options in _ordered(choices)]
    most = max(combination.told for combination in combinations)
    likely = [combination for combination in combinations if combination.told == most][:LIKELY]
    others = [combination for combination in combinations if combination not in likely]
    found = False
    for guess in _fitting(likely, others, Checker(description)):
        found = True
        yield guess
    for combination in likely if found else combinations:
        yield combination.guess(next(sizing.first(letters_of(combination.options))), fits=False)


def _fitting(likely: list[Combination], others: list[Combination], checker: Checker) -> Iterator[Guess]:
    """The guesses against which the shapes say nothing, likely combinations with several sizes."""
    several: list[Iterator[Guess]] = []
    for plan in (sizing.usual, sizing.every):
        for combination in list(likely):
            guesses_ = _sizes_that_fit(combination, plan, checker)
            first = next(guesses_, None)
            if first is not None:
                yield first
                several.append(guesses_)
                likely = [each for each in likely if each is not combination]
    for guesses_ in several:
        yield from islice(guesses_, MORE_SIZES)
    for plan in (sizing.first, sizing.usual):
        for combination in others:
            yield from islice(_sizes_that_fit(combination, plan, checker), 1)


def _sizes_that_fit(
    combination: Combination, plan: Callable[[frozenset[str]], Iterator[Sizes]], checker: Checker
) -> Iterator[Guess]:
    """One combination with each of the plan's sizes that fit."""
    for sizes in plan(letters_of(combination.options)):
        if checker.fits(combination.inputs(sizes)):
            yield combination.guess(sizes, fits=True)


def _given(arguments: Sequence[Argument]) -> list[Argument]:
    """The arguments up to the last one without a default."""
    last = max((number for number, argument in enumerate(arguments) if not argument.has_default), default=-1)
    return list(arguments[: last + 1])


def _default(argument: Argument) -> ScalarOption | None:
    """The default of an argument that must be written because a later one has none."""
    if not argument.has_default or argument.default is None:
        return None
    from torchlink.verify.guessing.check import default_value

    value = default_value(argument)
    return ScalarOption(value) if isinstance(value, (bool, int, float, str, type(None))) else None


def _probed(description: Description) -> Prober:
    """What a probing run finds; one that ends early has found what it has."""
    prober = Prober()
    probes = [Probe((Source((number,)),)) for number in range(len(description.arguments))]
    with suppress(Mismatch, OutOfStepsError, RecursionError):
        Run(description.attributes, PROBING_STEPS, prober).forward(description.graph, probes)
    return prober


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


def _because(name: str, option: Option, spec: InputSpec, sizes: Sizes, *, fits: bool) -> str:
    """Why this argument is as it is: "x = float32[1,3,64,64]: conv.weight takes 3 channels, …"."""
    reasons = list(dict.fromkeys(tensor.reason for tensor in tensors_of(option)))
    if not reasons:
        return f"{name} = {spec.to_text()}"
    size = sizing.in_words(letters_of([option]), sizes)
    judged = f", {'the layers behind take' if fits else 'guessing'} {size}" if size else ""
    return f"{name} = {spec.to_text()}: {' and '.join(reasons)}{judged}"
