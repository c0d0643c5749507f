"""Tensors in files, found without reading their data: dtype, shape, strides and the location of the bytes."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from torchlink.errors import FileError
from torchlink.model.stored import HOW_TO_SAVE
from torchlink.status import not_about_the_file

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.model.stored import StoredTensor


def read_expected(path: Path) -> tuple[StoredTensor, ...]:
    """The tensors of a file, in the order in which they were saved.

    Takes `.pt` files of `torch.save` (1.6 and later), of `torch.jit.save` and C++ `torch::save`, `.npy` and
    `.npz`. Lists, tuples and dicts are traversed in order; values other than tensors are left out.

    Raises:
        FileError: the file cannot be read, or is of another kind.
        MalformedFileError: it is damaged, or contains something that cannot be read in place (compressed, sparse,
            big-endian, of a dtype that libtorch does not have).
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise FileError(f"{path} is not a regular file.", hint=HOW_TO_SAVE)
        with path.open("rb") as file:
            head = file.read(8)
    except (OSError, ValueError) as error:
        not_about_the_file(path, error)
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
        raise FileError(f"{path} contains no tensors.", hint=HOW_TO_SAVE)
    return found
