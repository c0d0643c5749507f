"""The tensors of a `torch.save`, `torch.jit.save` or C++ `torch::save` archive.

`data.pkl` describes the tensors, `data/<key>` holds each storage's raw elements (`torch/serialization.py`,
`torch/_utils.py: _rebuild_*`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.errors import FileError, MalformedFileError
from torchlink.model.archive import Archive, open_archive
from torchlink.model.npy import read_npz
from torchlink.model.pickle_reader import MAX_BYTES, Call, Global, OtherKey, Persistent, read_pickle
from torchlink.model.stored import HOW_TO_SAVE, ITEM_SIZES, STORAGES, StoredTensor, bounded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEEPEST = 32  # levels of containers
MOST = 50_000  # values and tensors looked at, so that a structure that shares its parts a billion times ends
LONGEST_KEY = 100  # letters of it that a label or a message shows
INT64 = range(-(1 << 63), 1 << 63)

REBUILD = "torch._utils._rebuild_tensor"
PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")


def read_archive(path: Path) -> tuple[StoredTensor, ...]:
    """The tensors of a zip archive that PyTorch or NumPy wrote, in the order of what was saved.

    Raises:
        FileError: the archive is of another kind, or holds objects that are no tensors.
        MalformedFileError: it is damaged, or a tensor in it cannot be read in place.
    """
    archive = open_archive(path)
    if archive is None:
        raise MalformedFileError(f"{path} is a truncated zip archive.", hint="Copy or download it again.")
    if "data.pkl" not in archive.entries:
        if any(name.endswith(".npy") for name in archive.entries):
            return read_npz(archive)
        raise FileError(f"{path} is a zip archive without tensors in it.", hint=HOW_TO_SAVE)
    if archive.contains("code/", b"def forward("):
        raise FileError(f"{path} is a TorchScript model, not a file of tensors.", hint=HOW_TO_SAVE)
    if "byteorder" in archive.entries and archive.read("byteorder") != b"little":
        raise MalformedFileError(f"{path} was saved on a big-endian machine.", hint=HOW_TO_SAVE)
    return tuple(_Walk(archive).tensors(read_pickle(archive.read("data.pkl", MAX_BYTES)), ""))


class _Walk:
    """Going through an unpickled value for its tensors."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.looked_at = 0
        self.starts: dict[str, int] = {}  # of storages

    def tensors(self, value: object, label: str, depth: int = 0) -> Iterator[StoredTensor]:
        """The tensors of a value, depth first."""
        for part, where in self.parts(value, label):
            self.looked_at += 1
            if depth > DEEPEST or self.looked_at > MOST:
                raise MalformedFileError(f"{self.archive.path} holds too many or too deeply nested values.")
            if isinstance(part, StoredTensor):
                yield part
            else:
                yield from self.tensors(part, where, depth + 1)

    def parts(self, value: object, label: str) -> Iterator[tuple[object, str]]:
        """A container's parts, or a tensor itself; nothing for a plain value."""
        if isinstance(value, dict):
            yield from ((part, f"{label}[{_shown(key)}]") for key, part in value.items())
        elif isinstance(value, (list, tuple)):
            yield from ((part, f"{label}[{index}]") for index, part in enumerate(value))
        elif isinstance(value, Call):
            yield from self.called(value, label)

    def called(self, call: Call, label: str) -> Iterator[tuple[object, str]]:
        """The parts of what a call would give: a tensor, a parameter, a dict or a TorchScript object."""
        name = call.name
        arguments = call.arguments if isinstance(call.arguments, tuple) else ()
        if name in (REBUILD, f"{REBUILD}_v2", f"{REBUILD}_v3"):
            yield self.stored(arguments, label), label
        elif name in PARAMETERS and arguments:
            yield arguments[0], label
        elif name == "collections.OrderedDict":
            yield from ((part, f"{label}[{_shown(key)}]") for key, part in call.items)
        elif name.startswith("__torch__.") and isinstance(call.state, dict):
            yield from ((part, f"{label}[{_shown(key)}]") for key, part in call.state.items())
        else:
            raise FileError(
                f"{self.archive.path} holds a {name[:LONGEST_KEY] or 'nameless call'}, which is no plain tensor.",
                hint=HOW_TO_SAVE,
            )

    def stored(self, arguments: tuple[object, ...], label: str) -> StoredTensor:
        """The tensor of a `_rebuild_tensor*` call: (storage, offset, size, stride, …)."""
        match arguments:
            case (
                Persistent(("storage", Global() as storage, str() as key, *_)),
                int() as skip,
                tuple() as size,
                tuple() as stride,
                *rest,
            ):
                pass
            case _:
                raise MalformedFileError(f"{self.archive.path}: a tensor's description is damaged.")
        dtype = STORAGES.get(storage.name)
        metadata = rest[2:]
        if storage.name == "UntypedStorage" and len(rest) > 2:
            named, metadata = rest[2], rest[3:]
            dtype = named.name if isinstance(named, Global) and named.name in ITEM_SIZES else None
            storage = named if isinstance(named, Global) else storage
        if dtype is None:
            raise MalformedFileError(
                f"{self.archive.path}: a tensor of dtype {storage.name[:LONGEST_KEY]} cannot be compared.",
                hint="Convert it to float32 before saving.",
            )
        if any(isinstance(flags, dict) and any(flags.values()) for flags in metadata):
            raise MalformedFileError(
                f"{self.archive.path}: a tensor is saved as a lazy conjugate or negative.",
                hint="Save tensor.resolve_conj().resolve_neg() instead.",
            )
        entry = self.archive.entries.get(f"data/{key}")
        if entry is None:
            raise MalformedFileError(f"{self.archive.path}: the storage data/{key[:LONGEST_KEY]} is missing.")
        start = self.starts.get(entry.name, -1)
        if start < 0:
            start = self.starts[entry.name] = self.archive.offset(entry.name)
        tensor = StoredTensor(
            dtype,
            _integers(size),
            _integers(stride),
            start + skip * ITEM_SIZES[dtype],
            self.archive.path,
            label,
        )
        return bounded(tensor, start + entry.size)


def _shown(key: object) -> str:
    """A key of a dict, as a label shows it."""
    if isinstance(key, (OtherKey, Global)):
        return "…"
    short = key[:LONGEST_KEY] if isinstance(key, (str, bytes)) else key
    return repr(short)


def _integers(values: object) -> tuple[int, ...]:
    """A tuple of integers; whatever else stands there becomes a -1, which `bounded` refuses."""
    given = values if isinstance(values, tuple) else (values,)
    return tuple(value if isinstance(value, int) and value in INT64 else -1 for value in given)
