"""Values in files: tensors, and the lists, tuples, dicts, numbers and strings around them, read without unpickling.

The data of a tensor stay in the file, except for JSON and images.
"""

from __future__ import annotations

import stat
from pathlib import Path  # noqa: TC003 - named tuples are looked at
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from torchlink.errors import FileError
from torchlink.model.stored import InlineTensor, StoredTensor
from torchlink.shown import visible
from torchlink.status import file_kind, not_about_the_file

if TYPE_CHECKING:
    from collections.abc import Iterator

Scalar: TypeAlias = "bool | int | float | complex | str | None"
# A container is Python's own: list, tuple or dict; the keys of a dict are strings, numbers or bools.
Key: TypeAlias = "bool | int | float | str"
Value: TypeAlias = "StoredTensor | InlineTensor | Scalar | list[Value] | tuple[Value, ...] | dict[Key, Value]"

SUFFIXES = (".npy", ".npz", ".pt", ".pth", ".safetensors", ".json", ".png", ".jpg", ".jpeg")
KINDS = "a .npy, .npz, .pt (of torch.save), .safetensors or .json file, or an image"
HEAD = 64  # bytes


class Content(NamedTuple):
    """What a file holds."""

    value: Value
    path: Path
    named: bool = False  # entries by name (.npz, .safetensors): a dict of one may be meant as its tensor


def read_values(path: Path) -> Content:
    """The contents of a file, whose kind is determined from its first bytes.

    Raises:
        FileError: it cannot be read, is of another kind, or holds something that no argument can be.
        MalformedFileError: it is damaged, or a tensor in it cannot be read in place.
    """
    head = _head(path)
    if head.startswith(b"\x93NUMPY"):
        from torchlink.model.npy import read_npy

        return Content(read_npy(path, 0, path.stat().st_size, ""), path)
    if head.startswith(b"PK"):
        from torchlink.model.torch_save import read_archive_value

        return read_archive_value(path)
    suffix = path.suffix.lower()
    if suffix == ".json" or (suffix != ".safetensors" and head.lstrip()[:1] in (b"{", b"[")):
        from torchlink.model.marshalling import read_json

        return Content(read_json(path), path)
    if head[8:9] == b"{":
        from torchlink.model.safetensors import read_safetensors

        return Content(read_safetensors(path), path, named=True)
    from torchlink.model.image import is_image, read_image

    if is_image(head):
        return Content(read_image(path), path)
    from torchlink.model.kind import identify

    raise FileError(
        f"{visible(str(path))}: {identify(path).detail}, not a file of values.", hint=f"Name {KINDS}."
    )


def _head(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise FileError(
                f"{visible(str(path))}: not a regular file (it is {file_kind(status.st_mode)}).",
                hint=f"Name {KINDS}.",
            )
        with path.open("rb") as file:
            return file.read(HEAD)
    except (OSError, ValueError) as error:
        not_about_the_file(path, error)
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise FileError(f"Cannot read {visible(str(path))}: {reason}.", hint="Check the path.") from error


def tensors_in(value: Value, label: str = "") -> Iterator[tuple[str, StoredTensor | InlineTensor]]:
    """The tensors of a value in order, each with its place: `['boxes'][1]`."""
    if isinstance(value, (StoredTensor, InlineTensor)):
        yield label, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from tensors_in(part, f"{label}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for index, part in enumerate(value):
            yield from tensors_in(part, f"{label}[{index}]")
