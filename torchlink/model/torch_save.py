"""The tensors of a `torch.save`, `torch.jit.save` or C++ `torch::save` archive.

`data.pkl` describes the tensors, `data/<key>` contains each storage's raw elements (`torch/serialization.py`,
`torch/_utils.py: _rebuild_*`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.errors import FileError, MalformedFileError
from torchlink.model.archive import Archive, open_archive
from torchlink.model.npy import read_npz, read_npz_values
from torchlink.model.pickle_reader import MAX_BYTES, Call, Global, OtherKey, Persistent, read_pickle
from torchlink.model.stored import HOW_TO_SAVE, ITEM_SIZES, STORAGES, StoredTensor, bounded
from torchlink.model.values import Content

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from torchlink.model.values import Value

DEEPEST = 32  # levels of containers
MOST = 50_000  # values and tensors looked at, so that a structure that shares its parts a billion times ends
LONGEST_KEY = 100  # letters of it that a label or a message shows
INT64 = range(-(1 << 63), 1 << 63)

REBUILD = "torch._utils._rebuild_tensor"
PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")


def read_archive(path: Path) -> tuple[StoredTensor, ...]:
    """The tensors of a zip archive that PyTorch or NumPy wrote, in the order in which they were saved.

    Raises:
        FileError: the archive is of another kind, or contains objects that are not tensors.
        MalformedFileError: it is damaged, or a tensor in it cannot be read in place.
    """
    archive = _opened(path)
    if "data.pkl" not in archive.entries:
        return read_npz(archive)
    return tuple(_Walk(archive).tensors(_saved(archive), ""))


def read_archive_value(path: Path) -> Content:
    """The value saved in such an archive, with its lists, tuples, dicts, numbers and strings.

    Raises:
        FileError: the archive is of another kind, or contains objects of other classes.
        MalformedFileError: as for `read_archive`.
    """
    archive = _opened(path)
    if "data.pkl" not in archive.entries:
        return Content(read_npz_values(archive), path, named=True)
    return Content(_Walk(archive).value(_saved(archive), ""), path)


def _opened(path: Path) -> Archive:
    """An archive that contains tensors according to its table of contents."""
    archive = open_archive(path)
    if archive is None:
        raise MalformedFileError(f"{path} is a truncated zip archive.", hint="Copy or download it again.")
    if "data.pkl" not in archive.entries:
        if any(name.endswith(".npy") for name in archive.entries):
            return archive
        raise FileError(f"{path} is a zip archive without tensors in it.", hint=HOW_TO_SAVE)
    if archive.contains("code/", b"def forward("):
        raise FileError(f"{path} is a TorchScript model, not a file of tensors.", hint=HOW_TO_SAVE)
    if "byteorder" in archive.entries and archive.read("byteorder") != b"little":
        raise MalformedFileError(f"{path} was saved on a big-endian machine.", hint=HOW_TO_SAVE)
    return archive


def _saved(archive: Archive) -> object:
    return read_pickle(archive.read("data.pkl", MAX_BYTES))


class _Walk:
    """Searches an unpickled value for its tensors."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.looked_at = 0
        self.starts: dict[str, int] = {}  # of storages

    def tensors(self, value: object, label: str, depth: int = 0) -> Iterator[StoredTensor]:
        """The tensors of a value, depth first."""
        for part, where in self.parts(value, label):
            self.looked_at += 1
            if depth > DEEPEST or self.looked_at > MOST:
                raise MalformedFileError(
                    f"{self.archive.path} contains too many or too deeply nested values."
                )
            if isinstance(part, StoredTensor):
                yield part
            else:
                yield from self.tensors(part, where, depth + 1)

    def value(self, value: object, label: str, depth: int = 0) -> Value:
        """A value with its containers."""
        self.looked_at += 1
        if depth > DEEPEST or self.looked_at > MOST:
            raise MalformedFileError(f"{self.archive.path} contains too many or too deeply nested values.")
        if isinstance(value, dict):
            return self.mapping(value.items(), label, depth)
        if isinstance(value, (list, tuple)):
            parts = [self.value(part, f"{label}[{index}]", depth + 1) for index, part in enumerate(value)]
            return tuple(parts) if isinstance(value, tuple) else parts
        if isinstance(value, Call):
            return self.called_value(value, label, depth)
        if (
            value is None
            or isinstance(value, (bool, float, str))
            or (isinstance(value, int) and value in INT64)
        ):
            return value
        raise FileError(
            f"{self.place(label)} contains {_what(value)}, which cannot be an argument.", hint=HOW_TO_SAVE
        )

    def mapping(self, items: Iterable[tuple[object, object]], label: str, depth: int) -> Value:
        """A dict."""
        made: dict[bool | int | float | str, Value] = {}
        for key, part in items:
            where = f"{label}[{_shown(key)}]"
            if not isinstance(key, (bool, int, float, str)):
                raise FileError(
                    f"{self.place(where)}: a key must be a string, a number or a bool.", hint=HOW_TO_SAVE
                )
            made[key] = self.value(part, where, depth + 1)
        return made

    def called_value(self, call: Call, label: str, depth: int) -> Value:
        """The result that a call would have."""
        match call.name, call.arguments:
            case ("torch.Size", (tuple() | list() as sizes,)):
                return self.value(tuple(sizes), label, depth + 1)
            case (("__builtin__.complex" | "builtins.complex"), (float() as re, float() as im)):
                return complex(re, im)
            case ("torch.device", (str() as device, *index)):
                return ":".join([device, *(str(each) for each in index if isinstance(each, int))])
            case (("collections.OrderedDict" | "collections.defaultdict"), _):
                return self.mapping(call.items, label, depth)
            case (str() as name, _) if name.startswith("__torch__.") and isinstance(call.state, dict):
                return self.mapping(call.state.items(), label, depth)
        ((part, where),) = list(self.called(call, label))
        return part if isinstance(part, StoredTensor) else self.value(part, where, depth + 1)

    def place(self, label: str) -> str:
        """The file, and the place in it."""
        return f"{self.archive.path}{label and f': {label}'}"

    def parts(self, value: object, label: str) -> Iterator[tuple[object, str]]:
        """A container's parts, or a tensor itself; nothing for a plain value."""
        if isinstance(value, dict):
            yield from ((part, f"{label}[{_shown(key)}]") for key, part in value.items())
        elif isinstance(value, (list, tuple)):
            yield from ((part, f"{label}[{index}]") for index, part in enumerate(value))
        elif isinstance(value, Call):
            yield from self.called(value, label)

    def called(self, call: Call, label: str) -> Iterator[tuple[object, str]]:
        """The parts of the result that a call would have: a tensor, a parameter, a dict or a TorchScript object."""
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
                f"{self.archive.path} contains a {name[:LONGEST_KEY] or 'call without a name'}, not a plain tensor.",
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


def _what(value: object) -> str:
    """A value that cannot be an argument, described for a message."""
    if isinstance(value, int):
        return "a number that does not fit int64"
    name = str(value)[:LONGEST_KEY] if isinstance(value, Global) else type(value).__name__.lower()
    return f"a {name}"


def _shown(key: object) -> str:
    """A key of a dict, as a label shows it."""
    if isinstance(key, (OtherKey, Global)):
        return "…"
    short = key[:LONGEST_KEY] if isinstance(key, (str, bytes)) else key
    return repr(short)


def _integers(values: object) -> tuple[int, ...]:
    """A tuple of integers; anything else becomes -1, which `bounded` rejects."""
    given = values if isinstance(values, tuple) else (values,)
    return tuple(value if isinstance(value, int) and value in INT64 else -1 for value in given)
