"""Reading a pickle as data: its opcodes build inert records, and nothing is ever imported or called.

The opcodes are those of pickle protocols 2 to 5, which `torch.save` and libtorch's own pickler write; the
text opcodes of protocols 0 and 1 are refused.
"""

from __future__ import annotations

import io
import pickletools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from torchlink.errors import MalformedFileError

if TYPE_CHECKING:
    from collections.abc import Callable

# A checkpoint of 100,000 tensors has a pickle of some 15 MB; one of tensors alone is far smaller.
MAX_BYTES = 32 << 20

LITERALS: dict[str, object] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTIES: dict[str, Callable[[], object]] = {
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
}
NUMBERS = frozenset(("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"))
STRINGS = frozenset(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING"))
BYTES = frozenset(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"))
VALUES = NUMBERS | STRINGS | BYTES
OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
DAMAGE = (ValueError, LookupError, TypeError, EOFError, OverflowError, AttributeError)
MARK = object()


@dataclass(frozen=True, slots=True)
class Global:
    """A name that a pickle refers to, such as `torch._utils._rebuild_tensor_v2`."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, slots=True)
class Persistent:
    """A persistent id: how `torch.save` refers to a storage outside the pickle."""

    id: object


@dataclass(slots=True, eq=False)
class Call:
    """A call that a pickle asks for, not made, with what the pickle then puts into its result."""

    function: object
    arguments: object
    state: object = None
    appended: list[object] = field(default_factory=list)
    items: list[tuple[object, object]] = field(default_factory=list)


def read_pickle(data: bytes) -> object:
    """The value that a pickle describes: plain values and containers, `Global`, `Call` and `Persistent`.

    Sets come as lists. A value that the pickle mentions twice is the same object twice, so what comes back
    may contain itself: whoever walks it bounds the depth.

    Raises:
        MalformedFileError: not a pickle of protocol 2 or later, damaged, or longer than `MAX_BYTES`.
    """
    if len(data) > MAX_BYTES:
        raise MalformedFileError(f"The pickle inside is too large to read ({len(data) >> 20} MB).")
    try:
        return _Machine().run(io.BytesIO(data))
    except (
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        EOFError,
        RecursionError,
        OverflowError,
        AttributeError,
    ) as error:
        raise MalformedFileError("The pickle inside is damaged.") from error


class _Machine:
    """The pickle virtual machine: a stack with marks, and a memo."""

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.memo: dict[int, object] = {}

    def run(self, stream: io.BytesIO) -> object:
        """Run the opcodes up to STOP and return what is on top of the stack."""
        while True:
            opcode = OPCODES[stream.read(1)]
            name = opcode.name
            argument = opcode.arg.reader(stream) if opcode.arg is not None else None
            if name == "STOP":
                return self.stack.pop()
            self.step(name, argument)

    def step(self, name: str, argument: object) -> None:
        """Run one opcode."""
        stack = self.stack
        if name in VALUES:
            stack.append(argument)
        elif name in LITERALS:
            stack.append(LITERALS[name])
        elif name in EMPTIES:
            stack.append(EMPTIES[name]())
        elif name == "MARK":
            stack.append(MARK)
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[argument if isinstance(argument, int) else len(self.memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[_integer(argument)])
        elif name not in ("PROTO", "FRAME"):
            self.build(name, argument)

    def build(self, name: str, argument: object) -> None:
        """Run an opcode that makes something of what is on the stack."""
        stack = self.stack
        if name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "TUPLE":
            stack.append(tuple(self.pop_mark()))
        elif name in ("LIST", "FROZENSET"):
            stack.append(self.pop_mark())
        elif name == "DICT":
            made: dict[object, object] = {}
            _set_items(made, self.pop_mark())
            stack.append(made)
        elif name == "APPEND":
            _extend(stack[-2], [stack.pop()])
        elif name in ("APPENDS", "ADDITEMS"):
            values = self.pop_mark()
            _extend(stack[-1], values)
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _set_items(stack[-1], [key, value])
        elif name == "SETITEMS":
            values = self.pop_mark()
            _set_items(stack[-1], values)
        else:
            self.refer(name, argument)

    def refer(self, name: str, argument: object) -> None:
        """Run an opcode that names or calls something; here it becomes a record."""
        stack = self.stack
        if name == "GLOBAL":
            module, _, attribute = str(argument).partition(" ")
            stack.append(Global(module, attribute))
        elif name == "STACK_GLOBAL":
            attribute, module = str(stack.pop()), str(stack.pop())
            stack.append(Global(module, attribute))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, function = stack.pop(), stack.pop()
            stack.append(Call(function, arguments))
        elif name == "NEWOBJ_EX":
            keywords, arguments, function = stack.pop(), stack.pop(), stack.pop()
            stack.append(Call(function, (arguments, keywords)))
        elif name == "BUILD":
            state = stack.pop()
            if isinstance(stack[-1], Call):
                stack[-1].state = state
        elif name == "BINPERSID":
            stack.append(Persistent(stack.pop()))
        elif name == "POP":
            stack.pop()
        else:
            _refuse(name)

    def pop_mark(self) -> list[object]:
        """Everything above the topmost mark, which goes too."""
        values: list[object] = []
        while (value := self.stack.pop()) is not MARK:
            values.append(value)
        values.reverse()
        return values


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError
    return value


def _extend(target: object, values: list[object]) -> None:
    """Append to a list, or note it on the record of a list-like object."""
    if isinstance(target, Call):
        target.appended.extend(values)
    elif isinstance(target, list):
        target.extend(values)
    else:
        raise TypeError


def _set_items(target: object, flat: list[object]) -> None:
    """Set key, value, key, value, … on a dict, or note them on the record of a dict-like object.

    A record is no dict key worth looking up (an unhashable one is an error in a real unpickling too).
    """
    pairs = list(zip(flat[::2], flat[1::2], strict=True))
    if isinstance(target, Call):
        target.items.extend(pairs)
    elif isinstance(target, dict):
        target.update(pairs)
    else:
        raise TypeError


def _refuse(name: str) -> NoReturn:
    raise MalformedFileError(f"The pickle inside uses the opcode {name}, which no file of tensors does.")
