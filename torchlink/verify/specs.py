"""The arguments of `forward`: tensors and plain values, as frozen objects with two written forms.

The text form is what a user types after `--input`; the wire form is what the loader reads: words separated by
one space, each value led by its kind, containers by the number of their parts, strings percent-encoded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.model.stored import StoredTensor
    from torchlink.model.values import Value

SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./~")
NO_DIMENSIONS = "-"  # in the wire form: the shape of a 0-dim tensor


class InputSpec(ABC):
    """One argument of `forward`, or a part of one."""

    __slots__ = ()

    @abstractmethod
    def to_text(self) -> str:
        """The form that a user types; `parse_input` reads it back."""

    @abstractmethod
    def to_wire(self) -> str:
        """The form that the loader reads."""


@dataclass(frozen=True, slots=True)
class TensorInput(InputSpec):
    """A tensor made by a rule, or taken from a file."""

    dtype: str  # torch's name
    shape: tuple[int, ...]
    fill: str = (
        "ones"  # zeros|ones|arange|full:V|rand:SEED|randn:SEED|randint:LOW:HIGH:SEED; unused with a file
    )
    file: StoredTensor | None = None
    data: bytes | None = None  # its elements, little-endian

    def to_text(self) -> str:
        """`float32[1,3]=ones`, `@` and the quoted path of the file, or JSON if the elements are in memory."""
        if self.file is not None:
            return "@" + quoted(str(self.file.path))
        if self.data is not None:
            from torchlink.model.stored import InlineTensor
            from torchlink.model.writing import json_text

            return json_text(InlineTensor(self.dtype, self.shape, self.data))
        return f"{self.dtype}[{','.join(map(str, self.shape))}]" + (
            "" if self.fill == "ones" else f"={self.fill}"
        )

    def to_wire(self) -> str:
        """`tensor DTYPE DIMS FILL`."""
        fill = self.fill
        if self.file is not None:
            path = encoded(str(self.file.path.absolute()))
            fill = f"file:{self.file.offset}:{dimensions(self.file.strides)}:{path}"
        elif self.data is not None:
            fill = f"hex:{self.data.hex()}"
        return f"tensor {self.dtype} {dimensions(self.shape)} {fill}"


@dataclass(frozen=True, slots=True)
class ScalarInput(InputSpec):
    """A number, a bool, a string or None."""

    value: bool | int | float | complex | str | None

    def to_text(self) -> str:
        """As in Python, but lower case: `3`, `0.5`, `true`, `none`, `'text'`; a complex number as JSON."""
        if isinstance(self.value, str):
            return quoted(self.value)
        if isinstance(self.value, complex):
            from torchlink.model.writing import json_text

            return json_text(self.value)
        return str(self.value).lower()

    def to_wire(self) -> str:
        """`int N`, `float X`, `complex RE IM`, `bool 0|1`, `none` or `str S`."""
        match self.value:
            case None:
                return "none"
            case bool():
                return f"bool {int(self.value)}"
            case int() | float():
                return f"{type(self.value).__name__} {self.value!r}"
            case complex():
                return f"complex {self.value.real!r} {self.value.imag!r}"
            case str():
                return f"str {encoded(self.value)}"


@dataclass(frozen=True, slots=True)
class ListInput(InputSpec):
    """A list; TorchScript's lists have one element type."""

    items: tuple[InputSpec, ...]

    @property
    def element(self) -> str:
        """The kind of its elements: tensor, int, float, bool, str, or any (also if there are none)."""
        kinds = {_kind(item) for item in self.items}
        return kinds.pop() if len(kinds) == 1 else "any"

    def to_text(self) -> str:
        """`[…, …]`."""
        return f"[{', '.join(item.to_text() for item in self.items)}]"

    def to_wire(self) -> str:
        """`list ELEMENT N v1 … vN`."""
        return " ".join([f"list {self.element} {len(self.items)}", *(item.to_wire() for item in self.items)])


@dataclass(frozen=True, slots=True)
class TupleInput(InputSpec):
    """A tuple."""

    items: tuple[InputSpec, ...]

    def to_text(self) -> str:
        """`(…, …)`, and `(…,)` for a single part."""
        return f"({', '.join(item.to_text() for item in self.items)}{',' if len(self.items) == 1 else ''})"

    def to_wire(self) -> str:
        """`tuple N v1 … vN`."""
        return " ".join([f"tuple {len(self.items)}", *(item.to_wire() for item in self.items)])


@dataclass(frozen=True, slots=True)
class DictInput(InputSpec):
    """A dict; keys are strings, numbers or bools."""

    items: tuple[tuple[ScalarInput, InputSpec], ...]

    def to_text(self) -> str:
        """`{'key': …, …}`."""
        return "{" + ", ".join(f"{key.to_text()}: {value.to_text()}" for key, value in self.items) + "}"

    def to_wire(self) -> str:
        """`dict N k1 v1 … kN vN`."""
        parts = [part.to_wire() for pair in self.items for part in pair]
        return " ".join([f"dict {len(self.items)}", *parts])


@dataclass(frozen=True, slots=True)
class FileInput(InputSpec):
    """The contents of a file."""

    path: Path
    spec: InputSpec
    named: bool = False  # named entries (.npz, .safetensors): a single one may stand for its tensor

    @property
    def alone(self) -> InputSpec:
        """The tensor if the file has a single entry, else all entries."""
        if self.named and isinstance(self.spec, DictInput) and len(self.spec.items) == 1:
            return self.spec.items[0][1]
        return self.spec

    def to_text(self) -> str:
        """`@` and the quoted path."""
        return "@" + quoted(str(self.path))

    def to_wire(self) -> str:
        """That of the value."""
        return self.alone.to_wire()


def spec_of(value: Value) -> InputSpec:
    """The argument for a value from a file."""
    from torchlink.model.stored import InlineTensor, StoredTensor

    match value:
        case StoredTensor():
            return TensorInput(value.dtype, value.shape, file=value)
        case InlineTensor():
            return TensorInput(value.dtype, value.shape, data=value.data)
        case list():
            return ListInput(as_floats(tuple(map(spec_of, value))))
        case tuple():
            return TupleInput(tuple(map(spec_of, value)))
        case dict():
            return DictInput(tuple((ScalarInput(key), spec_of(part)) for key, part in value.items()))
        case _:
            return ScalarInput(value)


def as_floats(items: tuple[InputSpec, ...]) -> tuple[InputSpec, ...]:
    """A list of ints and floats is a list of floats, as in Python's typing."""
    numbers = [
        item.value for item in items if isinstance(item, ScalarInput) and type(item.value) in (int, float)
    ]
    if len(numbers) != len(items) or not any(isinstance(number, float) for number in numbers):
        return items
    return tuple(ScalarInput(float(number or 0)) for number in numbers)  # type: ignore[arg-type]


def encoded(text: str) -> str:
    """Percent-encoding: UTF-8 bytes other than letters, digits and `_./~` as %XX. The empty string is `-`."""
    raw = text.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if byte in SAFE else f"%{byte:02X}" for byte in raw) or "-"


def dimensions(sizes: tuple[int, ...]) -> str:
    """`1x3x224` for the wire form; `-` for a 0-dim tensor."""
    return "x".join(map(str, sizes)) or NO_DIMENSIONS


def quoted(text: str) -> str:
    """A string in single quotes, with backslash, quote, newline and tab escaped."""
    escapes = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\t": "\\t"}
    return "'" + "".join(escapes.get(letter, letter) for letter in text) + "'"


def _kind(item: InputSpec) -> str:
    """A list's element kind, as the wire form names it."""
    if isinstance(item, FileInput):
        return _kind(item.alone)
    if isinstance(item, TensorInput):
        return "tensor"
    if isinstance(item, ScalarInput) and item.value is not None and not isinstance(item.value, complex):
        return type(item.value).__name__
    return "any"
