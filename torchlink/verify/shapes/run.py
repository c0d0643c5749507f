"""Running a graph: nodes in order, branches and loops, with values as in `values`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from torchlink.verify.graph import PackedFact, TensorFact
from torchlink.verify.shapes import elementwise, layers, quantized, reshaping, scalars
from torchlink.verify.shapes.values import UNKNOWN, Mismatch, ModuleRef, Shaped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torchlink.verify.graph import Block, Node

TENSOR_RULES = {**elementwise.RULES, **reshaping.RULES, **layers.RULES}
LONGEST_LOOP = 64
# What a rule raises when an argument is unknown, or is of an overload that the rule does not know.
NOT_KNOWN = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ZeroDivisionError,
    OverflowError,
    RecursionError,
)


class OutOfStepsError(Exception):
    """The run was longer than it may be."""


class Observer(Protocol):
    """Somebody who may answer for an operator before its rule does, and for branches that disagree."""

    def answer(self, kind: str, arguments: list[object], results: int) -> tuple[object] | None:
        """The operator's result, in a tuple; None leaves it to the rule."""

    def agreed(self, values: Sequence[object]) -> object:
        """One value for what the branches of an unknown condition give."""


class Run:
    """One run of a graph. `certain` tells whether every branch and size was known."""

    def __init__(
        self, attributes: Mapping[str, object], steps: int, observer: Observer | None = None
    ) -> None:
        self.attributes = attributes
        self.steps_left = steps
        self.observer = observer
        self.values: dict[str, object] = {}
        self.certain = True

    def forward(self, graph: Block, arguments: Sequence[object]) -> list[object]:
        """The outputs of `forward` for these arguments, self left out.

        Raises:
            Mismatch: the model would refuse them.
            OutOfStepsError: the run got too long.
        """
        return self.block(graph, [ModuleRef(""), *arguments])

    def block(self, block: Block, arguments: Sequence[object]) -> list[object]:
        """Run a block."""
        self.values.update(zip(block.inputs, arguments, strict=False))
        for node in block.nodes:
            self.steps_left -= 1
            if self.steps_left < 0:
                raise OutOfStepsError
            self.node(node)
        return [self.values.get(name, UNKNOWN) for name in block.outputs]

    def node(self, node: Node) -> None:
        """Run a node."""
        arguments = [self.values.get(name, UNKNOWN) for name in node.inputs]
        if node.kind == "prim::If":
            results = self.branch(node, arguments[0])
        elif node.kind == "prim::Loop":
            results = self.loop(node, arguments)
        elif node.kind == "prim::RaiseException":
            raise Mismatch
        else:
            result = self.result(node, arguments)
            if len(node.outputs) != 1 and isinstance(result, (tuple, list)):
                results = list(result)
            else:
                results = [result] * len(node.outputs)
        if len(results) != len(node.outputs):
            raise Mismatch
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
        result = self.operator(node, kind, arguments)
        if kind != node.kind and len(node.outputs) == 1 and isinstance(result, tuple):
            return result[0] if result else UNKNOWN  # the quantized operator has only the first result
        return result

    def operator(self, node: Node, kind: str, arguments: list[object]) -> object:
        """What an operator gives; `kind` and `arguments` are the plain ones of a quantized node."""
        if self.observer is not None:
            answer = self.observer.answer(kind, arguments, len(node.outputs))
            if answer is not None:
                return answer[0]
        if node.kind in ("prim::ListUnpack", "prim::TupleUnpack", "prim::TupleIndex"):
            return self.unpack(node, arguments)
        result = apply(kind, arguments)
        if result is UNKNOWN and node.outputs:
            self.certain = False
        return result

    def unpack(self, node: Node, arguments: list[object]) -> object:
        """A list's or tuple's elements."""
        if not isinstance(arguments[0], (list, tuple)):
            return UNKNOWN
        if node.kind == "prim::TupleIndex":
            return apply("aten::__getitem__", arguments)
        if len(arguments[0]) != len(node.outputs):
            raise Mismatch
        return arguments[0][0] if len(node.outputs) == 1 else arguments[0]

    def attribute(self, owner: object, node: Node) -> object:
        """A module's parameter, buffer, plain attribute or submodule."""
        if not isinstance(owner, ModuleRef):
            return UNKNOWN
        path = f"{owner.path}.{node.name}" if owner.path else node.name
        if path in self.attributes:
            value = self.attributes[path]
            return quantized.value_of(value, path)
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
        """A branch that is known, or what both branches agree on."""
        if isinstance(condition, (bool, int, float)):
            return self.block(node.blocks[0 if condition else 1], ())
        self.certain = False
        outcomes = []
        for block in node.blocks:
            try:
                outcomes.append(self.block(block, ()))
            except Mismatch:
                continue
        if not outcomes:
            raise Mismatch
        return [self.agreed(values) for values in zip(*outcomes, strict=True)]

    def agreed(self, values: Sequence[object]) -> object:
        """What branches agree on; UNKNOWN where they do not."""
        if all(value is values[0] or value == values[0] for value in values[1:]):
            return values[0]
        return UNKNOWN if self.observer is None else self.observer.agreed(values)

    def loop(self, node: Node, arguments: list[object]) -> list[object]:
        """A loop whose length is known, or one pass through the body of another."""
        limit, going, *carried = arguments
        body = node.blocks[0]
        if not isinstance(limit, int) or not isinstance(going, bool):
            self.certain = False
            self.block(body, [UNKNOWN, *carried])
            return [UNKNOWN] * len(node.outputs)
        for index in range(min(limit, LONGEST_LOOP)):
            if going is not True:
                break
            going, *carried = self.block(body, [index, *carried])
        if going is False or (going is True and limit <= LONGEST_LOOP):
            return carried
        self.certain = False
        return [UNKNOWN] * len(node.outputs)


def apply(kind: str, arguments: list[object]) -> object:
    """What an operator gives; UNKNOWN where no rule, or not enough, is known.

    Raises:
        Mismatch: the operator would refuse the arguments.
    """
    bare = kind.removeprefix("aten::")
    for rule in (scalars.RULES.get(kind), TENSOR_RULES.get(bare), TENSOR_RULES.get(bare.rstrip("_"))):
        if rule is None:
            continue
        try:
            return rule(*arguments)
        except NOT_KNOWN:
            continue
    return UNKNOWN


def _constant(value: object) -> object:
    """A constant's value."""
    if isinstance(value, (TensorFact, PackedFact, tuple)):
        return quantized.value_of(value)
    return list(value) if isinstance(value, list) else value


def _dict(arguments: list[object]) -> object:
    """A dict of plain keys."""
    if not all(isinstance(key, scalars.PLAIN) for key in arguments[::2]):
        return UNKNOWN
    return dict(zip(arguments[::2], arguments[1::2], strict=True))
