"""What a graph's values are while it runs on shapes: numbers and lists as they are, tensors as facts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

Shape: TypeAlias = tuple[int, ...]
# Takes the operator's arguments as its schema orders them, returns its result (a tuple for several outputs).
# It raises `Mismatch` where the operator would fail; any other exception means that an argument is unknown.
Rule: TypeAlias = Callable[..., object]


class Mismatch(Exception):  # noqa: N818 - not an error of torchlink's: it says that a guess does not fit
    """The operator would refuse these arguments."""


class Unknown:
    """A value of which nothing is known."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = Unknown()


@dataclass(frozen=True, slots=True)
class Shaped:
    """A tensor. `origin` is the parameter or buffer that it is, or a transposed view of."""

    shape: Shape
    dtype: str
    origin: str = ""

    @property
    def numel(self) -> int:
        """The number of elements."""
        return product(self.shape)

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return len(self.shape)


@dataclass(frozen=True, slots=True)
class ModuleRef:
    """A module; `path` is dotted, empty for the model itself."""

    path: str


# c10::ScalarType's numbers, as graphs pass dtypes.
SCALAR_TYPES = {
    0: "uint8",
    1: "int8",
    2: "int16",
    3: "int32",
    4: "int64",
    5: "float16",
    6: "float32",
    7: "float64",
    9: "complex64",
    10: "complex128",
    11: "bool",
    15: "bfloat16",
}
SCALAR_NUMBERS = {name: number for number, name in SCALAR_TYPES.items()}
# In the order of type promotion (c10::promoteTypes), near enough.
PROMOTION = (
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "bfloat16",
    "float16",
    "float32",
    "float64",
    "complex64",
    "complex128",
)
FIRST_FLOATING = PROMOTION.index("bfloat16")


def product(sizes: Shape | list[int]) -> int:
    """The product of all sizes."""
    result = 1
    for size in sizes:
        result *= size
    return result


def tensor(value: object) -> Shaped:
    """The value as a tensor; a number is a 0-dim one.

    Raises:
        TypeError: it is none, or unknown.
    """
    if isinstance(value, Shaped):
        return value
    if isinstance(value, bool):
        return Shaped((), "bool")
    if isinstance(value, int):
        return Shaped((), "int64")
    if isinstance(value, float):
        return Shaped((), "float32")
    raise TypeError


def whole(value: object) -> int:
    """The value as an int.

    Raises:
        TypeError: it is none, or unknown.
    """
    if isinstance(value, (int, float)):
        return int(value)
    raise TypeError


def wholes(value: object, count: int | None = None) -> list[int]:
    """A list of ints; one int, or a list of one, stands for `count` equal ones.

    Raises:
        TypeError: it is no such list, or unknown.
    """
    if isinstance(value, int):
        return [value] * (count or 1)
    if not isinstance(value, (list, tuple)):
        raise TypeError
    sizes = [whole(size) for size in value]
    return sizes * (count or 1) if len(sizes) == 1 else sizes


def axis(index: object, rank: int) -> int:
    """A dimension's index as one from 0 on.

    Raises:
        Mismatch: there is no such dimension.
    """
    found = whole(index)
    if not -max(rank, 1) <= found < max(rank, 1):
        raise Mismatch
    return found % max(rank, 1)


def require(condition: bool) -> None:
    """Raise Mismatch unless the condition holds."""
    if not condition:
        raise Mismatch


def broadcast(*shapes: Shape) -> Shape:
    """The shape that the shapes are broadcast to.

    Raises:
        Mismatch: they cannot be.
    """
    rank = max(map(len, shapes))
    result = []
    for place in range(-rank, 0):
        sizes = {shape[place] for shape in shapes if len(shape) >= -place} - {1}
        require(len(sizes) <= 1)
        result.append(sizes.pop() if sizes else 1)
    return tuple(result)


def promote(*values: object) -> str:
    """The dtype of an elementwise result. A Python number raises only the category, not the width."""
    tensors = [value.dtype for value in values if isinstance(value, Shaped)]
    best = max(tensors, key=PROMOTION.index) if tensors else tensor(values[0]).dtype
    if any(isinstance(value, float) for value in values) and PROMOTION.index(best) < FIRST_FLOATING:
        return "float32"
    return best


def floating(dtype: str) -> str:
    """The dtype of a function that has floating results, such as a square root."""
    return dtype if PROMOTION.index(dtype) >= FIRST_FLOATING else "float32"
