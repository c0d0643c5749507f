"""Reading a pickle as data: its opcodes build inert records, and nothing is ever imported or called.

The opcodes are those of pickle protocols 2 to 5, which `torch.save` and libtorch's own pickler write; the
text opcodes of protocols 0 and 1 are rejected.

A few bytes can describe a graph of unbounded size, so nothing here descends into a value: a key of a dict is
a plain value or a unique object, records are shown by their names alone, and the memory of all values is bounded.
"""

from __future__ import annotations

import io
import pickletools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from torchlink.errors import MalformedFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    Step: TypeAlias = tuple[str, Callable[[Any], object] | None, Callable[["_Machine", str, object], None]]

MAX_BYTES = 16 << 20  # a pickle of 10,000 tensors has 1.5 MB
MEMORY = 96 << 20  # bytes that the values may take, by the estimate below
OF_AN_OPCODE = 96  # bytes of memory that one takes at most: a record and its place in the memo
OF_A_LETTER = 4  # bytes of memory per character, if one in a string is not Latin-1
LONGEST_NUMBER = 64  # bytes
PLAIN_INTEGERS = range(-(1 << 60), 1 << 60)  # two of them never have the same hash

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
BUILDERS = frozenset(
    ("TUPLE", "LIST", "FROZENSET", "DICT", "APPEND", "APPENDS", "ADDITEMS", "SETITEM", "SETITEMS")
)
RECORDS = frozenset(("GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "BUILD", "BINPERSID", "POP"))
DAMAGE = (ValueError, LookupError, TypeError, EOFError, OverflowError, AttributeError, RecursionError)
MARK = object()


@dataclass(frozen=True, slots=True)
class Global:
    """A name that a pickle refers to, such as `torch._utils._rebuild_tensor_v2`."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, slots=True, eq=False)
class Persistent:
    """A persistent id: how `torch.save` refers to a storage outside the pickle."""

    id: object = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class OtherKey:
    """A key of a dict that is not a plain value, and equals no other."""

    value: object = field(repr=False)


@dataclass(slots=True, eq=False)
class Call:
    """A call in a pickle, which is not made, with what the pickle then puts into its result."""

    function: object = field(repr=False)
    arguments: object = field(repr=False)
    state: object = field(default=None, repr=False)
    # Most have neither: the shared empty tuple takes no memory.
    appended: list[object] | tuple[()] = field(default=(), repr=False)
    items: list[tuple[object, object]] | tuple[()] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        """The callable, such as `collections.OrderedDict`; empty if it is not a name."""
        return str(self.function) if isinstance(self.function, Global) else ""


def read_pickle(data: bytes) -> object:
    """The value that a pickle describes: plain values and containers, `Global`, `Call` and `Persistent`.

    Sets become lists. A value that the pickle mentions twice is the same object twice, so the result may
    contain itself: a caller that walks it must bound the depth and the number of steps.

    Raises:
        MalformedFileError: not a pickle of protocol 2 or later, damaged, longer than `MAX_BYTES`, or its values take
            more than `MEMORY`.
    """
    if len(data) > MAX_BYTES:
        raise MalformedFileError(f"The pickle inside is too large to read ({len(data) >> 20} MB).")
    try:
        return _Machine().run(io.BytesIO(data))
    except DAMAGE as error:
        raise MalformedFileError("The pickle inside is damaged.") from error


class _Machine:
    """The pickle virtual machine: a stack with marks, and a memo."""

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.memo: dict[int, object] = {}

    def run(self, stream: io.BytesIO) -> object:
        """Run the opcodes up to STOP and return what is on top of the stack."""
        read, tell, memory = stream.read, stream.tell, 0
        while True:
            name, reader, step = STEPS[read(1)]
            memory += OF_AN_OPCODE
            argument = None
            if reader is not None:
                start = tell()
                argument = reader(stream)
                length = tell() - start
                if length > LONGEST_NUMBER and name in ("LONG1", "LONG4"):
                    raise MalformedFileError(f"The pickle inside has a number of {length} bytes.")
                memory += OF_A_LETTER * length
            if memory > MEMORY:
                raise MalformedFileError("The pickle inside contains too many values.")
            if name == "STOP":
                return self.stack.pop()
            step(self, name, argument)

    def refuse(self, name: str, _: object) -> None:
        """An opcode that no file of tensors uses; its argument is not read."""
        raise MalformedFileError(
            f"The pickle inside uses the opcode {name}, which files of tensors do not use."
        )

    def skip(self, _: str, __: object) -> None:
        """Ignore PROTO and FRAME."""

    def push(self, _: str, argument: object) -> None:
        """A value that is in the pickle itself."""
        self.stack.append(argument)

    def literal(self, name: str, _: object) -> None:
        """None, True and False."""
        self.stack.append(LITERALS[name])

    def empty(self, name: str, _: object) -> None:
        """An empty container."""
        self.stack.append(EMPTIES[name]())

    def mark(self, _: str, __: object) -> None:
        """A mark, down to which a later opcode pops the stack."""
        self.stack.append(MARK)

    def remember(self, _: str, argument: object) -> None:
        """Keep what is on top of the stack in the memo."""
        self.memo[argument if isinstance(argument, int) else len(self.memo)] = self.stack[-1]

    def recall(self, _: str, argument: object) -> None:
        """Take something from the memo."""
        self.stack.append(self.memo[_integer(argument)])

    def small_tuple(self, name: str, _: object) -> None:
        """A tuple of the topmost one to three values."""
        stack = self.stack
        if name == "TUPLE1":
            stack[-1] = (stack[-1],)
        else:
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]

    def build(self, name: str, _: object) -> None:
        """Run an opcode that builds a value from those on the stack."""
        stack = self.stack
        if name == "TUPLE":
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
        else:
            values = self.pop_mark()
            _set_items(stack[-1], values)

    def refer(self, name: str, argument: object) -> None:
        """Run an opcode that names or calls something; here it becomes a record."""
        stack = self.stack
        if name == "GLOBAL":
            module, _, attribute = str(argument).partition(" ")
            stack.append(Global(module, attribute))
        elif name == "STACK_GLOBAL":
            attribute, module = _string(stack.pop()), _string(stack.pop())
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
        else:
            stack.pop()

    def pop_mark(self) -> list[object]:
        """Pop everything above the topmost mark, and the mark."""
        values: list[object] = []
        while (value := self.stack.pop()) is not MARK:
            values.append(value)
        values.reverse()
        return values


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError
    return value


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _key(value: object) -> object:
    """A value as a key that is cheap to hash and compare."""
    plain = isinstance(value, (str, bytes, float, Global)) or value is None
    if plain or (isinstance(value, int) and value in PLAIN_INTEGERS):
        return value
    return OtherKey(value)


def _extend(target: object, values: list[object]) -> None:
    """Append to a list, or note it on the record of a list-like object."""
    if isinstance(target, Call):
        target.appended = target.appended or []
        target.appended.extend(values)
    elif isinstance(target, list):
        target.extend(values)
    else:
        raise TypeError


def _set_items(target: object, flat: list[object]) -> None:
    """Set key, value, key, value, … on a dict, or note them on the record of a dict-like object."""
    keys = [_key(key) for key in flat[::2]]
    if isinstance(target, Call):
        target.items = target.items or []
        target.items.extend(zip(keys, flat[1::2], strict=True))
    elif isinstance(target, dict):
        target.update(zip(keys, flat[1::2], strict=True))
    else:
        raise TypeError


def _steps() -> Iterator[tuple[bytes, Step]]:
    """The table of opcodes: byte -> name, reader of its argument, and handler."""
    groups: tuple[tuple[Collection[str], Callable[[_Machine, str, object], None]], ...] = (
        (VALUES, _Machine.push),
        (LITERALS, _Machine.literal),
        (EMPTIES, _Machine.empty),
        (("MARK",), _Machine.mark),
        (("BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.remember),
        (("BINGET", "LONG_BINGET"), _Machine.recall),
        (("TUPLE1", "TUPLE2", "TUPLE3"), _Machine.small_tuple),
        (BUILDERS, _Machine.build),
        (RECORDS, _Machine.refer),
        (("PROTO", "FRAME", "STOP"), _Machine.skip),
    )
    known = {name: run for names, run in groups for name in names}
    for opcode in pickletools.opcodes:
        run = known.get(opcode.name)
        reader = opcode.arg.reader if opcode.arg is not None and run is not None else None
        yield opcode.code.encode("latin-1"), (opcode.name, reader, run or _Machine.refuse)


STEPS = dict(_steps())
