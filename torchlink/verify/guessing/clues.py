"""What is followed through a graph, and what is learnt on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from torchlink.verify.guessing.templates import BATCH, LENGTH, Template
from torchlink.verify.guessing.values import UNKNOWN, Shaped

if TYPE_CHECKING:
    from torchlink.verify.guessing.inverse import Step

# Where a tensor stands among the arguments: (argument, element, …); ANY is any element of a list or dict.
Path: TypeAlias = tuple[int | str, ...]
ANY = "*"


@dataclass(frozen=True, slots=True)
class Source:
    """A part of an argument, with the steps that it has gone through (the last one last)."""

    path: Path
    steps: tuple[Step, ...] = ()
    cast: bool = False  # its dtype was changed on the way, so any will do


@dataclass(frozen=True, slots=True)
class Probe:
    """A value made of arguments, or a container argument itself."""

    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """A tensor of which only the size of its last dimension, or its channels', is known."""

    last: int | None = None
    channels: int | None = None

    def along(self, dim: int) -> int | None:
        """The size along a dimension, as far as known (dimension 1 of an unknown rank may be the last)."""
        if dim in (1, -3) and self.channels is not None:
            return self.channels
        return self.last if dim != 0 else None


@dataclass(frozen=True, slots=True)
class Clue:
    """What an operator says about a tensor that came from an argument."""

    path: Path | None  # None: of a tensor whose origin was lost on the way
    dtype: str | None  # None: any
    template: Template | None  # None: any shape
    fill: str
    reason: str  # "conv1.weight takes 3 channels"
    weak: bool = False  # an elementwise operator told, which broadcasts


@dataclass(frozen=True, slots=True)
class Telling:
    """What an operator says about one of its arguments; `templates` in order of preference, None any shape."""

    value: object
    templates: tuple[Template | None, ...]
    dtype: str | None
    reason: str
    fill: str = "ones"
    weak: bool = False


PASS = object()  # as the result of a clue rule: the value goes on as through any other operator

# What an operator tells and its result as far as known (`PASS`: the value goes on unchanged); None where it
# can tell nothing. A rule takes the operator's arguments.
Told: TypeAlias = tuple[tuple[Telling, ...], object] | None
ClueRule: TypeAlias = Callable[..., Told]


def named(parameter: Shaped) -> str:
    """A parameter, for a reason."""
    return parameter.origin or f"a constant of shape {list(parameter.shape)}"


def among(*values: object) -> object:
    """What goes on after an operator that chooses from these values by a mask or an index."""
    sources = [source for value in values if isinstance(value, Probe) for source in value.sources]
    if sources:
        return Probe(tuple(dict.fromkeys(sources)))
    return next((value for value in values if isinstance(value, Known)), UNKNOWN)


def rows(width: int) -> tuple[Template, ...]:
    """Vectors of a width: a batch of them, a batch of sequences of them, one."""
    return (BATCH, width), (BATCH, LENGTH, width), (width,)
