"""Reading the inputs that a user types, such as `float32[1,3,224,224]=randn:7`, `[3, 4]`, `ids.npy` or JSON."""

from __future__ import annotations

import re
from contextvars import ContextVar
from math import isinf
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.bounds import ConstantError, not_json
from torchlink.errors import MalformedFileError, UsageError
from torchlink.model.stored import ITEM_SIZES, canonical, is_floating
from torchlink.shown import shortened
from torchlink.verify.specs import (
    DictInput,
    FileInput,
    InputSpec,
    ListInput,
    ScalarInput,
    TensorInput,
    TupleInput,
    as_floats,
    spec_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OPENED", "InputSpec", "parse_argument", "parse_input"]


def _here(name: str) -> Path:
    return Path(name).expanduser()


# Where a file is that an input names: a worker of an executor has it elsewhere.
OPENED: ContextVar[Callable[[str], Path]] = ContextVar("OPENED", default=_here)

EXAMPLE = (
    "An input looks like 'float32[1,3,224,224]', 'int64[1,8]=randint:0:100:7', '@image.npy', '3' or '[…, …]'."
)
DEEPEST = 16
WORDS: dict[str, bool | float | None] = {
    "none": None,
    "null": None,
    "true": True,
    "false": False,
    "inf": float("inf"),
    "nan": float("nan"),
}
ESCAPES = {"n": "\n", "t": "\t"}
NUMBER = re.compile(r"[+-]?(?:inf(?![A-Za-z])|(?:\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?)")
WORD = re.compile(r"[A-Za-z_][\w.]*")
FILL = re.compile(r"[^\s,\])}]*")
FILL_NUMBERS = {"ones": 0, "zeros": 0, "arange": 0, "full": 1, "rand": 1, "randn": 1, "randint": 3}
INT64 = range(-(1 << 63), 1 << 63)
NAME = re.compile(r"\s*([A-Za-z_]\w*)\s*=(?!=)\s*")  # of a keyword argument
FILE = re.compile(
    r"[^'\"\[({@\s].*\.(?:npy|npz|pt|pth|safetensors|json|png|jpe?g)\s*", re.DOTALL | re.IGNORECASE
)
MARSHALLED = re.compile(
    r'\{\s*"type"\s*:\s*"(?:tensor|scalar|string|none|tuple|list|generic_dict|dict|image)"'
)


def parse_input(text: str) -> InputSpec:
    """One argument of `forward` from its text form.

    A file named with `@` is opened to learn its tensor's dtype and shape.

    Raises:
        UsageError: the text cannot be read; the details point at the place.
        FileError: a file named with `@` cannot be read.
    """
    return _whole(_Parser(text))


def parse_argument(text: str) -> tuple[str | None, InputSpec]:
    """An argument with its name, `mask=bool[1,8]`, or without; errors are those of `parse_input`."""
    name = NAME.match(text)
    if name is None:
        return None, parse_input(text)
    return name[1], _whole(_Parser(text, name.end()))


def _whole(parser: _Parser) -> InputSpec:
    spec = parser.value(0)
    parser.skip()
    if parser.at < len(parser.text):
        raise parser.expected("nothing more")
    return spec


AROUND = 40  # characters of an input on either side of an error


class _Parser:
    """A recursive descent parser; `at` is the current position."""

    def __init__(self, text: str, at: int = 0) -> None:
        self.text = text
        self.at = at

    def expected(self, what: str, at: int | None = None) -> UsageError:
        """The error that points at the position and states what was expected."""
        place = self.at if at is None else at
        begin = max(0, place - AROUND) if len(self.text) > 2 * AROUND else 0
        before, behind = "…" * (begin > 0), "…" * (begin + 2 * AROUND < len(self.text))
        return UsageError(
            f"Cannot read the input {shortened(self.text)!r}: expected {what} at character {place + 1}.",
            hint=EXAMPLE,
            details=(
                f"{before}{self.text[begin : begin + 2 * AROUND]}{behind}",
                " " * (len(before) + place - begin) + "^",
            ),
        )

    def skip(self) -> None:
        """Skip white space."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def take(self, token: str) -> bool:
        """Consume `token` if it comes next, skipping white space."""
        self.skip()
        if not self.text.startswith(token, self.at):
            return False
        self.at += len(token)
        return True

    def need(self, token: str) -> None:
        """Consume `token`, which must come next."""
        if not self.take(token):
            raise self.expected(f"'{token}'")

    def value(self, depth: int) -> InputSpec:
        """A value of any kind."""
        if depth > DEEPEST:
            raise self.expected("less nesting")
        self.skip()
        if depth == 0 and FILE.fullmatch(self.text, self.at):
            return self.from_file(whole=True)
        if self.take("["):
            return ListInput(as_floats(self.items("]", depth)))
        if self.take("("):
            return TupleInput(self.items(")", depth))
        marshalled = self.marshalled()
        if marshalled is not None:
            return marshalled
        if self.take("{"):
            return DictInput(self.pairs(depth))
        if self.take("@"):
            return self.from_file(whole=depth == 0)
        if self.text[self.at : self.at + 1] in ("'", '"'):
            return ScalarInput(self.string())
        number = NUMBER.match(self.text, self.at)
        if number:
            return self.number(number)
        return self.word()

    def items(self, end: str, depth: int) -> tuple[InputSpec, ...]:
        """Comma-separated values, up to the closing bracket."""
        items: list[InputSpec] = []
        while not self.take(end):
            if items:
                self.need(",")
                if self.take(end):
                    break
            items.append(self.value(depth + 1))
        return tuple(items)

    def pairs(self, depth: int) -> tuple[tuple[ScalarInput, InputSpec], ...]:
        """`key: value` pairs, up to the closing brace."""
        pairs: list[tuple[ScalarInput, InputSpec]] = []
        while not self.take("}"):
            if pairs:
                self.need(",")
                if self.take("}"):
                    break
            self.skip()
            place = self.at
            key = self.value(depth + 1)
            if not isinstance(key, ScalarInput) or key.value is None:
                raise self.expected("a string or a number as key", place)
            self.need(":")
            pairs.append((key, self.value(depth + 1)))
        return tuple(pairs)

    def marshalled(self) -> InputSpec | None:
        """The value of a JSON object with a type; None if no such object comes next."""
        if not self.text.startswith("{", self.at):
            return None
        import json

        from torchlink.model.marshalling import is_marshalled, value_of_json

        try:
            document, end = json.JSONDecoder(parse_constant=not_json).raw_decode(self.text, self.at)
        except (ValueError, RecursionError) as error:
            if not MARSHALLED.match(self.text, self.at):
                return None
            if isinstance(error, json.JSONDecodeError):
                raise self.expected(f"JSON ({error.msg})", error.pos) from None
            if isinstance(error, ConstantError):
                raise self.expected(f"JSON ({error})") from None
            raise self.expected("less nesting and shorter numbers") from None
        if not is_marshalled(document):
            return None
        try:
            value = value_of_json(document, f"the input {shortened(self.text)!r}")
        except MalformedFileError as error:
            raise UsageError(error.message, hint=error.hint) from error
        self.at = end
        return spec_of(value)

    def number(self, match: re.Match[str]) -> ScalarInput:
        """An int or a float."""
        place, self.at = self.at, match.end()
        text = match.group()
        if text.lstrip("+-").isdigit():
            if len(text) > 20 or int(text) not in INT64:
                raise self.expected("a number that fits 64 bits", place)
            return ScalarInput(int(text))
        if overflows(text):
            raise self.expected("a number that float64 can hold (infinity is inf)", place)
        return ScalarInput(float(text))

    def string(self) -> str:
        """A quoted string; a backslash escapes."""
        start, quote = self.at, self.text[self.at]
        letters: list[str] = []
        self.at += 1
        while self.at < len(self.text):
            letter = self.text[self.at]
            self.at += 1
            if letter == quote:
                return "".join(letters)
            if letter == "\\" and self.at < len(self.text):
                letter = ESCAPES.get(self.text[self.at], self.text[self.at])
                self.at += 1
            letters.append(letter)
        raise self.expected(f"a closing {quote}", start)

    def word(self) -> InputSpec:
        """`none`, `true`, `false`, `inf`, `nan`, or a dtype with dimensions."""
        match = WORD.match(self.text, self.at)
        if match is None:
            raise self.expected("a value")
        place, self.at = self.at, match.end()
        name = match.group()
        if self.text.startswith("[", self.at):
            dtype = canonical(name)
            if dtype is None:
                raise self.expected(f"a dtype ({', '.join(ITEM_SIZES)})", place)
            return self.tensor(dtype)
        if name.lower() in WORDS:
            return ScalarInput(WORDS[name.lower()])
        raise self.expected(
            f"dimensions: {name}[1,3]" if canonical(name) else "a value",
            self.at if canonical(name) else place,
        )

    def tensor(self, dtype: str) -> TensorInput:
        """The dimensions and the fill of a tensor."""
        self.need("[")
        shape: list[int] = []
        while not self.take("]"):
            if shape:
                self.need(",")
            self.skip()
            match = re.compile(r"\d{1,18}").match(self.text, self.at)
            if match is None:
                raise self.expected("a dimension (a whole number, 0 or more)")
            shape.append(int(match.group()))
            self.at = match.end()
        if not self.text.startswith("=", self.at):
            return TensorInput(dtype, tuple(shape))
        self.at += 1
        match = FILL.match(self.text, self.at)
        fill = match.group() if match else ""
        wrong = wrong_fill(fill, dtype)
        if wrong:
            raise self.expected(wrong)
        self.at += len(fill)
        return TensorInput(dtype, tuple(shape), fill)

    def from_file(self, *, whole: bool) -> FileInput:
        """The contents of a file; the path is quoted, or extends to the end of the text, a comma or a bracket."""
        from torchlink.model.values import read_values

        place = self.at
        if self.text[self.at : self.at + 1] in ("'", '"'):
            path = self.string()
        else:
            match = None if whole else re.compile(r"[^,\])}]*").match(self.text, self.at)
            path = (match.group() if match else self.text[self.at :]).strip()
            self.at = match.end() if match else len(self.text)
        if not path:
            raise self.expected("the path of a file", place)
        found = read_values(OPENED.get()(path))
        return FileInput(found.path, spec_of(found.value), found.named)


def wrong_fill(fill: str, dtype: str) -> str:
    """What was expected instead of this fill; empty if it is valid for the dtype."""
    kind, *numbers = fill.split(":")
    if kind not in FILL_NUMBERS:
        return "ones, zeros, arange, full:VALUE, rand:SEED, randn:SEED or randint:LOW:HIGH:SEED"
    if len(numbers) != FILL_NUMBERS[kind]:
        if kind in ("rand", "randn"):
            return f"a seed (={kind}:7)"
        return {"full": "full:VALUE", "randint": "randint:LOW:HIGH:SEED"}.get(kind, kind)
    if kind in ("rand", "randn") and not is_floating(dtype):
        return f"randint:LOW:HIGH:SEED, because {dtype} is not a floating-point dtype,"
    if kind == "arange" and dtype == "bool":
        return "zeros, ones or randint:0:2:SEED, because bool has no arange,"
    whole = [int(number) for number in numbers if re.fullmatch(r"[+-]?\d{1,18}", number)]
    if kind == "full":
        return "" if _fits(numbers[0], dtype) else f"a value of {dtype}"
    if len(whole) != len(numbers) or (whole and whole[-1] < 0):
        return "whole numbers, the seed not negative"
    if kind == "randint" and not (
        whole[0] < whole[1] and _fits(numbers[0], dtype) and _fits(str(whole[1] - 1), dtype)
    ):
        return f"LOW below HIGH, both values of {dtype}"
    return ""


def overflows(number: str) -> bool:
    """Whether a number in text is finite and too large for a float64."""
    return isinf(float(number)) and not number.endswith("inf")


def _fits_float(number: str, dtype: str) -> bool:
    from torchlink.model.elements import pack

    try:
        pack(dtype, [float(number)])
    except OverflowError:
        return False
    return not overflows(number)


def _fits(number: str, dtype: str) -> bool:
    """Whether a number in text is a value of the dtype."""
    match = NUMBER.fullmatch(number)
    if is_floating(dtype):
        return number == "nan" or (bool(match) and _fits_float(number, dtype))
    if not re.fullmatch(r"[+-]?\d{1,19}", number):
        return False
    bits = 8 * ITEM_SIZES[dtype]
    low, high = (
        (0, 1)
        if dtype == "bool"
        else (0, (1 << bits) - 1)
        if dtype.startswith("uint")
        else (-(1 << bits - 1), (1 << bits - 1) - 1)
    )
    return low <= int(number) <= high
