"""The dtypes of tensors: torch's names, their sizes, and their names in the file formats.

A tensor that is in a file: the facts known without reading its data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchlink.errors import MalformedFileError

if TYPE_CHECKING:
    from pathlib import Path


# torch's name -> bytes per element, for every dtype that a loader can create; an older libtorch lacks the last of them.
ITEM_SIZES = {
    "float32": 4,
    "float64": 8,
    "float16": 2,
    "bfloat16": 2,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "uint8": 1,
    "bool": 1,
    "complex64": 8,
    "complex128": 16,
    "complex32": 4,
    "uint16": 2,
    "uint32": 4,
    "uint64": 8,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "float8_e4m3fnuz": 1,
    "float8_e5m2fnuz": 1,
    "float8_e8m0fnu": 1,
}
ALIASES = {
    "float": "float32",
    "double": "float64",
    "half": "float16",
    "short": "int16",
    "int": "int32",
    "long": "int64",
    "chalf": "complex32",
    "cfloat": "complex64",
    "cdouble": "complex128",
}
# torch's typed storage classes, as pickles name them.
STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
# NumPy's type strings without the byte order.
NUMPY = {
    "f4": "float32",
    "f8": "float64",
    "f2": "float16",
    "i1": "int8",
    "i2": "int16",
    "i4": "int32",
    "i8": "int64",
    "u1": "uint8",
    "u2": "uint16",
    "u4": "uint32",
    "u8": "uint64",
    "b1": "bool",
    "c8": "complex64",
    "c16": "complex128",
}


def canonical(name: str) -> str | None:
    """Torch's own name of a dtype (`long` -> `int64`), or None if there is no such dtype."""
    bare = name.removeprefix("torch.")
    bare = ALIASES.get(bare, bare)
    return bare if bare in ITEM_SIZES else None


def is_floating(dtype: str) -> bool:
    """Whether values of this dtype can be drawn from a continuous distribution (complex ones too)."""
    return "float" in dtype or "complex" in dtype


MOST_DIMENSIONS = 64  # as many as libtorch itself lets most of its functions have
HOW_TO_SAVE = 'Save the tensors with torch.save(tensors, "tensors.pt") or numpy.save("tensors.npy", array).'


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor whose raw, little-endian elements are stored uncompressed in a file.

    Element (i, j, …) is at byte `offset + item_size * (i * strides[0] + j * strides[1] + …)` of `path`.
    """

    dtype: str  # torch's name, one of `dtypes.ITEM_SIZES`
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements, none negative
    offset: int  # of the first element, in bytes from the file's beginning
    path: Path
    label: str  # its place in the saved value: "" for the only one, "[0]", "['boxes'][1]"


@dataclass(frozen=True, slots=True)
class InlineTensor:
    """A tensor whose elements are in memory: little-endian, in row-major order."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def bounded(tensor: StoredTensor, end: int) -> StoredTensor:
    """Check that all elements of a tensor are before byte `end` of its file, and return it.

    Raises:
        MalformedFileError: they do not.
    """
    sizes, strides = tensor.shape, tensor.strides
    if len(sizes) > MOST_DIMENSIONS:
        raise MalformedFileError(f"{tensor.path}: a tensor cannot have {len(sizes)} dimensions.")
    if len(strides) != len(sizes) or any(number < 0 for number in (*sizes, *strides, tensor.offset)):
        raise MalformedFileError(f"{tensor.path}: a tensor cannot have shape {sizes} and strides {strides}.")
    if 0 not in sizes:
        last = sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
        if tensor.offset + (last + 1) * ITEM_SIZES[tensor.dtype] > end:
            raise MalformedFileError(f"{tensor.path}: a tensor of shape {sizes} is larger than its storage.")
    return tensor
