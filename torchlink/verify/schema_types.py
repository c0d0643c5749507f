"""The types of `forward`'s arguments, as TorchScript writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass

TOKEN = re.compile(r"\s*([A-Za-z_][\w.]*|\[\]|[\[\](),?]|->|[^\s])")
GENERIC = {
    "Optional": "optional",
    "List": "list",
    "Tuple": "tuple",
    "Dict": "dict",
    "Union": "union",
}
NAMED = {"Tensor", "int", "float", "bool", "str", "number", "Scalar", "Any", "complex", "NoneType"}


@dataclass(frozen=True, slots=True)
class Type:
    """A type: `kind` is a plain type's name, or optional, list, tuple, dict, union, other."""

    kind: str
    parts: tuple[Type, ...] = ()


OTHER = Type("other")
DEEPEST = 64  # nested types
LONGEST = 100_000  # characters


def parse_type(text: str) -> Type:
    """A type in either of TorchScript's notations.

    `List[Tensor]` and `Tensor[]`, `Dict[str, int]` and `Dict(str, int)`, `Optional[int]` and `int?`,
    `Tuple[int, int]` and `(int, int)` are the same. A type that no input can be written for (a class, a
    Device, a Future) is `other`.
    """
    if len(text) > LONGEST:
        return OTHER
    parser = _Parser([match.group(1) for match in TOKEN.finditer(text)])
    try:
        found = parser.type()
    except RecursionError:
        return OTHER
    return found if not parser.tokens else OTHER


class _Parser:
    """A recursive descent parser of the tokens."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.depth = 0

    def type(self) -> Type:
        """A type with its postfixes."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise RecursionError
        word = self.tokens.pop(0) if self.tokens else None
        if word == "(":
            found = Type("tuple", self.parts(")"))
        elif word in GENERIC and self.tokens and self.tokens[0] in ("[", "("):
            close = "]" if self.tokens.pop(0) == "[" else ")"
            found = Type(GENERIC[word], self.parts(close))
        else:
            found = Type(word) if word and word in NAMED else OTHER
        while self.tokens and self.tokens[0] in ("[]", "?", "["):
            postfix = self.tokens.pop(0)
            if postfix == "[":  # int[2]: a list of a stated length
                while self.tokens and self.tokens.pop(0) != "]":
                    pass
            found = Type("optional" if postfix == "?" else "list", (found,))
        self.depth -= 1
        return found

    def parts(self, close: str) -> tuple[Type, ...]:
        """Comma-separated types, up to the closing bracket."""
        parts: list[Type] = []
        while self.tokens and self.tokens[0] != close:
            parts.append(self.type())
            if self.tokens and self.tokens[0] == ",":
                self.tokens.pop(0)
        if self.tokens:
            self.tokens.pop(0)
        return tuple(parts)
