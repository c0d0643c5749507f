"""A tensor that is in a file: what is known of it without reading its data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchlink.errors import MalformedFileError
from torchlink.model.dtypes import ITEM_SIZES

if TYPE_CHECKING:
    from pathlib import Path

MOST_DIMENSIONS = 64  # as many as libtorch itself lets most of its functions have
HOW_TO_SAVE = 'Save the tensors with torch.save(tensors, "tensors.pt") or numpy.save("tensors.npy", array).'


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor whose raw, little-endian elements lie uncompressed in a file.

    Element (i, j, …) stands at byte `offset + item_size * (i * strides[0] + j * strides[1] + …)` of `path`.
    """

    dtype: str  # torch's name, one of `dtypes.ITEM_SIZES`
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements, none negative
    offset: int  # of the first element, in bytes from the file's beginning
    path: Path
    label: str  # where it stands in what was saved: "" for the only one, "[0]", "['boxes'][1]"


def bounded(tensor: StoredTensor, end: int) -> StoredTensor:
    """The tensor, where all its elements lie before byte `end` of its file.

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
