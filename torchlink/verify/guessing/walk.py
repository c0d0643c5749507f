"""Quantized and prepacked operators rewritten as the plain ones.

`quantized::conv2d_relu(x, packed, scale, zero_point)` takes the shapes of `aten::conv2d(x, weight, …)`: the rules for
the plain operator apply to both.

Following the arguments through a graph: nodes in order, branches and loops, with values as in `values`.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchlink.verify.graph import PackedFact, TensorFact
from torchlink.verify.guessing.clues import ArgumentPart, Derived
from torchlink.verify.guessing.operators import PLAIN, apply
from torchlink.verify.guessing.probe import Prober
from torchlink.verify.guessing.values import UNKNOWN, ModuleRef, Shaped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torchlink.verify.graph import Block, Description, Node


NAMESPACES = ("quantized::", "prepacked::", "mkldnn_prepacked::", "onednn::", "_quantized::", "sparse::")
# The parts of a name other than the operator: how its input is quantized, what is fused behind it.
SUFFIXES = re.compile(
    r"(_dynamic|_fp16|_run|_clamp|_relu6?|_tanh|_leaky|_gelu|_add|_unpacked_weight|_byte|_[248]bit|_rowwise_offsets"
    r"|_with_input_q_dq_qweight_dq_output_fp32|_out|_prepacked|_qdq|_qlinear)+$"
)
# These change the representation of a tensor, not its shape: `relu` represents all of them.
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
    """An object that contains the weights of a layer; vectors are left out."""

    weights: tuple[Shaped, ...]
    fact: PackedFact


def packed(fact: PackedFact, origin: str = "") -> Packed:
    """The object as a value of a run on shapes; its weights take float inputs, however they are stored."""
    weights = [each for each in fact.weights if len(each.shape) > 1]
    return Packed(tuple(Shaped(each.shape, "float32", origin) for each in weights), fact)


def value_of(fact: object, origin: str = "") -> object:
    """The loader's facts about an attribute or constant, as a value of a run on shapes."""
    if isinstance(fact, TensorFact):
        return Shaped(fact.shape, fact.dtype, origin)
    if isinstance(fact, PackedFact):
        return packed(fact, origin)
    if isinstance(fact, (list, tuple)):
        return [value_of(each, origin) for each in fact]
    return fact


def plain(kind: str, arguments: list[object]) -> tuple[str, list[object]]:
    """The operator and its arguments, as plain ones if they are quantized or prepacked."""
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
            # Two matrices and their two vectors per cell, in the order of plain parameters.
            matrices = list(each.weights) if isinstance(each, Packed) else [each]
            flat += [
                *matrices,
                *(Shaped(matrix.shape[:1], "float32") for matrix in matrices if isinstance(matrix, Shaped)),
            ]
        return flat
    return value


def _convolution(layer: Packed, x: object, *, flat: bool, transposed: bool) -> tuple[str, list[object]]:
    """`_convolution` with the weight, direction and groups of the packed object, the only ones that a clue needs."""
    fact, weight = layer.fact, layer.weights[0]
    if flat and weight.rank == 4:  # kept as an image of height 1
        weight = Shaped((*weight.shape[:2], *weight.shape[3:]), weight.dtype, weight.origin)
    # XNNPACK's objects have no method that returns the groups: they are the first number of their state.
    groups = fact.groups or next((each for each in fact.numbers if isinstance(each, int)), 1)
    return "aten::_convolution", [x, weight, *[None] * 4, transposed or fact.transpose, None, groups]


LONGEST_LOOP = 64
MOST_STEPS = 100_000  # nodes


class DeadEndError(Exception):
    """The model raises an exception at this point."""


class OutOfStepsError(Exception):
    """The graph has too many steps."""


def probed(description: Description) -> Prober:
    """The clues from following the graph; also those found before an early end."""
    prober = Prober()
    probes = [Derived((ArgumentPart((number,)),)) for number in range(len(description.arguments))]
    with suppress(DeadEndError, OutOfStepsError, RecursionError):
        _Walk(description.attributes, prober).block(description.graph, [ModuleRef(""), *probes])
    return prober


class _Walk:
    """One pass through a graph."""

    def __init__(self, attributes: Mapping[str, object], prober: Prober) -> None:
        self.attributes = attributes
        self.prober = prober
        self.steps_left = MOST_STEPS
        self.values: dict[str, object] = {}

    def block(self, block: Block, arguments: Sequence[object]) -> list[object]:
        """Follow a block; returns its results."""
        self.values.update(zip(block.inputs, arguments, strict=False))
        for node in block.nodes:
            self.steps_left -= 1
            if self.steps_left < 0:
                raise OutOfStepsError
            self.node(node)
        return [self.values.get(name, UNKNOWN) for name in block.outputs]

    def node(self, node: Node) -> None:
        """Follow a node."""
        arguments = [self.values.get(name, UNKNOWN) for name in node.inputs]
        if node.kind == "prim::If":
            results = self.branch(node, arguments[0])
        elif node.kind == "prim::Loop":
            results = self.loop(node, arguments)
        elif node.kind == "prim::RaiseException":
            raise DeadEndError
        else:
            result = self.result(node, arguments)
            several = len(node.outputs) != 1 and isinstance(result, (tuple, list))
            results = list(result) if several else [result] * len(node.outputs)  # type: ignore[call-overload]
        if len(results) != len(node.outputs):
            results = [UNKNOWN] * len(node.outputs)
        self.values.update(zip(node.outputs, results, strict=True))

    def result(self, node: Node, arguments: list[object]) -> object:
        """The result of a node without blocks."""
        match node.kind:
            case "prim::Constant":
                return _constant(node.value)
            case "prim::GetAttr":
                return self.attribute(arguments[0], node)
            case "prim::ListConstruct":
                return arguments
            case "prim::TupleConstruct":
                return tuple(arguments)
            case "prim::DictConstruct":
                return _dict(arguments)
        kind, arguments = plain(node.kind, arguments)
        answer = self.prober.answer(kind, arguments, len(node.outputs))
        if answer is not None:
            result = answer[0]
        elif node.kind in ("prim::ListUnpack", "prim::TupleUnpack"):
            return _unpacked(arguments[0], len(node.outputs))
        else:
            result = apply(kind, arguments)
        if kind != node.kind and len(node.outputs) == 1 and isinstance(result, tuple):
            return result[0] if result else UNKNOWN  # the quantized operator has only the first result
        return result

    def attribute(self, owner: object, node: Node) -> object:
        """A module's parameter, buffer, plain attribute or submodule."""
        if not isinstance(owner, ModuleRef):
            return UNKNOWN
        path = f"{owner.path}.{node.name}" if owner.path else node.name
        if path in self.attributes:
            return value_of(self.attributes[path], path)
        if node.type.startswith("__torch__."):
            return ModuleRef(path)
        if node.name == "_flat_weights":  # of torch.nn.RNNBase: its parameters in the order of registration
            return [
                Shaped(value.shape, value.dtype, each)
                for each, value in self.attributes.items()
                if isinstance(value, TensorFact) and each.rpartition(".")[0] == owner.path
            ]
        return None if node.type.endswith("?") or node.type == "NoneType" else UNKNOWN

    def branch(self, node: Node, condition: object) -> list[object]:
        """The branch that is taken, or both if that is unknown."""
        if isinstance(condition, (bool, int, float)):
            return self.block(node.blocks[0 if condition else 1], ())
        outcomes = []
        for block in node.blocks:
            try:
                outcomes.append(self.block(block, ()))
            except DeadEndError:
                continue
        if not outcomes:
            raise DeadEndError
        return [self.agreed(values) for values in zip(*outcomes, strict=True)]

    def agreed(self, values: Sequence[object]) -> object:
        """The value that branches agree on, or what is known about both."""
        if all(value is values[0] or value == values[0] for value in values[1:]):
            return values[0]
        return self.prober.agreed(values)

    def loop(self, node: Node, arguments: list[object]) -> list[object]:
        """A loop of known length, or one pass through the body of any other."""
        limit, going, *carried = arguments
        body = node.blocks[0]
        if not isinstance(limit, int) or not isinstance(going, bool):
            self.block(body, [UNKNOWN, *carried])
            return [UNKNOWN] * len(node.outputs)
        for index in range(min(limit, LONGEST_LOOP)):
            if going is not True:
                break
            going, *carried = self.block(body, [index, *carried])
        if going is False or (going is True and limit <= LONGEST_LOOP):
            return carried
        return [UNKNOWN] * len(node.outputs)


def _unpacked(value: object, count: int) -> object:
    """A list's or tuple's elements."""
    if not isinstance(value, (list, tuple)) or len(value) != count:
        return UNKNOWN
    return value[0] if count == 1 else value


def _constant(value: object) -> object:
    """A constant's value."""
    if isinstance(value, (TensorFact, PackedFact, tuple)):
        return value_of(value)
    return list(value) if isinstance(value, list) else value


def _dict(arguments: list[object]) -> object:
    """A dict of plain keys."""
    if not all(isinstance(key, PLAIN) for key in arguments[::2]):
        return UNKNOWN
    return dict(zip(arguments[::2], arguments[1::2], strict=True))
