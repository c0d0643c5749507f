"""The values that are followed through a graph, and the clues that result.

The clues of operators about their inputs: the shapes and the dtype of a value that each accepts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from torchlink.model.stored import is_floating
from torchlink.verify.guessing.operators import BITWISE, ELEMENTWISE
from torchlink.verify.guessing.values import (
    BATCH,
    HEIGHT,
    LENGTH,
    UNKNOWN,
    WIDTH,
    Shaped,
    Template,
    spatial,
    wholes,
)

if TYPE_CHECKING:
    from torchlink.verify.guessing.inverse import InvertedStep


# Where a tensor stands among the arguments: (argument, element, …); ANY is any element of a list or dict.
Path: TypeAlias = tuple[int | str, ...]
ANY = "*"


@dataclass(frozen=True, slots=True)
class ArgumentPart:
    """A part of an argument, with the steps that it has gone through (the last one last)."""

    path: Path
    steps: tuple[InvertedStep, ...] = ()
    cast: bool = False  # its dtype was converted on the way, so any is accepted


@dataclass(frozen=True, slots=True)
class Derived:
    """A value made of arguments, or a container argument itself."""

    sources: tuple[ArgumentPart, ...]


@dataclass(frozen=True, slots=True)
class KnownSize:
    """A tensor of which only the size of the last dimension, or of the channels, is known."""

    last: int | None = None
    channels: int | None = None

    def along(self, dim: int) -> int | None:
        """The size along a dimension, as far as known (dimension 1 of an unknown rank may be the last)."""
        if dim in (1, -3) and self.channels is not None:
            return self.channels
        return self.last if dim != 0 else None


@dataclass(frozen=True, slots=True)
class Clue:
    """A fact from an operator about a tensor that came from an argument."""

    path: Path | None  # None: a tensor whose origin is unknown
    dtype: str | None  # None: any
    template: Template | None  # None: any shape
    fill: str
    reason: str  # "conv1.weight takes 3 channels"
    weak: bool = False  # from an elementwise operator, which broadcasts


@dataclass(frozen=True, slots=True)
class ArgumentClue:
    """A fact from an operator about one of its arguments; `templates` in order of preference, None: any shape."""

    value: object
    templates: tuple[Template | None, ...]
    dtype: str | None
    reason: str
    fill: str = "ones"
    weak: bool = False


PASS = object()  # as the result of a clue rule: treat the value as for any other operator

# The clues of an operator and its result as far as known (`PASS`: the value is unchanged); None if it
# has none. A rule takes the operator's arguments.
Told: TypeAlias = tuple[tuple[ArgumentClue, ...], object] | None
ClueRule: TypeAlias = Callable[..., Told]


def named(parameter: Shaped) -> str:
    """A parameter, for a reason."""
    return parameter.origin or f"a constant of shape {list(parameter.shape)}"


def among(*values: object) -> object:
    """The result of an operator that chooses from these values by a mask or an index."""
    sources = [source for value in values if isinstance(value, Derived) for source in value.sources]
    if sources:
        return Derived(tuple(dict.fromkeys(sources)))
    return next((value for value in values if isinstance(value, KnownSize)), UNKNOWN)


def rows(width: int) -> tuple[Template, ...]:
    """Vectors of a width: a batch of them, a batch of sequences of them, one."""
    return (BATCH, width), (BATCH, LENGTH, width), (width,)


# recurrent layer -> how many gates its weights hold
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def linear(x: object, weight: object, *_: object) -> Told:
    """The last dimension is the weight's second."""
    if not isinstance(weight, Shaped):
        return None
    telling = ArgumentClue(
        x, rows(weight.shape[-1]), weight.dtype, f"{named(weight)} takes vectors of size {weight.shape[-1]}"
    )
    return (telling,), KnownSize(last=weight.shape[0])


def matmul(x: object, y: object, *_: object) -> Told:
    """The inner dimensions agree; the other side may be a parameter or a matrix that is known."""
    if isinstance(y, Shaped) and y.rank > 0:
        width = y.shape[-2] if y.rank > 1 else y.shape[0]
        return (
            ArgumentClue(x, rows(width), y.dtype, f"{named(y)} takes vectors of size {width}"),
        ), KnownSize(last=y.shape[-1])
    if isinstance(x, Shaped) and x.rank > 0:
        reason = f"{named(x)} has {x.shape[-1]} columns"
        return (ArgumentClue(y, ((x.shape[-1], LENGTH), (x.shape[-1],)), x.dtype, reason),), UNKNOWN
    if isinstance(x, Derived) and isinstance(y, Derived):
        return None
    return (ArgumentClue(x, (), None, ""), ArgumentClue(y, (), None, "")), UNKNOWN


def addmm(_bias: object, x: object, y: object, *_: object) -> Told:
    """As matmul."""
    return matmul(x, y)


def bilinear(x: object, y: object, weight: object, *_: object) -> Told:
    """The widths of both inputs."""
    if not isinstance(weight, Shaped):
        return None
    reason = f"{named(weight)} takes vectors of sizes {weight.shape[1]} and {weight.shape[2]}"
    first = ArgumentClue(x, rows(weight.shape[1]), weight.dtype, reason)
    second = ArgumentClue(y, rows(weight.shape[2]), weight.dtype, reason)
    return (first, second), KnownSize(last=weight.shape[0])


def convolution(x: object, weight: object, groups: object, *, transposed: bool) -> Told:
    """Channels in dimension 1, the spatial sizes open."""
    if not isinstance(weight, Shaped) or not isinstance(groups, int):
        return None
    channels = weight.shape[0] if transposed else weight.shape[1] * groups
    out = weight.shape[1] * groups if transposed else weight.shape[0]
    template: Template = (BATCH, channels, *spatial(weight.rank - 2))
    reason = f"{named(weight)} takes {channels} channel{'s' if channels != 1 else ''}"
    return (ArgumentClue(x, (template,), weight.dtype, reason),), KnownSize(channels=out)


def conv(
    x: object, weight: object, _b: object, _s: object, _p: object, _d: object, groups: object, *_: object
) -> Told:
    """`conv1d` and its like."""
    return convolution(x, weight, groups, transposed=False)


def conv_transpose(
    x: object, weight: object, _b: object, _s: object, _p: object, _o: object, groups: object, *_: object
) -> Told:
    """`conv_transpose1d` and its like."""
    return convolution(x, weight, groups, transposed=True)


def any_conv(x: object, weight: object, *rest: object) -> Told:
    """`_convolution`: bias, stride, padding, dilation, transposed, output_padding, groups."""
    return convolution(x, weight, rest[6], transposed=rest[4] is True)


def channels(x: object, parameters: tuple[object, ...], *templates: Template) -> Told:
    """Channels in dimension 1, the number of elements of the parameters; "C" in the templates."""
    for parameter in parameters:
        if isinstance(parameter, Shaped):
            filled = tuple(
                tuple(parameter.numel if size == "C" else size for size in each) for each in templates
            )
            reason = f"{named(parameter)} has {parameter.numel} channels"
            return (ArgumentClue(x, filled, parameter.dtype, reason),), PASS
    return None


def batch_norm(x: object, *parameters: object) -> Told:
    """Any rank from 2 on."""
    wide = [(BATCH, "C", *spatial(rank)) for rank in (2, 1, 3)]
    return channels(x, parameters[:4], (BATCH, "C"), *wide)


def instance_norm(x: object, *parameters: object) -> Told:
    """Any rank from 3 on."""
    return channels(x, parameters[:4], *((BATCH, "C", *spatial(rank)) for rank in (2, 1, 3)))


def group_norm(x: object, _groups: object, weight: object, *_: object) -> Told:
    """Any rank from 2 on."""
    return channels(x, (weight,), (BATCH, "C", HEIGHT, WIDTH), (BATCH, "C", *spatial(1)), (BATCH, "C"))


def prelu(x: object, weight: object, *_: object) -> Told:
    """One slope per channel."""
    if isinstance(weight, Shaped) and weight.numel == 1:
        return None
    return channels(x, (weight,), (BATCH, "C", HEIGHT, WIDTH), (BATCH, "C"))


def layer_norm(x: object, size: object, weight: object, *_: object) -> Told:
    """The last dimensions are stated."""
    try:
        sizes = wholes(size)
    except TypeError:
        return None
    dtype = weight.dtype if isinstance(weight, Shaped) else None
    reason = f"it is normalised over {sizes}"
    return (ArgumentClue(x, ((BATCH, LENGTH, *sizes), (BATCH, *sizes)), dtype, reason),), PASS


def embedding(weight: object, indices: object, *_: object) -> Told:
    """Indices below the number of rows."""
    if not isinstance(weight, Shaped):
        return None
    fill = "ones" if weight.shape[0] > 1 else "zeros"
    reason = f"it indexes {weight.origin or 'a table'} of {weight.shape[0]} rows"
    telling = ArgumentClue(indices, ((BATCH, LENGTH), (BATCH,), (LENGTH,)), "int64", reason, fill)
    return (telling,), KnownSize(last=weight.shape[-1])


def embedding_bag(weight: object, indices: object, offsets: object, *_: object) -> Told:
    """Consecutive indices, and the offset of each bag."""
    if not isinstance(weight, Shaped):
        return None
    fill = "ones" if weight.shape[0] > 1 else "zeros"
    reason = f"it indexes {weight.origin or 'a table'} of {weight.shape[0]} rows"
    telling = ArgumentClue(indices, ((LENGTH,), (BATCH, LENGTH)), "int64", reason, fill)
    starts = ArgumentClue(offsets, ((BATCH,),), "int64", "it holds the offsets of bags of indices", "zeros")
    known = KnownSize(last=weight.shape[-1])
    return (telling, starts), (known, UNKNOWN, UNKNOWN, UNKNOWN)


def recurrent(gates: int) -> ClueRule:
    """A sequence and the states of an LSTM, a GRU or an RNN (`GATES`)."""

    def rule(x: object, states: object, parameters: object, *rest: object) -> Told:
        packed = isinstance(rest[0], list)  # data, batch_sizes, states, parameters, …
        if packed:
            states, parameters, rest = parameters, rest[0], rest[1:]
        layers, both_ways, batch_first = rest[1], rest[4] is True, rest[5] is True
        weights = (
            [each for each in parameters if isinstance(each, Shaped)] if isinstance(parameters, list) else []
        )
        if len(weights) < 2 or not isinstance(layers, int):
            return None
        width, hidden, last = weights[0].shape[-1], weights[0].shape[0] // gates, weights[1].shape[-1]
        directions = 2 if both_ways else 1
        template: Template = (BATCH, LENGTH, width) if batch_first else (LENGTH, BATCH, width)
        reason = f"{named(weights[0])} takes vectors of size {width}"
        tellings = [ArgumentClue(x, ((LENGTH, width),) if packed else (template,), weights[0].dtype, reason)]
        for state, size in zip(
            states if isinstance(states, list) else [states], (last, hidden), strict=False
        ):
            reason = f"{named(weights[1])} carries {layers * directions} x {size} values on"
            tellings.append(
                ArgumentClue(state, ((layers * directions, BATCH, size),), weights[0].dtype, reason)
            )
        out = KnownSize(last=last * directions)
        return tuple(tellings), (out, UNKNOWN, UNKNOWN) if gates == 4 else (out, UNKNOWN)

    return rule


def cell(gates: int) -> ClueRule:
    """One step: a batch of vectors and of states."""

    def rule(x: object, states: object, w_ih: object, w_hh: object, *_: object) -> Told:
        if not isinstance(w_ih, Shaped) or not isinstance(w_hh, Shaped):
            return None
        size = w_hh.shape[-1]
        width = w_ih.shape[-1]
        reason = f"{named(w_ih)} takes vectors of size {width}"
        tellings = [ArgumentClue(x, ((BATCH, width), (width,)), w_ih.dtype, reason)]
        tellings += [
            ArgumentClue(
                state, ((BATCH, size), (size,)), w_hh.dtype, f"{named(w_hh)} carries {size} values on"
            )
            for state in (states if isinstance(states, list) else [states])
        ]
        known = KnownSize(last=size)
        return tuple(tellings), (known, known) if gates == 4 else known

    return rule


def attention(query: object, key: object, value: object, *_: object) -> Told:
    """Queries, keys and values of one width."""
    reason = "it is an operand of attention"
    return tuple(
        ArgumentClue(each, ((BATCH, 2, LENGTH, 8),), None, reason) for each in (query, key, value)
    ), PASS


def encoder_layer(x: object, width: object, *_: object) -> Told:
    """The fused transformer layer, and fused attention: the width is stated."""
    if not isinstance(width, int):
        return None
    return (ArgumentClue(x, ((BATCH, LENGTH, width),), None, f"the model's width is {width}"),), KnownSize(
        last=width
    )


def pack(x: object, lengths: object, batch_first: object, *_: object) -> Told:
    """Sequences of several lengths, packed: the lengths are int64 on the CPU."""
    told = ArgumentClue(lengths, ((BATCH,),), "int64", "it gives the lengths of sequences")
    return ((told,), PASS) if isinstance(x, Derived) or batch_first is not UNKNOWN else None


def einsum(equation: object, operands: object, *_: object) -> Told:
    """One letter per dimension; letters that a parameter also has are known."""
    if not isinstance(equation, str) or not isinstance(operands, list) or "." in equation:
        return None
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, operand in zip(terms, operands, strict=False):
        if isinstance(operand, Shaped):
            sizes.update(zip(term, operand.shape, strict=False))
    dtype = next((each.dtype for each in operands if isinstance(each, Shaped)), None)
    reason = f"einsum says {equation!r}"
    return tuple(
        ArgumentClue(operand, (tuple(sizes.get(letter, 4) for letter in term),), dtype, reason)
        for term, operand in zip(terms, operands, strict=False)
    ), UNKNOWN


def index(x: object, indices: object, *_: object) -> Told:
    """Integers that index another tensor."""
    if not isinstance(indices, list):
        return None
    templates: tuple[Template, ...] = ((LENGTH,), (BATCH, LENGTH))
    found = [each for each in indices if isinstance(each, Derived)]
    return tuple(
        ArgumentClue(each, templates, "int64", "it is used as an index", "zeros") for each in found
    ), among(x)


def index_at(x: object, _dim: object, indices: object, *_: object) -> Told:
    """`index_select` and `gather`."""
    templates: tuple[Template, ...] = ((LENGTH,), (BATCH, LENGTH), (BATCH, LENGTH, 1))
    return (ArgumentClue(indices, templates, "int64", "it is used as an index", "zeros"),), among(x)


def masked_fill(x: object, mask: object, *_: object) -> Told:
    """A mask of bools, all false, because masking out everything gives NaN."""
    return (ArgumentClue(mask, (None,), "bool", "it is used as a mask", "zeros"),), among(x)


def where(condition: object, *values: object) -> Told:
    """A condition of bools."""
    return (ArgumentClue(condition, (None,), "bool", "it is used as a condition"),), among(*values[:2])


def bitwise(*values: object) -> Told:
    """Integers or bools."""
    return tuple(ArgumentClue(each, (None,), "int64", "its bits are used") for each in values[:2]), PASS


def one_hot(x: object, *_: object) -> Told:
    """Class numbers."""
    return (ArgumentClue(x, ((BATCH, LENGTH), (BATCH,)), "int64", "it holds class numbers", "zeros"),), PASS


def target(_x: object, wanted: object, *_: object) -> Told:
    """The class numbers of a loss."""
    return (ArgumentClue(wanted, ((BATCH,),), "int64", "it holds class numbers", "zeros"),), UNKNOWN


def counted(x: object, *_: object) -> Told:
    """`bincount`."""
    return (ArgumentClue(x, ((LENGTH,),), "int64", "it is counted"),), UNKNOWN


def resized(rank: int) -> ClueRule:
    """An image that is resized."""

    def rule(x: object, *_: object) -> Told:
        template: Template = (BATCH, 3, *spatial(rank))
        return (ArgumentClue(x, (template,), None, "it is resized as an image", weak=True),), PASS

    return rule


def as_real(x: object, *_: object) -> Told:
    """Complex numbers."""
    return (ArgumentClue(x, (None,), "complex64", "its real and imaginary parts are used"),), PASS


def elementwise(*values: object) -> Told:
    """A parameter or constant that is combined element by element: its shape, or one that broadcasts with it."""
    known = [each for each in values[:3] if isinstance(each, Shaped) and each.rank > 0]
    widths = [each.last for each in values[:3] if isinstance(each, KnownSize) and each.last is not None]
    if not known and widths:
        reason = f"it is combined with vectors of {widths[0]}"
        tellings = tuple(ArgumentClue(each, rows(widths[0]), None, reason, weak=True) for each in values[:3])
        return tellings, KnownSize(last=widths[0])
    if not known:
        return None
    shape, dtype = known[0].shape, known[0].dtype
    wide: Template = tuple(
        size if size > 1 else letter for size, letter in zip(shape, _letters(len(shape)), strict=True)
    )
    templates: list[Template] = [wide, (BATCH, *wide)] if len(shape) < 4 else [wide]
    if shape[0] != 1:
        templates.reverse()
    reason = f"it is combined with {known[0].origin or 'a constant'} of shape {list(shape)}"
    told = dtype if is_floating(dtype) else None
    return tuple(ArgumentClue(each, tuple(templates), told, reason, weak=True) for each in values[:3]), PASS


def _letters(rank: int) -> Template:
    """Open sizes for the dimensions in which a broadcast parameter has size 1."""
    return {1: (LENGTH,), 2: (BATCH, LENGTH), 3: (BATCH, HEIGHT, WIDTH)}.get(
        rank, (BATCH, 3, HEIGHT, WIDTH)[:rank]
    )


CLUE_RULES: dict[str, ClueRule] = {
    "linear": linear,
    "matmul": matmul,
    "mm": matmul,
    "mv": matmul,
    "addmm": addmm,
    "bilinear": bilinear,
    "_convolution": any_conv,
    "batch_norm": batch_norm,
    "instance_norm": instance_norm,
    "group_norm": group_norm,
    "prelu": prelu,
    "layer_norm": layer_norm,
    "embedding": embedding,
    "embedding_bag": embedding_bag,
    **{name: recurrent(gates) for name, gates in GATES.items()},
    **{f"{name}_cell": cell(gates) for name, gates in GATES.items()},
    "scaled_dot_product_attention": attention,
    "_transformer_encoder_layer_fwd": encoder_layer,
    **{f"conv{rank}d": conv for rank in (1, 2, 3)},
    **{f"conv_transpose{rank}d": conv_transpose for rank in (1, 2, 3)},
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(BITWISE, bitwise),
    "_pack_padded_sequence": pack,
    "einsum": einsum,
    "index": index,
    "index_select": index_at,
    "gather": index_at,
    "masked_fill": masked_fill,
    "where": where,
    "one_hot": one_hot,
    "cross_entropy_loss": target,
    "nll_loss": target,
    "bincount": counted,
    "view_as_real": as_real,
    "upsample_nearest1d": resized(1),
    "upsample_linear1d": resized(1),
    "upsample_nearest2d": resized(2),
    "upsample_bilinear2d": resized(2),
    "upsample_bicubic2d": resized(2),
    "upsample_trilinear3d": resized(3),
}
