"""Whether inputs pass through a graph, judged by shapes and dtypes alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.verify.shapes.run import OutOfStepsError, Run
from torchlink.verify.shapes.values import UNKNOWN, Mismatch, Shaped
from torchlink.verify.specs import DictInput, InputSpec, ListInput, ScalarInput, TensorInput, TupleInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchlink.verify.graph import Argument, Description

# Nodes that are run for all guesses together: about a second of work.
ALL_STEPS = 400_000
STEPS_A_RUN = 100_000


class Checker:
    """Runs a graph on shapes again and again, within a bound on all the work."""

    def __init__(self, description: Description) -> None:
        self.description = description
        self.steps_left = ALL_STEPS

    def fits(self, inputs: Sequence[InputSpec]) -> bool:
        """Whether nothing speaks against these arguments; False once the bound is reached."""
        if self.steps_left <= 0:
            return False
        values = [value_of(spec) for spec in inputs]
        values += [default_value(argument) for argument in self.description.arguments[len(values) :]]
        run = Run(self.description.attributes, min(STEPS_A_RUN, self.steps_left))
        given = run.steps_left
        try:
            run.forward(self.description.graph, values)
        except (Mismatch, RecursionError):
            return False
        except OutOfStepsError:
            return self.steps_left >= STEPS_A_RUN  # a long run in which nothing was wrong
        finally:
            self.steps_left -= given - max(run.steps_left, 0)
        return True


def value_of(spec: InputSpec) -> object:
    """An input as a value of a run on shapes."""
    match spec:
        case TensorInput():
            return Shaped(spec.shape, spec.dtype)
        case ScalarInput():
            return spec.value
        case ListInput():
            return [value_of(item) for item in spec.items]
        case TupleInput():
            return tuple(value_of(item) for item in spec.items)
        case DictInput():
            return {key.value: value_of(value) for key, value in spec.items}
    return UNKNOWN


def default_value(argument: Argument) -> object:
    """An argument's default from its text; UNKNOWN where the text is of no plain value."""
    text = (argument.default or "").strip()
    if text == "None":
        return None
    if argument.type == "str":
        return text[1:-1] if text[:1] == text[-1:] == '"' else text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return UNKNOWN
