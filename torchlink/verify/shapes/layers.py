"""Shape rules of convolutions, pooling, norms, embeddings, recurrent layers, attention and resizing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.verify.shapes import products
from torchlink.verify.shapes.products import same_dtype
from torchlink.verify.shapes.values import (
    Mismatch,
    Rule,
    Shape,
    Shaped,
    broadcast,
    floating,
    require,
    tensor,
    whole,
    wholes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

REDUCED_PRECISION = ("float16", "bfloat16")
# recurrent layer -> how many gates its weights hold
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def convolution(rank: int | None = None, *, transposed: bool = False) -> Rule:
    """A convolution over `rank` spatial dimensions (None: as the weight has), batched or not."""

    def rule(
        x: object, weight: object, bias: object, stride: object, padding: object, *rest: object
    ) -> Shaped:
        given, kernel = tensor(x), tensor(weight)
        n = kernel.rank - 2 if rank is None else rank
        same_dtype(given, kernel, *([bias] if isinstance(bias, Shaped) else []))
        turned, extra, dilation, groups = transposed, [0] * n, rest[0], rest[1]
        if rank is None:  # _convolution: dilation, transposed, output_padding, groups, …
            turned, extra, groups = rest[1] is True, wholes(rest[2], n), rest[3]
        elif transposed:  # output_padding, groups, dilation
            extra, groups, dilation = wholes(rest[0], n), rest[1], rest[2]
        require(given.rank in (n + 1, n + 2))
        channels = kernel.shape[0] if turned else kernel.shape[1] * whole(groups)
        require(given.shape[-n - 1] == channels)
        out = kernel.shape[1] * whole(groups) if turned else kernel.shape[0]
        steps, spread = wholes(stride, n), wholes(dilation, n)
        sizes = []
        for place in range(n):
            reach = spread[place] * (kernel.shape[2 + place] - 1) + 1
            size = given.shape[-n + place]
            if isinstance(padding, str):
                sizes.append(size if padding == "same" else (size - reach) // steps[place] + 1)
                continue
            margin = 2 * wholes(padding, n)[place]
            if turned:
                sizes.append((size - 1) * steps[place] - margin + reach + extra[place])
            else:
                require(size + margin >= reach)
                sizes.append((size + margin - reach) // steps[place] + 1)
        require(min(sizes) > 0)
        return Shaped((*given.shape[: -n - 1], out, *sizes), given.dtype)

    return rule


def pool(rank: int, *, has_dilation: bool) -> Rule:
    """Max pooling (with dilation) or average pooling over the last `rank` dimensions."""

    def rule(x: object, kernel: object, stride: object = None, padding: object = 0, *rest: object) -> Shaped:
        given, window = tensor(x), wholes(kernel, rank)
        require(given.rank in (rank + 1, rank + 2))
        steps = wholes(stride, rank) if stride not in (None, []) else window
        margin = wholes(padding, rank)
        spread = wholes(rest[0], rank) if has_dilation and rest else [1] * rank
        ceil = (rest[1:] if has_dilation else rest)[:1] == (True,)
        sizes = []
        for place in range(rank):
            size = given.shape[-rank + place] + 2 * margin[place]
            over = size - spread[place] * (window[place] - 1) - 1
            require(over >= 0 or ceil)
            out = (-(-over // steps[place]) if ceil else over // steps[place]) + 1
            if ceil and (out - 1) * steps[place] >= size - margin[place]:
                out -= 1
            require(out > 0)
            sizes.append(out)
        return Shaped((*given.shape[:-rank], *sizes), given.dtype)

    return rule


def with_indices(rule: Rule) -> Rule:
    """A pooling that gives the indices too."""

    def both(*arguments: object) -> object:
        found = tensor(rule(*arguments))
        return found, Shaped(found.shape, "int64")

    return both


def adaptive_pool(rank: int) -> Rule:
    """Pooling to a stated size."""

    def rule(x: object, size: object) -> Shaped:
        given = tensor(x)
        require(given.rank in (rank + 1, rank + 2) and 0 not in given.shape[1:])
        return Shaped((*given.shape[:-rank], *wholes(size, rank)), given.dtype)

    return rule


def batch_norm(x: object, *rest: object) -> Shaped:
    """Channels in dimension 1; in training more than one value a channel."""
    given = tensor(x)
    require(given.rank >= 2)
    for parameter in rest[:4]:
        if isinstance(parameter, Shaped):
            require(parameter.numel == given.shape[1])
            require(parameter.dtype == given.dtype or given.dtype in REDUCED_PRECISION)
    if len(rest) > 4 and rest[4] is True:
        require(given.numel > given.shape[1])
    return given


def instance_norm(x: object, *rest: object) -> Shaped:
    """As batch_norm, over each sample alone."""
    given = tensor(x)
    require(given.rank >= 3)
    return batch_norm(x, *rest[:4])


def group_norm(x: object, groups: object, weight: object = None, *_: object) -> Shaped:
    """Channels in dimension 1, in equal groups."""
    given = tensor(x)
    require(given.rank >= 2 and given.shape[1] % whole(groups) == 0)
    if isinstance(weight, Shaped):
        require(weight.numel == given.shape[1])
    return given


def layer_norm(x: object, size: object, weight: object = None, *_: object) -> Shaped:
    """Over the last dimensions, whose sizes are stated."""
    given, sizes = tensor(x), tuple(wholes(size))
    require(given.shape[-len(sizes) :] == sizes and floating(given.dtype) == given.dtype)
    if isinstance(weight, Shaped):
        require(weight.dtype == given.dtype or given.dtype in REDUCED_PRECISION)
    return given


def prelu(x: object, weight: object) -> Shaped:
    """One slope, or one a channel."""
    given, slopes = tensor(x), tensor(weight)
    require(slopes.numel == 1 or (given.rank > 1 and given.shape[1] == slopes.numel))
    return given


def embedding(weight: object, indices: object, *_: object) -> Shaped:
    """One row an index."""
    table, chosen = tensor(weight), tensor(indices)
    require(chosen.dtype in ("int64", "int32"))
    return Shaped((*chosen.shape, table.shape[-1]), table.dtype)


def embedding_bag(weight: object, indices: object, offsets: object, *_: object) -> object:
    """Rows summed in bags that begin at the offsets."""
    table, chosen, starts = tensor(weight), tensor(indices), tensor(offsets)
    require(chosen.dtype in ("int64", "int32") and chosen.rank == 1 and starts.rank == 1)
    result = Shaped((starts.shape[0], table.shape[-1]), table.dtype)
    return result, starts, starts, starts


def recurrent(gates: int) -> Rule:
    """LSTM, GRU and plain RNNs (`GATES`) over a whole sequence."""

    def rule(
        x: object, states: object, parameters: object, biases: object, layers: object, *rest: object
    ) -> object:
        given = tensor(x)
        weights = [tensor(each) for each in parameters] if isinstance(parameters, list) else []
        _, _, both_ways, batch_first = rest[:4]
        directions = 2 if both_ways is True else 1
        require(given.rank == 3 and given.shape[-1] == weights[0].shape[-1])
        same_dtype(given, weights[0])
        hidden = weights[0].shape[0] // gates
        projected = weights[4].shape[0] if gates == 4 and len(weights) % 5 == 0 and biases is True else hidden
        batch = given.shape[0] if batch_first is True else given.shape[1]
        carried = [(whole(layers) * directions, batch, size) for size in (projected, hidden)]
        for state, expected in zip(states if isinstance(states, list) else [states], carried, strict=False):
            if isinstance(state, Shaped):
                require(state.shape == expected)
        out = Shaped((*given.shape[:2], projected * directions), given.dtype)
        ends = [Shaped(shape, given.dtype) for shape in carried]
        return (out, *ends) if gates == 4 else (out, ends[1])

    return rule


def cell(gates: int) -> Rule:
    """One step of an LSTM, GRU or RNN."""

    def rule(x: object, states: object, w_ih: object, w_hh: object, *_: object) -> object:
        given, inner, outer = tensor(x), tensor(w_ih), tensor(w_hh)
        require(given.rank in (1, 2) and given.shape[-1] == inner.shape[-1])
        state = tensor(states[0] if isinstance(states, list) else states)
        require(state.shape == (*given.shape[:-1], outer.shape[-1]))
        return (state, state) if gates == 4 else state

    return rule


def attention(query: object, key: object, value: object, mask: object = None, *_: object) -> Shaped:
    """Scaled dot product attention."""
    q, k, v = tensor(query), tensor(key), tensor(value)
    require(q.rank >= 2 and q.shape[-1] == k.shape[-1] and k.shape[-2] == v.shape[-2])
    if isinstance(mask, Shaped):
        broadcast(mask.shape, (*q.shape[:-1], k.shape[-2]))
    return Shaped((*q.shape[:-1], v.shape[-1]), q.dtype)


def encoder_layer(x: object, width: object, *_: object) -> Shaped:
    """The fused transformer encoder layer: the shape stays."""
    given = tensor(x)
    require(given.rank == 3 and given.shape[-1] == whole(width))
    return given


def resize(rank: int) -> Rule:
    """`upsample_*`: to a size, or by factors (the list of floats among the arguments)."""

    def rule(x: object, *rest: object) -> Shaped:
        given = tensor(x)
        require(given.rank == rank + 2)
        lists = [argument for argument in rest if isinstance(argument, list) and argument]
        if not lists:
            raise TypeError
        chosen: Sequence[object] = lists[0]
        if all(isinstance(size, int) for size in chosen):
            return Shaped((*given.shape[:2], *wholes(chosen, rank)), given.dtype)
        factors = [float(str(factor)) for factor in chosen]
        scaled: Shape = tuple(int(size * by) for size, by in zip(given.shape[2:], factors, strict=True))
        return Shaped((*given.shape[:2], *scaled), given.dtype)

    return rule


def cross_entropy(x: object, target: object, *_: object) -> object:
    """Class indices (or probabilities) for logits."""
    given, wanted = tensor(x), tensor(target)
    if wanted.dtype == "int64":
        require((given.shape[:1] + given.shape[2:] if given.rank > 1 else ()) == wanted.shape)
    elif wanted.shape != given.shape:
        raise Mismatch
    raise TypeError  # a scalar, or not, by the reduction


RULES: dict[str, Rule] = {
    **products.RULES,
    "_convolution": convolution(),
    "batch_norm": batch_norm,
    "instance_norm": instance_norm,
    "group_norm": group_norm,
    "layer_norm": layer_norm,
    "prelu": prelu,
    "embedding": embedding,
    "embedding_bag": embedding_bag,
    **{name: recurrent(gates) for name, gates in GATES.items()},
    **{f"{name}_cell": cell(gates) for name, gates in GATES.items()},
    "scaled_dot_product_attention": attention,
    "_transformer_encoder_layer_fwd": encoder_layer,
    "cross_entropy_loss": cross_entropy,
    "upsample_nearest1d": resize(1),
    "upsample_linear1d": resize(1),
    "upsample_nearest2d": resize(2),
    "upsample_bilinear2d": resize(2),
    "upsample_bicubic2d": resize(2),
    "upsample_nearest3d": resize(3),
    "upsample_trilinear3d": resize(3),
}
for _rank in (1, 2, 3):
    RULES[f"conv{_rank}d"] = convolution(_rank)
    RULES[f"conv_transpose{_rank}d"] = convolution(_rank, transposed=True)
    RULES[f"max_pool{_rank}d"] = pool(_rank, has_dilation=True)
    RULES[f"max_pool{_rank}d_with_indices"] = with_indices(RULES[f"max_pool{_rank}d"])
    RULES[f"avg_pool{_rank}d"] = pool(_rank, has_dilation=False)
    RULES[f"adaptive_avg_pool{_rank}d"] = adaptive_pool(_rank)
    RULES[f"adaptive_max_pool{_rank}d"] = with_indices(adaptive_pool(_rank))
