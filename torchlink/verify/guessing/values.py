"""The values of a graph while it is followed: numbers and lists as they are, tensors as facts.

Shapes with sizes left open: which sizes are open, and which values are tried for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

Shape: TypeAlias = tuple[int, ...]


class Unknown:
    """A value about which nothing is known."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = Unknown()


@dataclass(frozen=True, slots=True)
class Shaped:
    """A parameter, buffer or constant, or a view of one. `origin` is its name, empty for a constant."""

    shape: Shape
    dtype: str
    origin: str = ""

    @property
    def numel(self) -> int:
        """The number of elements."""
        result = 1
        for size in self.shape:
            result *= size
        return result

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return len(self.shape)


@dataclass(frozen=True, slots=True)
class ModuleRef:
    """A module; `path` is dotted, empty for the model itself."""

    path: str


def whole(value: object) -> int:
    """The value as an int.

    Raises:
        TypeError: it is not an int, or is unknown.
    """
    if isinstance(value, (int, float)):
        return int(value)
    raise TypeError


def wholes(value: object) -> list[int]:
    """A list of ints; a single int is a list of one.

    Raises:
        TypeError: it is not such a list, or is unknown.
    """
    if isinstance(value, int):
        return [value]
    if not isinstance(value, (list, tuple)):
        raise TypeError
    return [whole(size) for size in value]


# A size is a number, or one of the letters below: the same letter stands for the same size everywhere.
Template: TypeAlias = tuple[int | str, ...]
Sizes: TypeAlias = Mapping[str, int]

BATCH = "B"
LENGTH = "L"  # of a sequence
HEIGHT, WIDTH, DEPTH = "H", "W", "D"
SAMPLES = "T"  # of a signal
IMAGE = frozenset((HEIGHT, WIDTH))

# Moderate sizes first: quick to run, and large enough for the strides of usual networks.
IMAGE_SIZES = (64, 224, 32, 28, 128, 96, 256, 299, 16, 48, 84, 112, 227, 384, 512, 8, 4, 2, 1)
VOLUME_SIZES = (16, 32, 64, 8, 4, 2, 1)
SAMPLE_SIZES = (64, 128, 16, 256, 1024, 8000, 16000, 32, 8, 4, 2, 1)
LENGTHS = (8, 4, 16, 2, 3, 5, 6, 7, 10, 12, 20, 32, 50, 64, 100, 128, 197, 256, 512, 1)
BATCHES = (1, 2)
LARGEST_IMAGE = 512  # every side up to here is tried if none of the usual ones fits
LARGEST_LENGTH = 128


def letters(template: Template) -> frozenset[str]:
    """The sizes that are open."""
    return frozenset(size for size in template if isinstance(size, str))


def bound(template: Template, sizes: Sizes) -> tuple[int, ...]:
    """The shape with the open sizes filled in."""
    return tuple(sizes[size] if isinstance(size, str) else size for size in template)


def spatial(rank: int) -> Template:
    """The open sizes of a convolution or pooling over so many dimensions."""
    return {1: (SAMPLES,), 2: (HEIGHT, WIDTH)}.get(rank, (DEPTH, HEIGHT, WIDTH))
