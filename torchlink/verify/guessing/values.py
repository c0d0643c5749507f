"""What a graph's values are while it is followed: numbers and lists as they are, tensors as facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Shape: TypeAlias = tuple[int, ...]


class Unknown:
    """A value of which nothing is known."""

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
        TypeError: it is none, or unknown.
    """
    if isinstance(value, (int, float)):
        return int(value)
    raise TypeError


def wholes(value: object) -> list[int]:
    """A list of ints; one int stands for a list of one.

    Raises:
        TypeError: it is no such list, or unknown.
    """
    if isinstance(value, int):
        return [value]
    if not isinstance(value, (list, tuple)):
        raise TypeError
    return [whole(size) for size in value]
