"""Identifying a model file from its bytes: nothing is imported, unpickled or run.

The formats are defined in PyTorch's `caffe2/serialize/inline_container.h` (the zip layout),
`torch/serialization.py` (pickles and tars), `torch/export/pt2_archive/` (`.pt2`), and the magic numbers of
the other formats' specifications.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchlink.errors import FileError, ModelError
from torchlink.model.other_files import ModelKind, remedy
from torchlink.status import not_about_the_file

if TYPE_CHECKING:
    from pathlib import Path

HEAD = 4096  # bytes that are read to identify a file that is not a zip archive


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The kind of a file. `detail` is a noun phrase for a message: "a TorchScript model (file format 3)"."""

    path: Path
    kind: ModelKind
    detail: str


def identify(path: Path) -> ModelFile:
    """Identify a file from its bytes; a pipe or a device is never opened.

    Raises:
        FileError: there is no such file, or it may not be read.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return ModelFile(path, "directory", "a directory")
        if not stat.S_ISREG(status.st_mode):
            return ModelFile(path, "special", "a pipe, socket or device, not a regular file")
        with path.open("rb") as file:
            head = file.read(HEAD)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not head:
        return ModelFile(path, "empty", "an empty file")
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        from torchlink.model.other_files import zip_kind

        return ModelFile(path, *zip_kind(path))
    from torchlink.model.other_files import head_kind

    kind, detail = head_kind(head, status.st_size)
    if kind == "shared-library" and head.startswith(b"\x7fELF"):
        from torchlink.model.aoti import is_compiled_library

        if is_compiled_library(path):
            return ModelFile(path, "aoti-library", "a library compiled by AOTInductor")
    return ModelFile(path, kind, detail)


RUN = ("torchscript", "aoti-package", "aoti-library")  # the kinds that a loader runs


def require_model(path: Path) -> ModelFile:
    """The file, where it is a model that a loader runs: TorchScript, or compiled by AOTInductor.

    Raises:
        ModelError: it is something else; the message names it, the hint says what to do.
        FileError: there is no such file, or it may not be read.
    """
    found = identify(path)
    error = refusal(found)
    if error is not None:
        raise error
    return found


def refusal(found: ModelFile) -> ModelError | None:
    """The error for a file that no loader runs; None for one that a loader runs."""
    if found.kind in RUN:
        return None
    return ModelError(
        f"{found.path} is {found.detail}, neither a TorchScript model nor an AOTInductor package.",
        hint=remedy(found.kind, str(found.path)),
    )


def _unreadable(path: Path, error: OSError | ValueError) -> FileError:
    """The error for a file that cannot be opened."""
    not_about_the_file(path, error)
    if isinstance(error, FileNotFoundError):
        return FileError(f"No such file: {path}.", hint="Check the path of the model.")
    if isinstance(error, PermissionError):
        return FileError(
            f"{path} may not be read: permission denied.", hint="Check its permissions with `ls -l`."
        )
    reason = (isinstance(error, OSError) and error.strerror) or error
    return FileError(f"Cannot read {path}: {reason}.", hint="Check the path of the model.")
