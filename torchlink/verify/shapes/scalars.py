"""Rules of operators on numbers, strings, lists and dicts, and of what a tensor tells about itself."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING

from torchlink.verify.shapes.values import (
    SCALAR_NUMBERS,
    UNKNOWN,
    Mismatch,
    Rule,
    Shaped,
    axis,
    require,
    tensor,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PLAIN = (bool, int, float, str, type(None))


def plain(function: Callable[..., object]) -> Rule:
    """A Python function as a rule, for plain values and lists of them only."""

    def rule(*values: object) -> object:
        if not all(isinstance(value, (*PLAIN, list, tuple)) for value in values):
            raise TypeError
        return function(*values)

    return rule


def identical(first: object, second: object) -> bool:
    """`is`, which TorchScript has for None only."""
    if first is UNKNOWN or second is UNKNOWN:
        raise TypeError
    return first is second


def size(x: object, dim: object = None) -> object:
    """All sizes, or one."""
    given = tensor(x)
    if dim is None:
        return list(given.shape)
    return given.shape[axis(dim, given.rank)] if given.rank else _none()


def _none() -> object:
    raise Mismatch


def length(value: object) -> int:
    """Of a list, dict or string; of a tensor the first size."""
    if isinstance(value, Shaped):
        require(value.rank > 0)
        return value.shape[0]
    if isinstance(value, (list, tuple, dict, str)):
        return len(value)
    raise TypeError


def get_item(container: object, key: object) -> object:
    """One element of a list or dict."""
    if isinstance(container, (list, tuple)):
        require(-len(container) <= whole(key) < len(container))
        return container[whole(key)]
    if isinstance(container, dict) and isinstance(key, PLAIN):
        require(key in container)
        return container[key]
    raise TypeError


def set_item(container: object, key: object, value: object) -> object:
    """Set one element of a list or dict."""
    if isinstance(container, list):
        container[whole(key)] = value
    elif isinstance(container, dict):
        container[key] = value
    return container


def get(container: object, key: object, default: object = None) -> object:
    """`dict.get`."""
    if not isinstance(container, dict):
        raise TypeError
    return container.get(key, default)


def contains(container: object, key: object) -> bool:
    """`key in container`."""
    if not isinstance(container, (dict, list, str)) or key is UNKNOWN:
        raise TypeError
    return key in container


def append(container: object, value: object) -> object:
    """`list.append`, in place."""
    if not isinstance(container, list):
        raise TypeError
    container.append(value)
    return container


def list_slice(container: object, start: object = None, end: object = None, step: object = 1) -> object:
    """A slice of a list or string."""
    if not isinstance(container, (list, str)):
        raise TypeError
    return container[slice(*(None if bound is None else whole(bound) for bound in (start, end, step)))]


def add(first: object, second: object, *_: object) -> object:
    """Numbers, strings or lists."""
    if isinstance(first, list) and isinstance(second, list):
        return first + second
    return plain(operator.add)(first, second)


def divide(first: float, second: float, rounding: str | None = None) -> float:
    """Division, rounded down or towards zero where a mode says so."""
    quotient = first / second
    if rounding is None:
        return quotient
    return math.floor(quotient) if rounding == "floor" else math.trunc(quotient)


def unwrap(value: object) -> object:
    """An Optional that must hold a value."""
    require(value is not None)
    return value


def dtype(x: object) -> int:
    """A tensor's dtype, by number."""
    return SCALAR_NUMBERS[tensor(x).dtype]


def number(x: object) -> object:
    """A tensor of one element as a number, whose value is unknown; a number as it is."""
    if isinstance(x, Shaped):
        require(x.numel == 1)
        return UNKNOWN
    return x


def to_int(x: object) -> object:
    """`int(x)`."""
    found = number(x)
    return int(found) if isinstance(found, (int, float, str)) else found


def to_float(x: object) -> object:
    """`float(x)`."""
    found = number(x)
    return float(found) if isinstance(found, (int, float, str)) else found


def to_bool(x: object) -> object:
    """`bool(x)`."""
    found = number(x)
    return bool(found) if isinstance(found, (int, float, str)) else found


def extreme(function: Callable[..., object]) -> Rule:
    """`min` and `max` of two numbers, or of a list."""
    return plain(function)


RULES: dict[str, Rule] = {
    "aten::size": size,
    "aten::dim": lambda x: tensor(x).rank,
    "aten::ndimension": lambda x: tensor(x).rank,
    "aten::numel": lambda x: tensor(x).numel,
    "aten::len": length,
    "aten::__getitem__": get_item,
    "aten::_set_item": set_item,
    "aten::get": get,
    "aten::__contains__": contains,
    "aten::append": append,
    "aten::slice": list_slice,
    "aten::add": add,
    "aten::sub": plain(operator.sub),
    "aten::mul": plain(operator.mul),
    "aten::div": plain(divide),
    "aten::floordiv": plain(operator.floordiv),
    "aten::floor_divide": plain(operator.floordiv),
    "aten::remainder": plain(operator.mod),
    "aten::pow": plain(operator.pow),
    "aten::neg": plain(operator.neg),
    "aten::abs": plain(abs),
    "aten::sqrt": plain(math.sqrt),
    "aten::ceil": plain(math.ceil),
    "aten::floor": plain(math.floor),
    "aten::round": plain(round),
    "aten::eq": plain(operator.eq),
    "aten::ne": plain(operator.ne),
    "aten::lt": plain(operator.lt),
    "aten::le": plain(operator.le),
    "aten::gt": plain(operator.gt),
    "aten::ge": plain(operator.ge),
    "aten::__and__": plain(lambda a, b: a and b if isinstance(a, bool) else a & b),
    "aten::__or__": plain(lambda a, b: a or b if isinstance(a, bool) else a | b),
    "aten::__not__": plain(operator.not_),
    "aten::__is__": identical,
    "aten::__isnot__": lambda a, b: not identical(a, b),
    "aten::_unwrap_optional": unwrap,
    "aten::Int": to_int,
    "aten::IntImplicit": to_int,
    "aten::Float": to_float,
    "aten::FloatImplicit": to_float,
    "aten::ScalarImplicit": number,
    "aten::Bool": to_bool,
    "aten::item": number,
    "aten::str": plain(str),
    "aten::format": lambda template, *_: template,  # what matters is at most whether it is empty
    "aten::list": lambda x: list(x) if isinstance(x, (list, str)) else UNKNOWN,
    "aten::keys": lambda x: list(x) if isinstance(x, dict) else UNKNOWN,
    "aten::values": lambda x: list(x.values()) if isinstance(x, dict) else UNKNOWN,
    "aten::items": lambda x: list(x.items()) if isinstance(x, dict) else UNKNOWN,
    "aten::is_floating_point": lambda x: "float" in tensor(x).dtype,
    "aten::is_complex": lambda x: tensor(x).dtype.startswith("complex"),
    "prim::min": extreme(min),
    "prim::max": extreme(max),
    "prim::dtype": dtype,
    "prim::unchecked_cast": lambda x: x,
    "prim::data": lambda x: x,
    "prim::NumToTensor": lambda x: x,
    "aten::any": plain(any),
    "aten::all": plain(all),
    "aten::is_grad_enabled": lambda: False,
    "aten::is_autocast_enabled": lambda *_: False,
    "aten::is_scripting": lambda: True,
    "prim::requires_grad": lambda _: False,
    "prim::device": lambda _: "cpu",
    "prim::type": lambda device: device,
    "prim::is_cuda": lambda _: False,
    "prim::is_nested": lambda _: False,
    "prim::is_sparse": lambda _: False,
    "prim::is_quantized": lambda _: False,
}
