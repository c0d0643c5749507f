"""Quantized and prepacked operators as the plain ones that they stand for.

`quantized::conv2d_relu(x, packed, scale, zero_point)` takes the shapes of `aten::conv2d(x, weight, …)`: a rule for the
plain operator serves for both, and for what an input must be.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from torchlink.verify.graph import PackedFact, TensorFact
from torchlink.verify.guessing.values import Shaped

NAMESPACES = ("quantized::", "prepacked::", "mkldnn_prepacked::", "onednn::", "_quantized::", "sparse::")
# What a name says besides the operator: how its input is quantized, what is fused behind it.
SUFFIXES = re.compile(
    r"(_dynamic|_fp16|_run|_clamp|_relu6?|_tanh|_leaky|_gelu|_add|_unpacked_weight|_byte|_[248]bit|_rowwise_offsets"
    r"|_with_input_q_dq_qweight_dq_output_fp32|_out|_prepacked|_qdq|_qlinear)+$"
)
# These change the representation of a tensor, not its shape: `relu` stands for all of them.
SAME_SHAPE = re.compile(
    r"aten::(quantize_per_(tensor|channel)(_dynamic)?|dequantize|to_mkldnn|to_dense|contiguous|fake_quantize_\w+)$"
)
CONVOLUTION = re.compile(r"conv(_transpose)?\dd(_transpose)?$")
RECURRENT = re.compile(r"aten::quantized_(lstm|gru)$|quantized::quantized_(lstm|gru|rnn_tanh|rnn_relu)_cell$")
SAME = (
    "add_scalar",
    "mul_scalar",
    "leaky",
    "leaky_relu",
    "hardswish",
    "elu",
    "celu",
    "sigmoid",
    "relu6",
    "dropout",
)


@dataclass(frozen=True, slots=True)
class Packed:
    """An object that holds the weights of a layer; vectors are left out."""

    weights: tuple[Shaped, ...]
    fact: PackedFact


def packed(fact: PackedFact, origin: str = "") -> Packed:
    """The object as a value of a run on shapes; its weights take float inputs, whatever they are stored as."""
    weights = [each for each in fact.weights if len(each.shape) > 1]
    return Packed(tuple(Shaped(each.shape, "float32", origin) for each in weights), fact)


def value_of(fact: object, origin: str = "") -> object:
    """What the loader knows of an attribute or constant, as a value of a run on shapes."""
    if isinstance(fact, TensorFact):
        return Shaped(fact.shape, fact.dtype, origin)
    if isinstance(fact, PackedFact):
        return packed(fact, origin)
    if isinstance(fact, (list, tuple)):
        return [value_of(each, origin) for each in fact]
    return fact


def plain(kind: str, arguments: list[object]) -> tuple[str, list[object]]:
    """The operator and its arguments, as plain ones where they are quantized or prepacked."""
    if SAME_SHAPE.match(kind):
        return "aten::relu", arguments[:1]
    recurrent = RECURRENT.match(SUFFIXES.sub("", kind))
    if recurrent:
        name = recurrent[1] or f"{recurrent[2]}_cell"
        return f"aten::{name}", [_weights(each, cell=recurrent[1] is None) for each in arguments]
    namespace = next((each for each in NAMESPACES if kind.startswith(each)), None)
    if namespace is None or not arguments:
        return kind, arguments
    bare = SUFFIXES.sub("", kind.removeprefix(namespace)) or kind.removeprefix(namespace)
    layer = next((each for each in arguments if isinstance(each, Packed) and each.weights), None)
    found = _layer(bare, layer, arguments) if layer is not None else None
    return found or _other(bare, arguments)


def _layer(bare: str, layer: Packed, arguments: list[object]) -> tuple[str, list[object]] | None:
    """An operator with a packed object among its arguments."""
    if CONVOLUTION.match(bare):
        return _convolution(layer, arguments[0], flat="1d" in bare, transposed="transpose" in bare)
    if bare.startswith("embedding"):
        return f"aten::{bare}", [layer.weights[0], *arguments[1:]]
    if bare.startswith("linear"):
        return "aten::linear", [arguments[0], layer.weights[0], None]
    return None


def _other(bare: str, arguments: list[object]) -> tuple[str, list[object]]:
    """An operator without one."""
    if bare.startswith("batch_norm"):  # x, weight, bias, mean, variance, eps
        return "aten::batch_norm", [*arguments[:5], False, 0.1, 1e-5, True]
    if bare == "cat":
        return "aten::cat", arguments[:2]
    if bare in ("add", "mul"):
        return f"aten::{bare}", arguments[:2]
    if bare in SAME:
        return "aten::relu", arguments[:1]
    return f"aten::{bare}", [_weights(each, cell=True) for each in arguments]


def _weights(value: object, *, cell: bool) -> object:
    """A packed argument's weights: of a list of cells all in a row, of one object the only one."""
    if isinstance(value, Packed):
        return value.weights[0] if cell and value.weights else list(value.weights)
    if isinstance(value, list) and any(isinstance(each, Packed) for each in value):
        flat: list[object] = []
        for each in value:
            # Of every cell two matrices and their two vectors, as plain parameters are listed.
            matrices = list(each.weights) if isinstance(each, Packed) else [each]
            flat += [
                *matrices,
                *(Shaped(matrix.shape[:1], "float32") for matrix in matrices if isinstance(matrix, Shaped)),
            ]
        return flat
    return value


def _convolution(layer: Packed, x: object, *, flat: bool, transposed: bool) -> tuple[str, list[object]]:
    """`_convolution` with the weight, direction and groups of the packed object, which is all that a clue needs."""
    fact, weight = layer.fact, layer.weights[0]
    if flat and weight.rank == 4:  # kept as an image of height 1
        weight = Shaped((*weight.shape[:2], *weight.shape[3:]), weight.dtype, weight.origin)
    # XNNPACK's objects have no method that tells the groups: they are the first number of their state.
    groups = fact.groups or next((each for each in fact.numbers if isinstance(each, int)), 1)
    return "aten::_convolution", [x, weight, *[None] * 4, transposed or fact.transpose, None, groups]
