"""How much of a file that anybody may have made is worked on: numbers and JSON that stay small."""

from __future__ import annotations

from typing import Any

DIGITS = 18  # what fits 64 bits whatever the digits are
LARGEST = 1_000_000_000_000_000_000
LONGEST_JSON = 8 << 20  # bytes; empty lists, the worst, take twenty times as much in memory


def whole_number(digits: str) -> int:
    """The value of decimal digits; of more than 18 it is `LARGEST`, of what is no number 0."""
    if len(digits) > DIGITS:
        return LARGEST
    try:
        return int(digits)
    except ValueError:  # `isdigit` takes superscripts too
        return 0


def load_json(text: str | bytes) -> Any:
    """The value of a JSON document.

    Raises:
        ValueError: it is none, or too large or too deeply nested to be read.
    """
    import json

    if len(text) > LONGEST_JSON:
        raise ValueError(f"it is larger than {LONGEST_JSON >> 20} MB")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is too deeply nested") from None
