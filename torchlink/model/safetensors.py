"""`.safetensors` files: eight bytes with the length of a JSON header, the header, the elements.

The format is that of the safetensors project (`README.md`, "Format").
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from torchlink.bounds import LONGEST_JSON, load_json, whole_number
from torchlink.errors import MalformedFileError
from torchlink.model.stored import ITEM_SIZES, MOST_DIMENSIONS, StoredTensor, bounded
from torchlink.shown import shortened, visible

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.model.values import Value

DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
}
PREFIX = 8
INT64 = range(1 << 63)


def read_safetensors(path: Path) -> dict[bool | int | float | str, Value]:
    """The tensors of a file by name, sorted: the format keeps no order.

    Raises:
        MalformedFileError: damaged, or a tensor is of a dtype that libtorch does not have.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(PREFIX), "little")
        raw = file.read(min(length, LONGEST_JSON + 1))
        end = file.seek(0, 2)
    start = PREFIX + length
    if start > end:
        raise MalformedFileError(f"{visible(str(path))}: its header is cut short.")
    try:
        header = load_json(raw)
    except ValueError as error:
        raise MalformedFileError(f"{visible(str(path))}: its header cannot be read: {error}.") from error
    if not isinstance(header, dict):
        raise MalformedFileError(f"{visible(str(path))}: its header is not a JSON object.")
    header.pop("__metadata__", None)
    found = {name: _tensor(path, name, entry, start, end) for name, entry in header.items()}
    return {name: found[name] for name in sorted(found, key=_natural)}


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Sort `10` after `9`, and numbers before letters."""
    parts = filter(None, re.split(r"(\d+)", name))
    return [(not part.isdecimal(), whole_number(part) if part.isdecimal() else 0, part) for part in parts]


def _tensor(path: Path, name: str, entry: Any, start: int, end: int) -> StoredTensor:
    place = f"{visible(str(path))}: {shortened(repr(name))}"
    match entry:
        case {
            "dtype": str() as kind,
            "shape": list() as shape,
            "data_offsets": [int() as begin, int() as stop],
        }:
            pass
        case _:
            raise MalformedFileError(f"{place}: its entry in the header is damaged.")
    dtype = DTYPES.get(kind)
    if dtype is None:
        raise MalformedFileError(f"{place}: dtype {shortened(repr(kind))} has no counterpart in libtorch.")
    if len(shape) > MOST_DIMENSIONS or not all(type(size) is int and size in INT64 for size in shape):
        raise MalformedFileError(f"{place}: shape {shortened(str(shape))} is not a valid shape.")
    strides, step = [1] * len(shape), 1
    for axis in range(len(shape) - 1, -1, -1):
        strides[axis] = step
        step *= max(shape[axis], 1)
    elements = 0 if 0 in shape else step
    if not 0 <= begin <= stop or stop - begin != elements * ITEM_SIZES[dtype]:
        raise MalformedFileError(
            f"{place}: {stop - begin} bytes of data, but its shape {shape} needs {elements * ITEM_SIZES[dtype]}."
        )
    return bounded(StoredTensor(dtype, tuple(shape), tuple(strides), start + begin, path, f"[{name!r}]"), end)
