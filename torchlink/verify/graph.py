"""What the loader says about a model's `forward`: its schema, its inlined graph and the module's attributes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of `forward`, self left out."""

    name: str
    type: str  # as TorchScript writes it: "Tensor", "Optional[Tensor]", "List[int]", "Dict(str, Tensor)"
    has_default: bool = False
    default: str | None = None  # the default value as text
    kwarg_only: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """One operation. Values are named by ids that are unique in the whole graph."""

    kind: str  # "aten::conv2d", "prim::If"
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    type: str = ""  # of the first output, as the graph's text has it
    name: str = ""  # of a prim::GetAttr: the attribute
    value: object = (
        None  # of a prim::Constant; a tensor comes as a TensorFact, packed weights as a PackedFact
    )
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """A sequence of nodes: the whole graph, a branch, or a loop's body."""

    inputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TensorFact:
    """What is known of a parameter, a buffer or a constant tensor."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PackedFact:
    """What is known of an object that holds the weights of a layer, such as a quantized one."""

    weights: tuple[TensorFact, ...]  # every tensor of its state, vectors too
    numbers: tuple[object, ...] = ()  # whole numbers and tuples of them, in the order of its state
    groups: int = 0  # of a convolution; 0 where it does not say
    transpose: bool = False


@dataclass(frozen=True, slots=True)
class Description:
    """A model's `forward`. The graph's first input is the module itself."""

    arguments: tuple[Argument, ...]
    graph: Block
    attributes: Mapping[
        str, object
    ]  # dotted path -> TensorFact, PackedFact, a tuple of them, or a number, bool or string
