"""Values as JSON, in the marshalling of docs/values.md: `{"type":"tensor","data_type":…,"shape":…,"value":[…]}`.

Arrays are lists, and a number, a string, true, false or null may be written directly.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NoReturn

from torchlink.bounds import load_json, read_whole
from torchlink.errors import MalformedFileError
from torchlink.model.stored import ITEM_SIZES, MOST_DIMENSIONS, InlineTensor, canonical, is_floating
from torchlink.shown import shortened, visible

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torchlink.model.values import Value

LONGEST = 64 << 20  # bytes of a file
DEEPEST = 64  # levels of containers
LARGEST = 1 << 40  # elements of a tensor, as in the loader
INT64 = range(-(1 << 63), 1 << 63)
NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
TOO_LARGE = "a number that float64 cannot hold"  # which Python's parser has made an infinity
TYPES = ("tensor", "scalar", "string", "none", "tuple", "list", "generic_dict", "dict", "image")
ALIASES = {"generic_list": "list", "str": "string", "null": "none"}
HINT = (
    'A tensor is {"type":"tensor","data_type":"float32","shape":[1,3],"value":[1,2,3]}: see docs/values.md.'
)


def read_json(path: Path) -> Value:
    """The value in a JSON file.

    Raises:
        FileError: it is too large.
        MalformedFileError: not JSON, or not this marshalling; the message has the place.
    """
    return value_of_text(read_whole(path, LONGEST), visible(str(path)))


def value_of_text(text: str | bytes, source: str) -> Value:
    """The value of a JSON document; `source` names it in messages.

    Raises:
        MalformedFileError: as for `read_json`.
    """
    try:
        document = load_json(text, LONGEST)
    except ValueError as error:  # of JSON, and of bytes that are not UTF-8
        raise MalformedFileError(f"{source}: not JSON: {error}.", hint=HINT) from error
    return value_of_json(document, source)


def value_of_json(document: object, source: str) -> Value:
    """The value of a JSON document that has been read.

    Raises:
        MalformedFileError: it is not this marshalling.
    """
    return _Reader(source).value(document, "$", 0)


def is_marshalled(document: object) -> bool:
    """Whether a JSON object is this marshalling, not an ordinary dict that looks the same."""
    if not isinstance(document, dict):
        return False
    kind = document.get("type")
    return isinstance(kind, str) and ALIASES.get(kind, kind) in TYPES


class _Reader:
    """Turns JSON into values; `at` is a place such as `$[0].value`."""

    def __init__(self, source: str) -> None:
        self.source = source

    def wrong(self, at: str, fact: str) -> NoReturn:
        raise MalformedFileError(f"{self.source}: at {at}: {fact}.", hint=HINT)

    def value(self, document: object, at: str, depth: int) -> Value:
        """A value of any type."""
        if depth > DEEPEST:
            self.wrong(shortened(at), f"nested more than {DEEPEST} levels deep")
        if isinstance(document, list):
            return self.items(document, at, depth)
        if isinstance(document, dict):
            return self.typed(document, at, depth)
        if isinstance(document, int) and not isinstance(document, bool) and document not in INT64:
            self.wrong(at, f"{shortened(str(document), 24)} does not fit int64")
        if isinstance(document, float) and math.isinf(document):
            self.wrong(at, TOO_LARGE)
        assert document is None or isinstance(document, (bool, int, float, str))  # noqa: S101 - JSON has no more
        return document

    def items(self, documents: list[object], at: str, depth: int) -> list[Value]:
        return [self.value(each, f"{at}[{index}]", depth + 1) for index, each in enumerate(documents)]

    def typed(self, document: Mapping[str, object], at: str, depth: int) -> Value:
        """An object with a `type`."""
        named = document.get("type")
        kind = ALIASES.get(named, named) if isinstance(named, str) else None
        if kind not in TYPES:
            said = "has no type" if named is None else f"type {shortened(repr(named))} is unknown"
            self.wrong(at, f"{said}: write one of {', '.join(TYPES)}")
        if kind == "none":
            return None
        if "value" not in document:
            self.wrong(at, f"{'an' if kind == 'image' else 'a'} {kind} without a value")
        value, inside = document["value"], f"{at}.value"
        if kind == "tensor":
            return self.tensor(document, value, at)
        if kind == "scalar":
            return self.scalar(document, value, at)
        if kind in ("string", "image"):
            if not isinstance(value, str):
                self.wrong(inside, f"a {kind} must be a JSON string")
            return self.image(value, inside) if kind == "image" else value
        if kind in ("generic_dict", "dict"):
            return self.mapping(value, inside, depth)
        if not isinstance(value, list):
            self.wrong(inside, f"the parts of a {kind} must be a JSON array")
        parts = self.items(value, inside, depth)
        return tuple(parts) if kind == "tuple" else parts

    def mapping(self, value: object, at: str, depth: int) -> Value:
        """A dict: an object, or an array of pairs."""
        if isinstance(value, dict):
            return {key: self.value(part, f"{at}.{shortened(key)}", depth + 1) for key, part in value.items()}
        if not isinstance(value, list):
            self.wrong(at, "a dict must be a JSON object, or an array of [key, value] pairs")
        made: dict[bool | int | float | str, Value] = {}
        for index, pair in enumerate(value):
            place = f"{at}[{index}]"
            if not (isinstance(pair, list) and len(pair) == 2):
                self.wrong(place, "not a [key, value] pair")
            key = self.value(pair[0], f"{place}[0]", depth + 1)
            if not isinstance(key, (bool, int, float, str)):
                self.wrong(f"{place}[0]", "a key must be a string, a number or a bool")
            made[key] = self.value(pair[1], f"{place}[1]", depth + 1)
        return made

    def dtype(self, document: Mapping[str, object], at: str) -> str:
        named = document.get("data_type")
        dtype = canonical(named) if isinstance(named, str) else None
        if dtype is None:
            fact = "no data_type" if named is None else f"data_type {shortened(repr(named))} is unknown"
            self.wrong(at, f"{fact}: write one of {', '.join(ITEM_SIZES)}")
        return dtype

    def scalar(self, document: Mapping[str, object], value: object, at: str) -> Value:
        """A Python number; the dtype determines its type."""
        dtype = self.dtype(document, at)
        number: Value = self.numbers(dtype, [value], f"{at}.value", ())[0]
        return number

    def tensor(self, document: Mapping[str, object], value: object, at: str) -> InlineTensor:
        dtype = self.dtype(document, at)
        shape = document.get("shape")
        if not isinstance(shape, list) or not all(type(size) is int for size in shape):
            self.wrong(f"{at}.shape", "a shape must be an array of whole numbers")
        if any(size < 0 for size in shape):
            self.wrong(f"{at}.shape", f"{shortened(str(shape))} has a negative size")
        if len(shape) > MOST_DIMENSIONS:
            self.wrong(f"{at}.shape", f"a tensor cannot have {len(shape)} dimensions")
        if max(shape, default=0) > LARGEST or math.prod(filter(None, shape)) > LARGEST:
            self.wrong(f"{at}.shape", f"a tensor of shape {shortened(str(shape))} is too large")
        numbers = self.flat(value, tuple(shape), dtype, f"{at}.value")
        return InlineTensor(dtype, tuple(shape), self.packed(dtype, numbers, f"{at}.value", tuple(shape)))

    def flat(self, value: object, shape: tuple[int, ...], dtype: str, at: str) -> list[object]:
        """A tensor's elements in row-major order: written flat, or nested as its shape is."""
        count = math.prod(shape)
        if not isinstance(value, list):
            if shape:
                self.wrong(at, "the elements must be a JSON array")
            return [value]  # a 0-d tensor's only one
        pairs = "complex" in dtype
        nested = any(isinstance(each, list) for each in value)
        if pairs and not shape and len(value) == 2 and not nested:
            return [value]
        if nested and not (pairs and len(value) == count and all(map(_is_pair, value))):
            return self.unnested(value, shape, at, pairs=pairs)
        if len(value) != count:
            self.wrong(
                at,
                f"{len(value)} element{'' if len(value) == 1 else 's'}, but shape {list(shape)} has {count}",
            )
        return value

    def unnested(self, value: object, shape: tuple[int, ...], at: str, *, pairs: bool) -> list[object]:
        """The elements of arrays that are nested as the shape is."""
        rows: list[object] = [value]
        for size in shape:
            if any(not isinstance(row, list) or len(row) != size for row in rows):
                self.wrong(at, f"its arrays are not nested as shape {list(shape)} is")
            rows = [part for row in rows if isinstance(row, list) for part in row]
        if not pairs and any(isinstance(row, list) for row in rows):
            self.wrong(at, f"its arrays are nested deeper than shape {list(shape)} is")
        return rows

    def numbers(self, dtype: str, values: list[object], at: str, shape: tuple[int, ...]) -> list[Any]:
        """JSON values as numbers of a dtype."""
        if dtype == "bool":
            wanted: set[type] = {bool}
        elif is_floating(dtype):
            wanted = {float, int}
        else:
            wanted = {int}
        if {*map(type, values)} <= wanted and math.inf not in values and -math.inf not in values:
            return values
        return [
            self.number(dtype, value, f"{at}[{index}]" if shape else at) for index, value in enumerate(values)
        ]

    def number(self, dtype: str, value: object, at: str) -> bool | int | float | complex:
        if type(value) is float and math.isinf(value):
            self.wrong(at, TOO_LARGE)
        if "complex" in dtype and isinstance(value, list):
            if not _is_pair(value):
                self.wrong(at, "a complex number is [re, im]")
            parts = [self.number("float64", part, f"{at}[{index}]") for index, part in enumerate(value)]
            return complex(*map(float, parts))  # type: ignore[arg-type]
        if is_floating(dtype) and isinstance(value, str) and value in NOT_FINITE:
            return NOT_FINITE[value]
        if dtype == "bool" and value in (0, 1) and type(value) in (int, bool):
            return bool(value)
        if type(value) is int and dtype != "bool":
            return value
        if type(value) is float and (is_floating(dtype) or (dtype != "bool" and value.is_integer())):
            return value if is_floating(dtype) else int(value)
        return self.wrong(at, f"{shortened(_shown(value), 24)} is not {dtype}")

    def packed(self, dtype: str, values: list[object], at: str, shape: tuple[int, ...]) -> bytes:
        from torchlink.model.elements import pack

        numbers = self.numbers(dtype, values, at, shape)
        try:
            return pack(dtype, numbers)
        except OverflowError:
            pass
        for index, number in enumerate(numbers):
            try:
                pack(dtype, [number])
            except OverflowError:
                place = f"{at}[{index}]" if shape else at
                self.wrong(place, f"{shortened(str(number), 24)} does not fit {dtype}")
        raise AssertionError  # unreachable: one of them did not fit

    def image(self, text: str, at: str) -> InlineTensor:
        from torchlink.model.image import image_of_base64

        return image_of_base64(text, f"{self.source}: at {at}")


def _is_pair(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and not any(isinstance(each, (list, dict)) for each in value)
    )


def _shown(value: object) -> str:
    import json

    if isinstance(value, (list, dict)):
        return "an array" if isinstance(value, list) else "an object"
    return json.dumps(value)
