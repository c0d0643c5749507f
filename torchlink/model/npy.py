"""NumPy's `.npy` and `.npz` files: the header says all, the data stay where they are.

The format is NEP 1 (`numpy/lib/format.py`): magic, version, length of a header that is a Python literal.
"""

from __future__ import annotations

import ast
import struct
from typing import TYPE_CHECKING

from torchlink.errors import MalformedFileError
from torchlink.model.dtypes import NUMPY
from torchlink.model.stored import StoredTensor, bounded

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.model.archive import Archive

LONGEST_HEADER = 10_000  # numpy's own limit


def read_npy(path: Path, start: int, end: int, label: str) -> StoredTensor:
    """The array whose `.npy` form lies in bytes `start` to `end` of a file.

    Raises:
        MalformedFileError: damaged, or of a dtype or byte order that libtorch does not have.
    """
    with path.open("rb") as file:
        file.seek(start)
        raw = file.read(12 + LONGEST_HEADER)
    if not raw.startswith(b"\x93NUMPY") or len(raw) < 12:
        raise MalformedFileError(f"{path} is a damaged NumPy file.")
    prefix = 10 if raw[6] == 1 else 12
    (length,) = struct.unpack("<H" if raw[6] == 1 else "<I", raw[8:prefix])
    try:
        header = ast.literal_eval(raw[prefix : prefix + length].decode("utf-8").strip())
        kind, fortran, shape = header["descr"], header["fortran_order"], tuple(header["shape"])
        sizes = [int(size) for size in shape]
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise MalformedFileError(f"{path}: the header of a NumPy array is damaged.") from error
    dtype = NUMPY.get(kind[1:]) if isinstance(kind, str) else None
    if dtype is None or kind[0] not in "<|=":
        raise MalformedFileError(
            f"{path}: a NumPy array of dtype {kind} has no counterpart in libtorch.",
            hint='Convert it before saving: array.astype("float32").',
        )
    order = range(len(sizes)) if fortran else range(len(sizes) - 1, -1, -1)
    strides, step = [1] * len(sizes), 1
    for axis in order:
        strides[axis] = step
        step *= max(sizes[axis], 1)
    return bounded(
        StoredTensor(dtype, tuple(sizes), tuple(strides), start + prefix + length, path, label), end
    )


def read_npz(archive: Archive) -> tuple[StoredTensor, ...]:
    """The arrays of an uncompressed `.npz` archive, labelled with their names."""
    found = []
    for name, entry in archive.entries.items():
        if name.endswith(".npy"):
            start = archive.offset(name)
            found.append(
                read_npy(archive.path, start, start + entry.size, f"[{name.removesuffix('.npy')!r}]")
            )
    return tuple(found)
