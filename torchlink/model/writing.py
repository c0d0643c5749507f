"""Values written to files: `.npz`, `.pt`, `.safetensors` and `.json`; tensors go from file to file in pieces."""

from __future__ import annotations

import json
import math
import struct
import zipfile
from typing import IO, TYPE_CHECKING, TypeAlias

from torchlink.errors import InexpressibleError, UsageError
from torchlink.model.elements import pack, unpack
from torchlink.model.safetensors import DTYPES
from torchlink.model.stored import ITEM_SIZES, NUMPY, STORAGES, InlineTensor, StoredTensor
from torchlink.shown import shortened, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from torchlink.model.values import Value

Number: TypeAlias = "bool | int | float | complex"
PIECE = 1 << 20  # bytes
ALIGNMENT = 64  # of a tensor's elements in a zip archive, as torch.save aligns them
LARGE = 1 << 31  # bytes of an entry from which on the archive's 64-bit form is used
NUMPY_NAMES = {dtype: ("|" if ITEM_SIZES[dtype] == 1 else "<") + name for name, dtype in NUMPY.items()}
SAFETENSORS_NAMES = {dtype: name for name, dtype in DTYPES.items()}
STORAGE_NAMES = {dtype: name for name, dtype in STORAGES.items()}
ALONE = "output"  # the name of a value that is one tensor or number
HINT = "Save to .pt or .json, which can store every value."


def check_suffix(path: Path) -> None:
    """Reject a file whose suffix is not that of a format that can be written.

    Raises:
        UsageError: it does not.
    """
    if path.suffix.lower() not in WRITERS:
        raise UsageError(
            f"{visible(str(path))}: no format of that name is written.",
            hint=f"End the file's name in one of {', '.join(WRITERS)}.",
        )


def write_values(value: Value, place: Path, file: IO[bytes]) -> None:
    """Write a value in the format that the name of its place ends in.

    Raises:
        InexpressibleError: the format has no form for a part of it.
        OSError: it cannot be written.
    """
    WRITERS[place.suffix.lower()](value, file)


def contiguous(tensor: StoredTensor | InlineTensor) -> Iterator[bytes]:
    """The elements of a tensor whose elements lie one after the other, in pieces."""
    if isinstance(tensor, InlineTensor):
        yield tensor.data
        return
    left = size_of(tensor)
    with tensor.path.open("rb") as file:
        file.seek(tensor.offset)
        while left:
            piece = file.read(min(PIECE, left))
            if not piece:
                raise OSError(f"{tensor.path} became shorter")
            left -= len(piece)
            yield piece


def size_of(tensor: StoredTensor | InlineTensor) -> int:
    """How many bytes its elements take."""
    return math.prod(tensor.shape) * ITEM_SIZES[tensor.dtype]


def flattened(value: Value) -> dict[str, StoredTensor | InlineTensor]:
    """The tensors of a value, by keys and indices joined with dots; numbers are 0-d tensors, None is left out.

    Raises:
        InexpressibleError: there is a string in it, or two places have one name.
    """
    found: dict[str, StoredTensor | InlineTensor] = {}
    for name, part in _flat(value, ""):
        if name in found:
            raise InexpressibleError(f"Two outputs would be named {shortened(repr(name))}.", hint=HINT)
        found[name] = part
    return found


def _flat(value: Value, name: str) -> Iterator[tuple[str, StoredTensor | InlineTensor]]:
    if isinstance(value, (dict, list, tuple)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in items:
            yield from _flat(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (StoredTensor, InlineTensor)):
        yield name or ALONE, value
    elif isinstance(value, str):
        raise InexpressibleError(
            f"{_shown(name or ALONE)} is a string, but this format stores only tensors.", hint=HINT
        )
    elif value is not None:
        kinds: tuple[tuple[type, str], ...] = (
            (bool, "bool"),
            (int, "int64"),
            (float, "float64"),
            (complex, "complex128"),
        )
        dtype = next(dtype for kind, dtype in kinds if isinstance(value, kind))
        yield name or ALONE, InlineTensor(dtype, (), pack(dtype, [value]))


def _shown(output: str) -> str:
    return "The output" if output == ALONE else f"The output {shortened(output)}"


def _named(dtype: str, names: dict[str, str], output: str, form: str) -> str:
    """The format's name of a dtype."""
    if dtype not in names:
        raise InexpressibleError(f"{_shown(output)} is {dtype}, which {form} does not have.", hint=HINT)
    return names[dtype]


def _entry(archive: zipfile.ZipFile, name: str, size: int, pieces: Iterator[bytes]) -> None:
    """One entry, uncompressed, its content aligned by padding in its header as torch.save does it."""
    info = zipfile.ZipInfo(name)
    large = size >= LARGE
    begin = archive.start_dir + 30 + len(name.encode()) + (20 if large else 0) + 4
    padding = -begin % ALIGNMENT
    info.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    with archive.open(info, "w", force_zip64=large) as entry:
        for piece in pieces:
            entry.write(piece)


def _write_npz(value: Value, file: IO[bytes]) -> None:
    tensors = flattened(value)
    names = {name: _named(tensor.dtype, NUMPY_NAMES, name, ".npz") for name, tensor in tensors.items()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, tensor in tensors.items():
            about = f"{{'descr': '{names[name]}', 'fortran_order': False, 'shape': {tensor.shape}, }}"
            header = about.encode().ljust(-(-(10 + len(about) + 1) // ALIGNMENT) * ALIGNMENT - 11) + b"\n"
            start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
            _entry(archive, f"{name}.npy", len(start) + size_of(tensor), _behind(start, tensor))


def _behind(start: bytes, tensor: StoredTensor | InlineTensor) -> Iterator[bytes]:
    yield start
    yield from contiguous(tensor)


def _write_safetensors(value: Value, file: IO[bytes]) -> None:
    # The widest first, so that all elements are aligned.
    tensors = dict(sorted(flattened(value).items(), key=lambda item: -ITEM_SIZES[item[1].dtype]))
    header: dict[str, object] = {}
    at = 0
    for name, tensor in tensors.items():
        dtype = _named(tensor.dtype, SAFETENSORS_NAMES, name, ".safetensors")
        end = at + size_of(tensor)
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for tensor in tensors.values():
        file.writelines(contiguous(tensor))


def _write_pt(value: Value, file: IO[bytes]) -> None:
    pickler = _Pickler()
    pickler.save(value)
    with zipfile.ZipFile(file, "w") as archive:
        data = b"\x80\x02" + b"".join(pickler.out) + b"."
        for name, content in (("data.pkl", data), ("byteorder", b"little")):
            _entry(archive, f"archive/{name}", len(content), iter((content,)))
        for number, tensor in enumerate(pickler.tensors):
            _entry(archive, f"archive/data/{number}", size_of(tensor), contiguous(tensor))
        _entry(archive, "archive/version", 2, iter((b"3\n",)))


class _Pickler:
    """A pickle of protocol 2 as torch.save writes it, which torch.load(weights_only=True) takes."""

    def __init__(self) -> None:
        self.out: list[bytes] = []
        self.tensors: list[StoredTensor | InlineTensor] = []

    def save(self, value: Value) -> None:
        put = self.out.append
        match value:
            case None:
                put(b"N")
            case bool():
                put(b"\x88" if value else b"\x89")
            case int():
                data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
                put(b"\x8a" + bytes([len(data)]) + data)
            case float():
                put(b"G" + struct.pack(">d", value))
            case complex():
                self.parts(b"c__builtin__\ncomplex\n", [(value.real, value.imag)], b"R")
            case str():
                data = value.encode("utf-8", "surrogatepass")
                put(b"X" + struct.pack("<I", len(data)) + data)
            case list():
                self.parts(b"](", value, b"e")
            case tuple():
                self.parts(b"(", value, b"t")
            case dict():
                self.parts(b"}(", [part for item in value.items() for part in item], b"u")
            case _:
                self.tensor(value)

    def parts(self, begin: bytes, parts: Sequence[Value], end: bytes) -> None:
        """What a container holds, between the opcodes that make it."""
        self.out.append(begin)
        for part in parts:
            self.save(part)
        self.out.append(end)

    def tensor(self, tensor: StoredTensor | InlineTensor) -> None:
        """A call of torch's own function that makes a tensor of a storage."""
        put, elements = self.out.append, math.prod(tensor.shape)
        typed = tensor.dtype in STORAGE_NAMES
        put(b"ctorch._utils\n_rebuild_tensor_v%d\n((" % (2 if typed else 3))
        self.save("storage")
        put(
            f"ctorch\n{STORAGE_NAMES[tensor.dtype]}\n".encode()
            if typed
            else b"ctorch.storage\nUntypedStorage\n"
        )
        self.save(str(len(self.tensors)))
        self.save("cpu")
        self.save(elements if typed else size_of(tensor))
        put(b"tQ")
        self.save(0)
        self.save(tensor.shape)
        self.save(
            tuple(
                math.prod(max(size, 1) for size in tensor.shape[axis + 1 :])
                for axis in range(len(tensor.shape))
            )
        )
        put(b"\x89ccollections\nOrderedDict\n)R")
        if not typed:
            put(f"ctorch\n{tensor.dtype}\n".encode())
        put(b"tR")
        self.tensors.append(tensor)


def json_text(value: Value) -> str:
    """A value in the marshalling of docs/values.md."""
    return "".join(_json(value))


def _write_json(value: Value, file: IO[bytes]) -> None:
    for text in _json(value):
        file.write(text.encode())
    file.write(b"\n")


def _json(value: Value) -> Iterator[str]:
    """The marshalling of docs/values.md, piece by piece."""
    match value:
        case None:
            yield '{"type":"none"}'
        case str():
            yield f'{{"type":"string","value":{json.dumps(value)}}}'
        case bool() | int() | float() | complex():
            dtype = {bool: "bool", int: "int64", float: "float64", complex: "complex128"}[type(value)]
            yield f'{{"type":"scalar","data_type":"{dtype}","value":{number_text(value)}}}'
        case list():
            yield from _listed("[", value, "]")
        case tuple():
            yield from _listed('{"type":"tuple","value":[', value, "]}")
        case dict() if all(isinstance(key, str) for key in value):
            yield '{"type":"generic_dict","value":{'
            for index, (key, part) in enumerate(value.items()):
                yield f"{',' if index else ''}{json.dumps(key)}:"
                yield from _json(part)
            yield "}}"
        case dict():
            yield from _listed('{"type":"dict","value":[', [list(pair) for pair in value.items()], "]}")
        case _:
            sizes = ",".join(map(str, value.shape))
            yield f'{{"type":"tensor","data_type":"{value.dtype}","shape":[{sizes}],"value":['
            first = True
            for piece in contiguous(value):
                numbers = unpack(value.dtype, piece)
                text = ",".join(number_text(number, value.dtype) for number in numbers)
                yield text if first else f",{text}"
                first = False
            yield "]}"


def _listed(begin: str, parts: list[Value] | tuple[Value, ...], end: str) -> Iterator[str]:
    yield begin
    for index, part in enumerate(parts):
        if index:
            yield ","
        yield from _json(part)
    yield end


def number_text(number: Number, dtype: str = "") -> str:
    """A number as JSON: the shortest text that is read back as the same value of the dtype."""
    if isinstance(number, complex):
        part = "float64" if dtype in ("", "complex128") else "float32"
        return f"[{number_text(number.real, part)},{number_text(number.imag, part)}]"
    if isinstance(number, bool):
        return "true" if number else "false"
    if not isinstance(number, float):
        return str(number)
    if not math.isfinite(number):
        return '"NaN"' if math.isnan(number) else '"Infinity"' if number > 0 else '"-Infinity"'
    if dtype not in ("", "float64"):
        for digits in (6, 7, 8):
            short = f"{number:.{digits}g}"
            if struct.pack("<f", float(short)) == struct.pack("<f", number):
                return repr(float(short))
    return repr(number) if dtype in ("", "float64") else repr(float(f"{number:.9g}"))


WRITERS: dict[str, Callable[[Value, IO[bytes]], None]] = {
    ".npz": _write_npz,
    ".pt": _write_pt,
    ".json": _write_json,
    ".safetensors": _write_safetensors,
}
