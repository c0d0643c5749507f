"""Values saved by a loader: a tree of JSON, and a raw file of its tensors' elements (templates/loader/README.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torchlink.errors import FileError, InexpressibleError
from torchlink.model.marshalling import NOT_FINITE
from torchlink.model.stored import ITEM_SIZES, StoredTensor, bounded
from torchlink.shown import shortened

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torchlink.model.values import Value

DEEPEST = 256  # levels; the loader stops before
MISSING = "Only tensors, numbers, bools, strings, None, lists, tuples and dicts can be saved."


def value_of_tree(tree: object, raw: Path) -> Value:
    """The value, with its tensors in the raw file.

    Raises:
        InexpressibleError: a part of it is an object, or a tensor whose elements cannot be read.
        MalformedFileError: the raw file is shorter than the tree requires.
    """
    return _value(tree, raw, raw.stat().st_size, "output", 0)


def _value(tree: object, raw: Path, end: int, label: str, depth: int) -> Value:
    if depth > DEEPEST:
        raise FileError(f"{label} is nested too deeply to be saved.")
    if isinstance(tree, list):
        return [_value(part, raw, end, f"{label}[{index}]", depth + 1) for index, part in enumerate(tree)]
    assert isinstance(tree, dict)  # noqa: S101 - the loader writes nothing else
    kind: str = tree["type"]
    value: Any = tree.get("value")
    if kind == "none":
        return None
    if kind == "string":
        return str(value)
    if kind == "scalar":
        return _scalar(value)
    if kind == "tuple":
        return tuple(
            _value(part, raw, end, f"{label}[{index}]", depth + 1) for index, part in enumerate(value)
        )
    if kind == "generic_dict":
        return {
            str(key): _value(part, raw, end, f"{label}[{shortened(key)!r}]", depth + 1)
            for key, part in value.items()
        }
    if kind == "dict":
        return {
            _key(key, label): _value(part, raw, end, f"{label}[{_shown(key)}]", depth + 1)
            for key, part in value
        }
    if kind == "tensor" and "offset" in tree:
        return _tensor(tree, raw, end, label)
    what = f"a tensor ({tree.get('note', '')})" if kind == "tensor" else f"a {shortened(str(value))}"
    raise InexpressibleError(f"{label} is {what}, which no file format can store.", hint=MISSING)


def _tensor(tree: Mapping[str, Any], raw: Path, end: int, label: str) -> StoredTensor:
    dtype, shape = str(tree["data_type"]), tuple(tree["shape"])
    if dtype not in ITEM_SIZES:
        raise InexpressibleError(
            f"{label} is a tensor of dtype {dtype}, which no file format can store.", hint=MISSING
        )
    strides, step = [1] * len(shape), 1
    for axis in range(len(shape) - 1, -1, -1):
        strides[axis] = step
        step *= max(shape[axis], 1)
    return bounded(StoredTensor(dtype, shape, tuple(strides), int(tree["offset"]), raw, label), end)


def _scalar(value: Any) -> bool | int | float | complex:
    """A number; a complex one is stored as a pair."""
    return complex(*map(_finite, value)) if isinstance(value, list) else _finite(value)


def _finite(value: Any) -> bool | int | float:
    """A real number; a non-finite one is stored as a string."""
    number: bool | int | float = NOT_FINITE[value] if isinstance(value, str) else value
    return number


def _key(tree: Mapping[str, Any], label: str) -> bool | int | float | str:
    if tree["type"] == "string":
        return str(tree["value"])
    if tree["type"] == "scalar" and not isinstance(tree["value"], list):
        number = _scalar(tree["value"])
        assert not isinstance(number, complex)  # noqa: S101 - those are pairs
        return number
    raise InexpressibleError(f"{label} has a key that is not a string, number or bool.", hint=MISSING)


def _shown(tree: Mapping[str, Any]) -> str:
    return shortened(repr(tree.get("value")))
