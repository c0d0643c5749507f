"""Shape rules of operators that work element by element, reduce dimensions, convert or create."""

from __future__ import annotations

from torchlink.verify.shapes.values import (
    SCALAR_TYPES,
    UNKNOWN,
    Rule,
    Shaped,
    axis,
    broadcast,
    floating,
    promote,
    require,
    tensor,
    whole,
    wholes,
)

SAME = """
    abs alias clamp clamp_max clamp_min clone contiguous cumsum cumprod data detach dropout alpha_dropout
    feature_dropout elu celu selu gelu hardsigmoid hardswish hardtanh leaky_relu relu relu6 rrelu silu mish
    softplus softshrink hardshrink threshold neg negative positive sign sgn floor ceil round trunc flip roll
    fill zero tril triu requires_grad nan_to_num bernoulli normal uniform resolve_conj resolve_neg conj
    bitwise_not square
"""
FLOATING = """
    sigmoid tanh exp exp2 expm1 log log2 log10 log1p sqrt rsqrt sin cos tan asin acos atan sinh cosh erf erfc
    reciprocal softmax log_softmax log_sigmoid logit lgamma digamma
"""
BINARY = """
    add sub rsub mul pow maximum minimum fmod remainder floor_divide lerp addcmul addcdiv atan2 copysign
"""
DIVISION = "div divide true_divide"
COMPARISON = "eq ne lt le gt ge logical_and logical_or logical_xor isclose"
PREDICATE = "logical_not isnan isinf isfinite"
BITWISE = "bitwise_and bitwise_or bitwise_xor bitwise_not __and__ __or__ __xor__ __lshift__ __rshift__"
REDUCTION = "mean sum prod amax amin std var logsumexp norm argmax argmin any all nansum"
TO_INT64 = frozenset(("argmax", "argmin"))
TO_BOOL = frozenset(("any", "all"))
LIKE = "zeros_like ones_like empty_like rand_like randn_like"
CREATED = "zeros ones empty rand randn full"
NEW = "new_zeros new_ones new_empty new_full"


def same(x: object, *_: object) -> Shaped:
    """The result has the argument's shape and dtype."""
    return tensor(x)


def to_floating(x: object, *_: object) -> Shaped:
    """The result has the argument's shape and a floating dtype."""
    given = tensor(x)
    return Shaped(given.shape, floating(given.dtype))


def binary(*values: object) -> Shaped:
    """Elementwise over two (or three) tensors or numbers, broadcast."""
    given = [value for value in values if isinstance(value, Shaped)]
    if not given or any(value is UNKNOWN for value in values[:2]):
        raise TypeError
    return Shaped(broadcast(*(value.shape for value in given)), promote(*values[: len(given) + 1][:3]))


def bitwise(*values: object) -> Shaped:
    """Elementwise over integers or bools."""
    require(not any(isinstance(value, Shaped) and value.dtype == floating(value.dtype) for value in values))
    return binary(*values)


def division(*values: object) -> Shaped:
    """True division: floating unless a rounding mode says otherwise."""
    found = binary(*values[:2])
    return found if isinstance(values[-1], str) else Shaped(found.shape, floating(found.dtype))


def comparison(*values: object) -> Shaped:
    """Elementwise, with bools as result."""
    return Shaped(binary(*values).shape, "bool")


def predicate(x: object, *_: object) -> Shaped:
    """One bool an element."""
    return Shaped(tensor(x).shape, "bool")


def masked_fill(x: object, mask: object, *_: object) -> Shaped:
    """Where the mask is set, a value instead."""
    given, chosen = tensor(x), tensor(mask)
    require(chosen.dtype == "bool")
    return Shaped(broadcast(given.shape, chosen.shape), given.dtype)


def where(condition: object, *values: object) -> Shaped:
    """One of two values an element."""
    chosen = tensor(condition)
    require(chosen.dtype in ("bool", "uint8"))
    first, second = map(tensor, values)
    return Shaped(broadcast(chosen.shape, first.shape, second.shape), promote(first, second))


def reduced(x: Shaped, dims: object, keepdim: object) -> tuple[int, ...]:
    """The shape after reducing `dims` (None or an empty list: all)."""
    chosen = {axis(dim, x.rank) for dim in wholes(dims)} if dims not in (None, []) else set(range(x.rank))
    if keepdim is True:
        return tuple(1 if place in chosen else size for place, size in enumerate(x.shape))
    return tuple(size for place, size in enumerate(x.shape) if place not in chosen)


def reduction(name: str) -> Rule:
    """The rule of a reduction; its dims and keepdim are told apart from other arguments by their types."""

    def rule(x: object, *rest: object) -> Shaped:
        given = tensor(x)
        dims, keepdim = None, False
        if name == "norm":
            rest = rest[1:]  # p
        for argument in rest:
            if isinstance(argument, bool):
                keepdim = argument
            elif dims is None and isinstance(argument, (int, list)):
                dims = argument
        if name in ("mean", "sum", "prod") and not (isinstance(dims, list) or len(rest) >= 3):
            dims = None  # sum(x, dtype)
        if name in ("std", "var") and rest and isinstance(rest[-1], bool) and len(rest) > 2:
            keepdim = rest[-1]
        dtype = "int64" if name in TO_INT64 else "bool" if name in TO_BOOL else given.dtype
        if name == "mean":
            require(floating(given.dtype) == given.dtype)
        return Shaped(reduced(given, dims, keepdim), dtype)

    return rule


def extremum(x: object, *rest: object) -> object:
    """`max` and `min`: over all, elementwise with another tensor, or over one dimension with the indices."""
    given = tensor(x)
    if not rest:
        return Shaped((), given.dtype)
    if isinstance(rest[0], Shaped):
        return binary(x, rest[0])
    shape = reduced(given, whole(rest[0]), rest[1] if len(rest) > 1 else False)
    return Shaped(shape, given.dtype), Shaped(shape, "int64")


def topk(x: object, count: object, dim: object = -1, *_: object) -> object:
    """The largest along a dimension, with their indices."""
    given = tensor(x)
    place = axis(dim, given.rank)
    require(whole(count) <= given.shape[place])
    shape = (*given.shape[:place], whole(count), *given.shape[place + 1 :])
    return Shaped(shape, given.dtype), Shaped(shape, "int64")


def sort(x: object, *_: object) -> object:
    """Sorted values and their indices."""
    given = tensor(x)
    return Shaped(given.shape, given.dtype), Shaped(given.shape, "int64")


def to(x: object, *rest: object) -> Shaped:
    """`Tensor.to`: the first dtype among the arguments, or another tensor's."""
    given = tensor(x)
    for argument in rest[:2]:
        if isinstance(argument, Shaped):
            return Shaped(given.shape, argument.dtype)
        if isinstance(argument, int) and not isinstance(argument, bool):
            return Shaped(given.shape, SCALAR_TYPES[argument])
    return Shaped(given.shape, given.dtype, given.origin)


def cast(dtype: str) -> Rule:
    """`x.float()` and its like."""
    return lambda x, *_: Shaped(tensor(x).shape, dtype)


def type_as(x: object, other: object) -> Shaped:
    """The dtype of another tensor."""
    return Shaped(tensor(x).shape, tensor(other).dtype)


def dtype_among(arguments: tuple[object, ...], default: str) -> str:
    """The dtype given by number, or the default."""
    for argument in arguments:
        if isinstance(argument, int) and not isinstance(argument, bool):
            return SCALAR_TYPES[argument]
    return default


def like(x: object, *rest: object) -> Shaped:
    """`zeros_like` and its like."""
    given = tensor(x)
    return Shaped(given.shape, dtype_among(rest, given.dtype))


def full_like(x: object, _value: object, *rest: object) -> Shaped:
    """`full_like(x, value, dtype, …)`."""
    return like(x, *rest)


def created(size: object, *rest: object) -> Shaped:
    """`zeros(size, dtype, …)` and its like."""
    return Shaped(tuple(wholes(size)), dtype_among(rest, "float32"))


def filled(size: object, value: object, *rest: object) -> Shaped:
    """`full(size, value, dtype, …)`."""
    return Shaped(tuple(wholes(size)), dtype_among(rest, tensor(value).dtype))


def new(x: object, size: object, *rest: object) -> Shaped:
    """`x.new_zeros(size, dtype, …)` and its like."""
    return Shaped(tuple(wholes(size)), dtype_among(rest, tensor(x).dtype))


def new_full(x: object, size: object, _value: object, *rest: object) -> Shaped:
    """`x.new_full(size, value, dtype, …)`."""
    return new(x, size, *rest)


def arange(*arguments: object) -> Shaped:
    """`arange(end, dtype, layout, device, pin)`, with start, or with start and step before the dtype."""
    leading = arguments[: max(1, len(arguments) - 4)]
    start, end, step = (*(0, *leading)[-2:], 1) if len(leading) < 3 else leading
    numbers = [start, end, step]
    if not all(isinstance(number, (int, float)) for number in numbers):
        raise TypeError
    floats = any(isinstance(number, float) for number in numbers)
    count = max(0, -(-(whole(end) - whole(start)) // whole(step)))
    return Shaped((count,), dtype_among(arguments[len(leading) :], "float32" if floats else "int64"))


def _named(names: str, rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


RULES: dict[str, Rule] = {
    **_named(SAME, same),
    **_named(FLOATING, to_floating),
    **_named(BINARY, binary),
    **_named(DIVISION, division),
    **_named(COMPARISON, comparison),
    **_named(PREDICATE, predicate),
    **_named(BITWISE, bitwise),
    **{name: reduction(name) for name in REDUCTION.split()},
    **_named(LIKE, like),
    **_named(CREATED, created),
    **_named(NEW, new),
    **{name: cast(name) for name in ("bool", "bfloat16")},
    "float": cast("float32"),
    "double": cast("float64"),
    "half": cast("float16"),
    "long": cast("int64"),
    "int": cast("int32"),
    "masked_fill": masked_fill,
    "where": where,
    "max": extremum,
    "min": extremum,
    "topk": topk,
    "sort": sort,
    "to": to,
    "type_as": type_as,
    "full": filled,
    "full_like": full_like,
    "new_full": new_full,
    "arange": arange,
}
