"""The operators that following an input needs: on numbers and containers, and on views of parameters.

The effect of an operator on the shape of an input is not modelled here: libtorch decides when the model is run.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

from torchlink.model.stored import is_floating
from torchlink.verify.guessing.values import UNKNOWN, Shape, Shaped, whole, wholes

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = {
    "elementwise": """
        add sub rsub mul div divide true_divide pow maximum minimum fmod remainder floor_divide lerp addcmul addcdiv
        atan2 copysign eq ne lt le gt ge""",
    "bitwise": """
        bitwise_and bitwise_or bitwise_xor bitwise_not __and__ __or__ __xor__ __lshift__ __rshift__""",
    "reducing": "mean sum prod amax amin max min std var logsumexp norm argmax argmin any all nansum",
    "keeping": """
        abs alias clamp clamp_max clamp_min clone contiguous cumsum cumprod data detach dropout alpha_dropout
        feature_dropout elu celu selu gelu hardsigmoid hardswish hardtanh leaky_relu relu relu6 rrelu silu mish
        softplus softshrink hardshrink threshold neg negative positive sign sgn floor ceil round trunc flip roll
        fill zero tril triu requires_grad nan_to_num bernoulli normal uniform resolve_conj resolve_neg conj square
        sigmoid tanh exp exp2 expm1 log log2 log10 log1p sqrt rsqrt sin cos tan asin acos atan sinh cosh erf erfc
        reciprocal softmax log_softmax log_sigmoid logit lgamma digamma logical_and logical_or logical_xor isclose
        logical_not isnan isinf isfinite zeros_like ones_like empty_like rand_like randn_like full_like masked_fill
        where to type_as bool bfloat16 float double half long int sort""",
    "creating": "zeros ones empty rand randn full",
    # They return something without a shape from a tensor.
    "telling": """
        size dim ndimension numel len Int IntImplicit Float FloatImplicit ScalarImplicit Bool item str format
        is_floating_point is_complex __contains__ keys values items dtype requires_grad device type is_cuda is_nested
        is_sparse is_quantized""",
    "on numbers": "add sub mul pow neg abs eq ne lt le gt ge",
    "of one number": "neg abs __not__ sqrt ceil floor any all Int Float Bool str format",
}
ELEMENTWISE, BITWISE, REDUCING, CREATING, TELLING = (
    frozenset(NAMES[which].split()) for which in ("elementwise", "bitwise", "reducing", "creating", "telling")
)
# The result has the sizes of the widest argument.
KEEPING_SIZES = ELEMENTWISE | BITWISE | frozenset(NAMES["keeping"].split())
DTYPES = {"float": "float32", "double": "float64", "half": "float16", "bfloat16": "bfloat16"}
# c10::ScalarType's numbers, as graphs pass dtypes.
DTYPE_NUMBERS = {
    0: "uint8",
    1: "int8",
    2: "int16",
    3: "int32",
    4: "int64",
    5: "float16",
    6: "float32",
    7: "float64",
    9: "complex64",
    10: "complex128",
    11: "bool",
    15: "bfloat16",
}
# What a rule raises when an argument is unknown, or is of an overload that the rule does not know.
NOT_KNOWN = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ZeroDivisionError,
    OverflowError,
    RecursionError,
    StopIteration,
)
PLAIN = (bool, int, float, str, type(None))


def plain_name(kind: str) -> str:
    """The operator's name without its namespace and without the underscore of one that works in place."""
    bare = kind.partition("::")[2]
    return bare if bare.endswith("__") else bare.removesuffix("_")


def apply(kind: str, arguments: list[object]) -> object:
    """The result of an operator; UNKNOWN if there is no rule, or too little is known."""
    bare = plain_name(kind)
    try:
        if any(isinstance(value, Shaped) for value in (*arguments[:3], *_first_list(arguments))):
            return _of_parameters(bare, arguments)
        if kind in ALWAYS:
            return ALWAYS[kind]
        if bare in CONTAINERS:
            return CONTAINERS[bare](*arguments)
        if bare in CREATING:
            return Shaped(tuple(wholes(arguments[0])), "float32")
        if bare in NUMBERS and all(isinstance(value, (*PLAIN, list, tuple)) for value in arguments):
            return NUMBERS[bare](*arguments[: 1 if bare in ONE_OPERAND else 2])
    except NOT_KNOWN:
        pass
    return UNKNOWN


def _first_list(arguments: list[object]) -> list[object]:
    return arguments[0] if arguments and isinstance(arguments[0], list) else []


def _of_parameters(bare: str, arguments: list[object]) -> object:
    """The result of an operator for parameters and constants."""
    if bare in CONTAINERS and not isinstance(arguments[0], Shaped):
        return CONTAINERS[bare](*arguments)
    if bare in VIEWS:
        return VIEWS[bare](*arguments)
    if bare not in KEEPING_SIZES or UNKNOWN in arguments[:2]:
        return UNKNOWN
    widest = max((each for each in arguments[:3] if isinstance(each, Shaped)), key=lambda each: each.numel)
    dtype = DTYPES.get(bare, widest.dtype)
    if bare == "to":
        numbers = (each for each in arguments[1:3] if type(each) is int)
        dtype = next((DTYPE_NUMBERS[each] for each in numbers), dtype)
    return Shaped(widest.shape, dtype, widest.origin if len(arguments) == 1 or bare == "to" else "")


def _size(x: Shaped, dim: object = None) -> object:
    return list(x.shape) if dim is None else x.shape[whole(dim)]


def _view(x: Shaped, size: object, *_: object) -> Shaped:
    sizes = wholes(size)
    if -1 in sizes:
        sizes[sizes.index(-1)] = x.numel // -math.prod(sizes)
    return Shaped(tuple(sizes), x.dtype, x.origin)


def _flatten(x: Shaped, start: int = 0, end: int = -1) -> Shaped:
    first, last = range(x.rank)[start], range(x.rank)[end]
    return _reshaped(x, (*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :]))


def _permute(x: Shaped, dims: object) -> Shaped:
    return _reshaped(x, tuple(x.shape[dim] for dim in wholes(dims)))


def _transpose(x: Shaped, first: int, second: int) -> Shaped:
    order = list(range(x.rank))
    order[first], order[second] = order[second], order[first]
    return _permute(x, order)


def _unsqueeze(x: Shaped, dim: int) -> Shaped:
    place = range(x.rank + 1)[dim]
    return _reshaped(x, (*x.shape[:place], 1, *x.shape[place:]))


def _squeeze(x: Shaped, dim: int | None = None) -> Shaped:
    chosen = range(x.rank) if dim is None else [range(x.rank)[dim]]
    return _reshaped(x, tuple(size for place, size in enumerate(x.shape) if size != 1 or place not in chosen))


def _select(x: Shaped, dim: int, _index: object) -> Shaped:
    place = range(x.rank)[dim]
    return _reshaped(x, (*x.shape[:place], *x.shape[place + 1 :]))


def _slice(x: Shaped, dim: int = 0, start: object = None, end: object = None, step: int = 1) -> Shaped:
    first, last = (None if bound is None else whole(bound) for bound in (start, end))
    return _resized(x, dim, len(range(*slice(first, last, step).indices(x.shape[dim]))))


def _split(x: Shaped, size: object, dim: int = 0) -> list[object]:
    total = x.shape[dim]
    if isinstance(size, list):
        return [_resized(x, dim, whole(each)) for each in size]
    piece = whole(size)
    return [_resized(x, dim, min(piece, total - start)) for start in range(0, total, piece)]


def _chunk(x: Shaped, count: int, dim: int = 0) -> list[object]:
    return _split(x, -(-x.shape[dim] // count), dim)


def _unbind(x: Shaped, dim: int = 0) -> list[object]:
    return [_select(x, dim, 0)] * x.shape[dim]


def _cat(parts: list[Shaped], dim: int = 0) -> Shaped:
    return _resized(parts[0], dim, sum(part.shape[dim] for part in parts))


def _stack(parts: list[Shaped], dim: int = 0) -> Shaped:
    return _resized(_unsqueeze(parts[0], dim), dim, len(parts))


def _resized(x: Shaped, dim: int, size: int) -> Shaped:
    place = range(x.rank)[dim]
    return _reshaped(x, (*x.shape[:place], size, *x.shape[place + 1 :]))


def _reshaped(x: Shaped, shape: Shape) -> Shaped:
    return Shaped(shape, x.dtype, x.origin)


VIEWS: dict[str, Callable[..., object]] = {
    "size": _size,
    "dim": lambda x: x.rank,
    "numel": lambda x: x.numel,
    "len": lambda x: x.shape[0],
    "dtype": lambda x: next(number for number, name in DTYPE_NUMBERS.items() if name == x.dtype),
    "is_floating_point": lambda x: is_floating(x.dtype),
    "device": lambda _: "cpu",
    **dict.fromkeys(("is_cuda", "is_nested", "is_sparse", "is_quantized", "requires_grad"), lambda _: False),
    "view": _view,
    "reshape": _view,
    "flatten": _flatten,
    "permute": _permute,
    "transpose": _transpose,
    "swapaxes": _transpose,
    "t": lambda x: _reshaped(x, x.shape[::-1]),
    "unsqueeze": _unsqueeze,
    "squeeze": _squeeze,
    "select": _select,
    "slice": _slice,
    "narrow": lambda x, dim, _start, length: _resized(x, dim, length),
    "split": _split,
    "split_with_sizes": _split,
    "chunk": _chunk,
    "unbind": _unbind,
    "cat": _cat,
    "concat": _cat,
    "stack": _stack,
    "unchecked_cast": lambda x: x,
    "_unwrap_optional": lambda x: x,
    "__is__": lambda x, y: x is y,
    "__isnot__": lambda x, y: x is not y,
}


def _known(value: object) -> object:
    if value is UNKNOWN:
        raise TypeError
    return value


def _set_item(container: Any, key: object, value: object) -> object:
    container[key] = value
    return container


def _append(container: Any, value: object) -> object:
    container.append(value)
    return container


def _list_slice(container: object, start: object = None, end: object = None, step: object = 1) -> object:
    if not isinstance(container, (list, str)):
        raise TypeError
    return container[slice(*(None if bound is None else whole(bound) for bound in (start, end, step)))]


CONTAINERS: dict[str, Callable[..., object]] = {
    "__getitem__": operator.getitem,
    "TupleIndex": operator.getitem,
    "_set_item": _set_item,
    "append": _append,
    "slice": _list_slice,
    "len": len,
    "get": lambda value, key, default=None: value.get(key, default),
    "__contains__": lambda value, key: _known(key) in value,
    "keys": lambda value: list(value.keys()),
    "values": lambda value: list(value.values()),
    "items": lambda value: list(value.items()),
    "list": list,
    # Only None is compared by identity.
    "__is__": lambda x, y: _known(x) is _known(y),
    "__isnot__": lambda x, y: _known(x) is not _known(y),
    "_unwrap_optional": lambda value: value,
    "unchecked_cast": lambda value: value,
    "NumToTensor": lambda value: value,
    "data": lambda value: value,
}
NUMBERS: dict[str, Callable[..., object]] = {
    **{
        name: getattr(operator, name)
        for name in ["add", "sub", "mul", "pow", "neg", "abs", "eq", "ne", "lt", "le", "gt", "ge"]
    },
    "floordiv": operator.floordiv,
    "floor_divide": operator.floordiv,
    "remainder": operator.mod,
    "div": operator.truediv,
    "__and__": operator.and_,
    "__or__": operator.or_,
    "__not__": operator.not_,
    "sqrt": math.sqrt,
    "ceil": math.ceil,
    "floor": math.floor,
    "min": min,
    "max": max,
    "any": any,
    "all": all,
    "Int": int,
    "IntImplicit": int,
    "Float": float,
    "FloatImplicit": float,
    "ScalarImplicit": lambda value: value,
    "Bool": bool,
    "str": str,
    "format": lambda template, *_: template,  # only whether it is empty matters
}
ONE_OPERAND = frozenset(NAMES["of one number"].split())
ALWAYS: dict[str, object] = {
    "aten::is_grad_enabled": False,
    "aten::is_autocast_enabled": False,
    "aten::is_scripting": True,
}
