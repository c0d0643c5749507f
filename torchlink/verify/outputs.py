"""What a model's forward returned: one typed object for each tensor and each plain value in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Number: TypeAlias = "bool | int | float | complex"


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor or a plain value that forward returned.

    Lists, tuples and dicts are taken apart: `path` says where the output stood, the outermost step first, an index
    for a list or a tuple, a field's name for a named tuple, a key for a dict; it is empty where forward returned
    this alone. A key that is no number and no string is there as text. `label` is the path for people.
    """

    label: str  # "output", "output[0]", "output.logits"
    path: tuple[str | bool | int | float, ...]
    type: str  # "tensor" | "int" | "float" | "bool" | "str" | "none", else TorchScript's word for it
    value: bool | int | float | str | None = (
        None  # of what is no tensor; the type's name where it is none of these
    )
    # The others are a tensor's; without dtype and shape where it is undefined or cannot be looked at.
    dtype: str | None = None  # "float32"
    shape: tuple[int, ...] | None = None
    device: str | None = None  # "cpu", "cuda:0"
    values: tuple[Number, ...] = ()  # the first 8
    min: float | None = (
        None  # of the finite values, as mean and max; None where there are none, and for complex ones
    )
    max: float | None = None
    mean: float | None = None
    non_finite: int = 0  # how many values are not finite
    note: str = ""  # why the values that are shown are not the tensor's own


def output_from(event: Mapping[str, Any]) -> Output:
    """The output that the loader describes so: templates/loader/README.md."""
    kind, value = str(event["type"]), event.get("value")
    shape = event.get("shape")
    return Output(
        label=str(event["label"]),
        path=tuple(event["path"]),
        type=kind,
        value=_number(value) if kind == "float" else value,
        dtype=event.get("dtype"),
        shape=None if shape is None else tuple(shape),
        device=event.get("device"),
        values=tuple(_number(each) for each in event.get("values", ())),
        min=_number(event.get("min")),
        max=_number(event.get("max")),
        mean=_number(event.get("mean")),
        non_finite=int(event.get("non_finite", 0)),
        note=str(event.get("note", "")),
    )


def _number(value: Any) -> Any:
    """A number from JSON, where one that is not finite is a string, and a complex one is a pair."""
    if isinstance(value, list):
        return complex(*map(_number, value))
    return float(value) if isinstance(value, str) else value
