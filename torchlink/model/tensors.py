"""Tensors in files, found without reading their data: dtype, shape, strides and where the bytes lie."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchlink.errors import FileError, MalformedFileError
from torchlink.model.dtypes import ITEM_SIZES

if TYPE_CHECKING:
    from pathlib import Path

HOW_TO_SAVE = 'Save the tensors with torch.save(outputs, "expected.pt") or numpy.save("expected.npy", array).'


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


def read_expected(path: Path) -> tuple[StoredTensor, ...]:
    """The tensors of a file, in the order in which they were saved.

    Takes `.pt` files of `torch.save` (1.6 and later), of `torch.jit.save` and C++ `torch::save`, `.npy` and
    `.npz`. Lists, tuples and dicts are gone through in order; what is no tensor in them is left out.

    Raises:
        FileError: the file cannot be read, or is of another kind.
        MalformedFileError: it is damaged, or holds what cannot be read in place (compressed, sparse,
            big-endian, of a dtype that libtorch does not have).
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise FileError(f"{path} is not a regular file.", hint=HOW_TO_SAVE)
        with path.open("rb") as file:
            head = file.read(8)
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise FileError(f"Cannot read {path}: {reason}.", hint="Check the path.") from error
    found: tuple[StoredTensor, ...]
    if head.startswith(b"\x93NUMPY"):
        from torchlink.model.npy import read_npy

        found = (read_npy(path, 0, status.st_size, ""),)
    elif head.startswith(b"PK"):
        from torchlink.model.torch_save import read_archive

        found = read_archive(path)
    else:
        from torchlink.model.kind import identify

        raise FileError(f"{path} is {identify(path).detail}, not a file of tensors.", hint=HOW_TO_SAVE)
    if not found:
        raise FileError(f"{path} holds no tensors.", hint=HOW_TO_SAVE)
    return found


def bounded(tensor: StoredTensor, end: int) -> StoredTensor:
    """The tensor, where all its elements lie before byte `end` of its file.

    Raises:
        MalformedFileError: they do not.
    """
    sizes, strides = tensor.shape, tensor.strides
    if len(strides) != len(sizes) or any(number < 0 for number in (*sizes, *strides, tensor.offset)):
        raise MalformedFileError(f"{tensor.path}: a tensor cannot have shape {sizes} and strides {strides}.")
    if 0 not in sizes:
        last = sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
        if tensor.offset + (last + 1) * ITEM_SIZES[tensor.dtype] > end:
            raise MalformedFileError(f"{tensor.path}: a tensor of shape {sizes} is larger than its storage.")
    return tensor
