"""Following the arguments through a graph: nodes in order, branches and loops, with values as in `values`."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from torchlink.verify.graph import PackedFact, TensorFact
from torchlink.verify.guessing import quantized
from torchlink.verify.guessing.clues import Probe, Source
from torchlink.verify.guessing.operators import PLAIN, apply
from torchlink.verify.guessing.probe import Prober
from torchlink.verify.guessing.values import UNKNOWN, ModuleRef, Shaped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torchlink.verify.graph import Block, Description, Node

LONGEST_LOOP = 64
MOST_STEPS = 100_000  # nodes


class DeadEndError(Exception):
    """Here the model raises an exception."""


class OutOfStepsError(Exception):
    """The graph was longer than it may be."""


def probed(description: Description) -> Prober:
    """What is learnt on the way through the graph; one that ends early has learnt what it has."""
    prober = Prober()
    probes = [Probe((Source((number,)),)) for number in range(len(description.arguments))]
    with suppress(DeadEndError, OutOfStepsError, RecursionError):
        _Walk(description.attributes, prober).block(description.graph, [ModuleRef(""), *probes])
    return prober


class _Walk:
    """One way through a graph."""

    def __init__(self, attributes: Mapping[str, object], prober: Prober) -> None:
        self.attributes = attributes
        self.prober = prober
        self.steps_left = MOST_STEPS
        self.values: dict[str, object] = {}

    def block(self, block: Block, arguments: Sequence[object]) -> list[object]:
        """Follow a block; what it gives."""
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
        """What a node without blocks gives."""
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
        kind, arguments = quantized.plain(node.kind, arguments)
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
            return quantized.value_of(self.attributes[path], path)
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
        """A branch that is known, or both."""
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
        """What branches agree on, or what is known of both."""
        if all(value is values[0] or value == values[0] for value in values[1:]):
            return values[0]
        return self.prober.agreed(values)

    def loop(self, node: Node, arguments: list[object]) -> list[object]:
        """A loop whose length is known, or one pass through the body of another."""
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
        return quantized.value_of(value)
    return list(value) if isinstance(value, list) else value


def _dict(arguments: list[object]) -> object:
    """A dict of plain keys."""
    if not all(isinstance(key, PLAIN) for key in arguments[::2]):
        return UNKNOWN
    return dict(zip(arguments[::2], arguments[1::2], strict=True))
