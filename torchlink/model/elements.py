"""The elements of tensors as numbers: packed into bytes and taken out of them, for every dtype of torch."""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from torchlink.model.stored import ITEM_SIZES

if TYPE_CHECKING:
    from collections.abc import Sequence

PLAIN = {
    "float32": "f",
    "float64": "d",
    "float16": "e",
    "int8": "b",
    "int16": "h",
    "int32": "i",
    "int64": "q",
    "uint8": "B",
    "uint16": "H",
    "uint32": "I",
    "uint64": "Q",
    "bool": "?",
}
PARTS = {"complex32": "float16", "complex64": "float32", "complex128": "float64"}
NAN, INFINITY = float("nan"), float("inf")
# Exponent and mantissa bits, exponent bias, and whether the format has infinities ("ieee"), only NaNs ("fn"), or
# one NaN in place of the negative zero ("fnuz").
EIGHT_BITS = {
    "float8_e4m3fn": (4, 3, 7, "fn"),
    "float8_e5m2": (5, 2, 15, "ieee"),
    "float8_e4m3fnuz": (4, 3, 8, "fnuz"),
    "float8_e5m2fnuz": (5, 2, 16, "fnuz"),
}


def pack(dtype: str, numbers: Sequence[Any]) -> bytes:
    """The bytes of numbers in a dtype; complex ones as `complex`.

    Raises:
        OverflowError: one does not fit.
    """
    if dtype in PARTS:
        flat = [part for number in numbers for part in (complex(number).real, complex(number).imag)]
        return pack(PARTS[dtype], flat)
    if dtype == "bfloat16":
        return b"".join(map(_bfloat16, numbers))
    if dtype in PLAIN:
        try:
            return struct.pack(f"<{len(numbers)}{PLAIN[dtype]}", *numbers)
        except struct.error as error:
            raise OverflowError(str(error)) from error
    return bytes(_nearest(dtype, number) for number in numbers)


def unpack(dtype: str, data: bytes) -> list[Any]:
    """The numbers in some bytes; complex ones as `complex`."""
    if dtype in PARTS:
        flat = unpack(PARTS[dtype], data)
        return [complex(*pair) for pair in zip(flat[::2], flat[1::2], strict=True)]
    count = len(data) // ITEM_SIZES[dtype]
    if dtype == "bfloat16":
        halves = struct.unpack(f"<{count}H", data)
        return list(struct.unpack(f"<{count}f", struct.pack(f"<{count}I", *(half << 16 for half in halves))))
    if dtype in PLAIN:
        return list(struct.unpack(f"<{count}{PLAIN[dtype]}", data))
    table = _table(dtype)
    return [table[byte] for byte in data]


def _bfloat16(number: float) -> bytes:
    """The upper half of a float32, rounded to the nearest, ties to even."""
    if math.isnan(number):
        return b"\xc0\x7f"
    (bits,) = struct.unpack("<I", struct.pack("<f", number))
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    if rounded & 0x7FFF == 0x7F80 and math.isfinite(number):
        raise OverflowError
    return struct.pack("<H", rounded)


@lru_cache(maxsize=len(ITEM_SIZES))
def _table(dtype: str) -> tuple[float, ...]:
    """The value of each byte of an 8-bit dtype."""
    if dtype == "float8_e8m0fnu":
        return (*(math.ldexp(1.0, byte - 127) for byte in range(255)), NAN)
    exponents, mantissas, bias, kind = EIGHT_BITS[dtype]
    values = []
    for byte in range(256):
        sign, exponent = -1.0 if byte & 0x80 else 1.0, byte >> mantissas & ((1 << exponents) - 1)
        mantissa, top = byte & ((1 << mantissas) - 1), (1 << exponents) - 1
        if kind == "ieee" and exponent == top:
            values.append(NAN if mantissa else sign * INFINITY)
        elif (kind == "fn" and byte & 0x7F == 0x7F) or (kind == "fnuz" and byte == 0x80):
            values.append(NAN)
        elif exponent == 0:
            values.append(sign * math.ldexp(mantissa, 1 - bias - mantissas))
        else:
            values.append(sign * math.ldexp((1 << mantissas) + mantissa, exponent - bias - mantissas))
    return tuple(values)


@lru_cache(maxsize=len(ITEM_SIZES))
def _sorted(dtype: str) -> tuple[tuple[float, int], ...]:
    """The finite values of an 8-bit dtype with their bytes, the smallest first."""
    return tuple(sorted((value, byte) for byte, value in enumerate(_table(dtype)) if math.isfinite(value)))


def _nearest(dtype: str, number: float) -> int:
    """The byte whose value is nearest, of two the one with an even mantissa."""
    from bisect import bisect

    table, known = _table(dtype), _sorted(dtype)
    if not math.isfinite(number):
        wanted = [
            byte
            for byte, value in enumerate(table)
            if value == number or (math.isnan(number) and math.isnan(value))
        ]
        if not wanted:
            raise OverflowError
        return wanted[0]
    if not known[0][0] <= number <= known[-1][0]:
        raise OverflowError
    at = bisect(known, (number, 256))
    near = known[max(at - 2, 0) : at + 2]
    return min(
        near,
        key=lambda each: (
            abs(each[0] - number),
            math.copysign(1, each[0]) != math.copysign(1, number),
            each[1] & 1,
        ),
    )[1]
