"""The outputs of a model's forward: one typed object for each tensor and each plain value.

A stored tensor is matched with an output by key if both have keys, else by position.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from torchlink.errors import MismatchError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


Number: TypeAlias = "bool | int | float | complex"


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor or a plain value that forward returned.

    Lists, tuples and dicts are flattened: `path` is the output's place, the outermost step first: an index for a
    list or a tuple, a field's name for a named tuple, a key for a dict; it is empty if forward returned only this.
    A key that is neither a number nor a string is given as text. `label` is the path for people.
    """

    label: str  # "output", "output[0]", "output.logits"
    path: tuple[str | bool | int | float, ...]
    type: str  # "tensor" | "int" | "float" | "complex" | "bool" | "str" | "none", else TorchScript's word for it
    value: bool | int | float | complex | str | None = (
        None  # of a value that is not a tensor; the type's name for any other type
    )
    # The fields below are a tensor's; without dtype and shape if it is undefined or cannot be inspected.
    dtype: str | None = None  # "float32"
    shape: tuple[int, ...] | None = None
    device: str | None = None  # "cpu", "cuda:0"
    values: tuple[Number, ...] = ()  # the first 8
    min: float | None = (
        None  # of the finite values, as mean and max; None if there are none, and for complex values
    )
    max: float | None = None
    mean: float | None = None
    non_finite: int = 0  # the number of non-finite values
    note: str = ""  # why the values shown are not the tensor's own


def output_from(event: Mapping[str, Any]) -> Output:
    """The output that the loader describes: templates/loader/README.md."""
    kind, value = str(event["type"]), event.get("value")
    shape = event.get("shape")
    return Output(
        label=str(event["label"]),
        path=tuple(event["path"]),
        type=kind,
        value=_number(value) if kind in ("float", "complex") else value,
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
    """A number from JSON, where a non-finite one is a string and a complex one is a pair."""
    if isinstance(value, list):
        return complex(*map(_number, value))
    return float(value) if isinstance(value, str) else value


STEP = re.compile(r"""\[('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\]]*)\]""")
WORDS = {"True": "true", "False": "false"}
SHOWN = 5


def positions(
    outputs: Sequence[str], stored: Sequence[str], source: str, what: str = "tensor"
) -> tuple[int, ...] | MismatchError:
    """For each output, the number of the stored tensor that it is compared with.

    Args:
        outputs: labels of the tensors that forward returned, as the loader writes them: `output.boxes[1]`.
        stored: labels of the tensors of the file: `['boxes'][1]`.
        source: the file's name.
        what: "tensor", or "value" if not all are tensors.

    Returns:
        The numbers, or the error if keys or counts differ.
    """
    named = [as_output(label) for label in stored]
    distinct = len(set(outputs)) == len(outputs) and len(set(named)) == len(named)
    if distinct and set(outputs) == set(named):
        return tuple(map(named.index, outputs))
    if distinct and has_keys(stored) and any("." in label for label in outputs):
        only_stored = [label for label in named if label not in outputs]
        only_returned = [label for label in outputs if label not in named]
        return MismatchError(
            f"forward did not return what {source} names: "
            + "; ".join(
                f"{_listed(labels)} {where}"
                for labels, where in ((only_stored, "is missing"), (only_returned, "is not in the file"))
                if labels
            )
            + ".",
            hint="Save exactly what forward returns, under the same keys.",
        )
    if len(outputs) != len(stored):
        return MismatchError(
            f"forward returned {_count(len(outputs), what)}, but {source} contains {len(stored)}.",
            hint=f"Save exactly the {what}s that forward returns, in their order.",
        )
    return tuple(range(len(outputs)))


def as_output(label: str) -> str:
    """A stored tensor's label as the loader would write it: `['boxes'][1]` is `output.boxes[1]`."""
    return "output" + "".join(
        f"[{WORDS.get(text, text)}]" if key is None else f".{key}" for text, key in _steps(label)
    )


def has_keys(labels: Sequence[str]) -> bool:
    """Whether stored tensors have names that the user chose.

    Consecutive numbers are not names: C++'s `torch::save` of a vector writes `'0'`, `'1'`, …, and
    `numpy.savez` of unnamed arrays `'arr_0'`, `'arr_1'`, ….
    """
    keys = [[key for _, key in _steps(label) if key is not None] for label in labels]
    counted = [[[f"{prefix}{number}"] for number in range(len(keys))] for prefix in ("", "arr_")]
    return any(keys) and keys not in counted


def _steps(label: str) -> list[tuple[str, str | None]]:
    """The keys and indices of a stored tensor: each as written, and as the string that a key stands for."""
    import ast

    written: list[str] = STEP.findall(label)
    return [(text, str(ast.literal_eval(text)) if text[:1] in ("'", '"') else None) for text in written]


def _listed(labels: Sequence[str]) -> str:
    """The first few labels."""
    return ", ".join(labels[:SHOWN]) + (f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else "")


def _count(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"
