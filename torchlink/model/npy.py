"""NumPy's `.npy` and `.npz` files: only the header is read, the data stay in the file.

The format is NEP 1 (`numpy/lib/format.py`): magic, version, length of a header that is a Python literal.
"""

from __future__ import annotations

import math
import re
import struct
from typing import TYPE_CHECKING

from torchlink.bounds import LARGEST, whole_number
from torchlink.errors import MalformedFileError
from torchlink.model.stored import (
    ITEM_SIZES,
    MOST_DIMENSIONS,
    NUMPY,
    InlineTensor,
    StoredTensor,
    bounded,
)

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.model.archive import Archive
    from torchlink.model.values import Value

LONGEST_HEADER = 10_000  # numpy's own limit
LONGEST_NAME = 100  # characters of a dtype that a message shows
MOST_ARRAYS = 10_000
MOST_UNPACKED = 16 << 20  # bytes of compressed arrays, together
# A header is a dict of three, in the form of Python's repr; a structured dtype is a list.
FIELD = re.compile(
    r"""['"](descr|fortran_order|shape)['"]\s*:\s*"""
    r"""('[^'\n]*'|"[^"\n]*"|\[[^\n]*\](?=\s*,\s*['"](?:fortran|shape))|True|False|\([\d\sL,]*\))"""
)
FIELDS = {"descr", "fortran_order", "shape"}


def read_npy(path: Path, start: int, end: int, label: str) -> StoredTensor:
    """The array whose `.npy` form is in bytes `start` to `end` of a file.

    Raises:
        MalformedFileError: damaged, or of a dtype or byte order that libtorch does not have.
    """
    with path.open("rb") as file:
        file.seek(start)
        raw = file.read(12 + LONGEST_HEADER)
    return bounded(_described(path, raw, start, label), end)


def _described(path: Path, raw: bytes, start: int, label: str) -> StoredTensor:
    """The array that the header at byte `start` of a file describes."""
    if not raw.startswith(b"\x93NUMPY") or len(raw) < 12:
        raise MalformedFileError(f"{path} is a damaged NumPy file.")
    prefix = 10 if raw[6] == 1 else 12
    (length,) = struct.unpack("<H" if raw[6] == 1 else "<I", raw[8:prefix])
    header = raw[prefix : prefix + min(length, LONGEST_HEADER)].decode("utf-8", "replace").strip()
    values = dict(FIELD.findall(header)) if header.startswith("{") and header.endswith("}") else {}
    sizes = shape_in(values.get("shape", ""))
    if values.keys() != FIELDS or sizes is None:
        raise MalformedFileError(f"{path}: the header of a NumPy array is damaged.")
    kind, fortran = values["descr"].strip("'\""), values["fortran_order"] == "True"
    dtype = NUMPY.get(kind[1:])
    if dtype is None or kind[0] not in "<|=":
        raise MalformedFileError(
            f"{path}: a NumPy array of dtype {kind[:LONGEST_NAME]} has no counterpart in libtorch.",
            hint='Convert it before saving: array.astype("float32").',
        )
    order = range(len(sizes)) if fortran else range(len(sizes) - 1, -1, -1)
    strides, step = [1] * len(sizes), 1
    for axis in order:
        strides[axis] = step
        step *= max(sizes[axis], 1)
    return StoredTensor(dtype, tuple(sizes), tuple(strides), start + prefix + length, path, label)


def shape_in(text: str) -> list[int] | None:
    """The sizes in a tuple such as `(3, 4)` or `(5L,)`; None if it is not a tuple, or not an array's."""
    parts = text.strip("()").split(",")
    if not parts[-1].strip():
        parts.pop()
    if not (text.startswith("(") and all(re.fullmatch(r"\s*\d+L?\s*", part) for part in parts)):
        return None
    sizes = [whole_number(part.strip().rstrip("L")) for part in parts]
    # As NumPy counts them: an empty array has bounds too.
    return sizes if len(sizes) <= MOST_DIMENSIONS and math.prod(filter(None, sizes)) < LARGEST else None


def read_npz(archive: Archive) -> tuple[StoredTensor, ...]:
    """The arrays of an uncompressed `.npz` archive, labelled with their names."""
    found = []
    for name in _arrays(archive):
        entry = archive.entries[name]
        start = archive.offset(name)
        found.append(read_npy(archive.path, start, start + entry.size, f"[{_bare(name)!r}]"))
    return tuple(found)


def read_npz_values(archive: Archive) -> dict[bool | int | float | str, Value]:
    """The arrays of a `.npz` archive by name; compressed ones of moderate size are unpacked.

    Raises:
        MalformedFileError: damaged, or the compressed arrays are larger than `MOST_UNPACKED` in total.
    """
    found: dict[bool | int | float | str, Value] = {}
    left = MOST_UNPACKED
    for name in _arrays(archive):
        entry = archive.entries[name]
        left -= entry.size if entry.method else 0
        if not entry.method or left < 0:
            start = archive.offset(name)  # which rejects compressed entries
            found[_bare(name)] = read_npy(archive.path, start, start + entry.size, f"[{_bare(name)!r}]")
        else:
            found[_bare(name)] = _unpacked(archive, name)
    return found


def _unpacked(archive: Archive, name: str) -> InlineTensor:
    raw = archive.read(name, MOST_UNPACKED)
    tensor = bounded(_described(archive.path, raw[: 12 + LONGEST_HEADER], 0, f"[{_bare(name)!r}]"), len(raw))
    size = math.prod(tensor.shape) * ITEM_SIZES[tensor.dtype]
    if len(tensor.shape) > 1 and tensor.strides[0] == 1 and tensor.strides[-1] != 1:
        archive.offset(name)  # in Fortran's order: only in place, which this refuses
    return InlineTensor(tensor.dtype, tensor.shape, raw[tensor.offset : tensor.offset + size])


def _arrays(archive: Archive) -> list[str]:
    names = [name for name in archive.entries if name.endswith(".npy")]
    if len(names) > MOST_ARRAYS:
        raise MalformedFileError(f"{archive.path} contains more than {MOST_ARRAYS} arrays.")
    return names


def _bare(name: str) -> str:
    return name.removesuffix(".npy")
