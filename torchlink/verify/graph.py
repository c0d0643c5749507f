"""The loader's description of a model's `forward`: its schema, its inlined graph and the module's attributes.

Reading a graph in TorchScript's own notation, as `torch::jit::Graph::toString` writes it.

A line is a node: `%y : Tensor, %z : int = aten::op[attribute=…](%a, %b) # where it comes from`; blocks are
indented below their node as `block0(%i : int):` to `-> (%r)`; the graph ends with `return (%y)`.

Reading the loader's `described` event: the schema, graph and attributes of a model's `forward`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torchlink.verify.guessing.values import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


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
    """The known facts about a parameter, a buffer or a constant tensor."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PackedFact:
    """The known facts about an object that contains the weights of a layer, such as a quantized one."""

    weights: tuple[TensorFact, ...]  # every tensor of its state, vectors included
    numbers: tuple[object, ...] = ()  # whole numbers and tuples of them, in the order of its state
    groups: int = 0  # of a convolution; 0 if unknown
    transpose: bool = False


@dataclass(frozen=True, slots=True)
class Description:
    """A model's `forward`. The graph's first input is the module itself."""

    arguments: tuple[Argument, ...]
    graph: Block
    attributes: Mapping[
        str, object
    ]  # dotted path -> TensorFact, PackedFact, a tuple of them, or a number, bool or string


NAME = re.compile(r"%([\w.\-]+)")
TYPED = re.compile(r"%([\w.\-]+) : ")
NODE = re.compile(r"^\s*(?P<outputs>%.*?)? ?= (?P<kind>\w+::\w+)(?P<rest>.*)$")
INPUTS = re.compile(r"\(((?:%[\w.\-]+(?:, )?)*)\)(?:, scope: .*)?(?:\s+#.*)?$")
BLOCK = re.compile(r"^\s*block\d+\((?P<inputs>.*)\):")
# The nodes with an entry in the interpreter's table of constants: each constant, and the counter of each loop.
TABLED = re.compile(r"^ *(?:%[\w.\-]+ : .*? )?= prim::(?:Constant|Loop)\b", re.MULTILINE)
ATTRIBUTE = re.compile(r'\[name="((?:[^"\\]|\\.)*)"')
CONSTANT = re.compile(r"\[value=(?P<value>.*)\]\(\)")
# A tensor's type if it is known: `Float(8, 3, 3, 3, strides=[27, 9, 3, 1], requires_grad=0, device=cpu)`.
TENSOR_TYPE = re.compile(
    r"^(?P<dtype>[A-Z]\w+)\((?P<sizes>(?:\d+(?:, )?)*)(?:strides=|requires_grad=|device=|\))"
)
BOXED = re.compile(r"\{(-?[\d.e+-]+)\}")
LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s,\[\]]+')
ESCAPE = re.compile(r"\\(?:([0-7]{3})|x([0-9a-fA-F]{2})|(.))")
ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "v": "\v", "f": "\f", "b": "\b", "a": "\a"}
GET_ITEM = "aten::__getitem__"
# The same in libtorch 1.1, with the number of inputs: the `select` of a tensor has three.
GET_ITEM_OF_1_1 = (("prim::DictIndex", 2), ("aten::select", 2))
TENSOR_DTYPES = {
    "Float": "float32",
    "Double": "float64",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Char": "int8",
    "Short": "int16",
    "Int": "int32",
    "Long": "int64",
    "Byte": "uint8",
    "Bool": "bool",
    "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
}


class _Open:
    """A block that is being read."""

    def __init__(self, inputs: tuple[str, ...]) -> None:
        self.inputs = inputs
        self.nodes: list[Node] = []


def parse_graph(text: str, constants: Sequence[object] = ()) -> Block:
    """Parse a graph; lines that are not recognised are skipped, an empty text is an empty graph.

    Args:
        text: as TorchScript writes it.
        constants: further facts about its constants and loop counters, in order. The text contains no tensor of
            more than ten elements.
    """
    if len(TABLED.findall(text)) != len(constants):
        constants = ()
    known = iter(constants)
    head, separator, body = text.partition("):\n")
    stack = [_Open(tuple(TYPED.findall(head)) if separator else ())]
    for line in body.splitlines():
        stripped = line.lstrip()
        block = BLOCK.match(line)
        if block:
            stack.append(_Open(tuple(TYPED.findall(block["inputs"]))))
        elif stripped.startswith("-> (") and len(stack) > 1:
            closed = stack.pop()
            owner = stack[-1].nodes
            finished = Block(closed.inputs, tuple(closed.nodes), tuple(NAME.findall(stripped)))
            if owner:
                owner[-1] = replace(owner[-1], blocks=(*owner[-1].blocks, finished))
        elif stripped.startswith("return ("):
            return Block(stack[0].inputs, tuple(stack[0].nodes), tuple(NAME.findall(stripped)))
        else:
            node = _node(line)
            if node is not None and node.kind in ("prim::Constant", "prim::Loop"):
                fact = next(known, None)
                if node.value is UNKNOWN and fact is not None:
                    node = replace(node, value=fact)
            if node is not None:
                stack[-1].nodes.append(node)
    return Block(stack[0].inputs, tuple(stack[0].nodes), ())


def _node(line: str) -> Node | None:
    """A node without its blocks."""
    match = NODE.match(line)
    if match is None:
        return None
    declared = match["outputs"] or ""
    outputs = tuple(TYPED.findall(declared))
    type_ = declared.partition(" : ")[2] if len(outputs) == 1 else ""
    if match["kind"] == "prim::Constant":
        found = CONSTANT.search(match["rest"])
        return Node(
            "prim::Constant", (), outputs, type_, value=constant(type_, found["value"] if found else None)
        )
    found = INPUTS.search(match["rest"])
    inputs = tuple(NAME.findall(found[1])) if found else ()
    attribute = ATTRIBUTE.search(match["rest"])
    return Node(
        GET_ITEM if (match["kind"], len(inputs)) in GET_ITEM_OF_1_1 else match["kind"],
        inputs,
        outputs,
        type_,
        name=unescaped(attribute[1]) if attribute else "",
    )


def constant(type_: str, text: str | None) -> object:
    """The value of a constant of this type; UNKNOWN if its text does not show it."""
    if text is None:
        return None
    tensor = TENSOR_TYPE.match(type_)
    if tensor and tensor["dtype"] in TENSOR_DTYPES:
        boxed = BOXED.match(text)
        if boxed and not tensor["sizes"]:  # a number that tracing has turned into a 0-dim tensor
            return _scalar("float" if "." in boxed[1] or "e" in boxed[1] else "int", boxed[1])
        sizes = tuple(int(size) for size in re.findall(r"\d+", tensor["sizes"]))
        return TensorFact(TENSOR_DTYPES[tensor["dtype"]], sizes)
    if text.startswith("annotate(List") and text.endswith(", [])"):
        return []
    if type_.endswith("[]") and text.startswith("["):
        return [_scalar(type_.removesuffix("[]"), item) for item in LITERAL.findall(text)]
    return _scalar(type_, text)


def _scalar(type_: str, text: str) -> object:
    """A number, bool or string."""
    try:
        match type_:
            case "int":
                return int(text)
            case "bool":
                return text == "1"
            case "float":
                return float(text)
            case "str" | "string" | "Device":  # "string": 1.1
                return unescaped(text[1:-1])
    except ValueError:
        return UNKNOWN
    return UNKNOWN


def unescaped(text: str) -> str:
    """A string constant's value: C's escapes, as `c10::printQuotedString` writes them."""

    def letter(match: re.Match[str]) -> str:
        if match[1] or match[2]:
            return chr(int(match[1] or match[2], 8 if match[1] else 16))
        return ESCAPED.get(match[3], match[3])

    return ESCAPE.sub(letter, text)


def arguments_of(schema: Mapping[str, Any]) -> tuple[Argument, ...]:
    """The arguments in the schema of a method, as the loader writes it."""
    return tuple(
        Argument(
            str(entry["name"]),
            str(entry["type"]),
            bool(entry.get("has_default", False)),
            entry.get("default"),
            bool(entry.get("kwarg_only", False)),
        )
        for entry in schema["arguments"]
    )


def parse_description(event: Mapping[str, Any]) -> Description:
    """The description in the loader's `described` event, as parsed from JSON.

    The module itself is not among the arguments of `event["schema"]`. `event["graph"]` is the inlined graph in
    TorchScript's own notation.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: the event is not of that form.
    """
    arguments = arguments_of(event["schema"])
    attributes = {str(path): _fact(value) for path, value in event.get("attributes", {}).items()}
    constants = tuple(_fact(value) for value in event.get("constants", ()))
    return Description(arguments, parse_graph(str(event.get("graph", "")), constants), attributes)


def _fact(value: Any) -> object:
    """An attribute's or constant's value: `{"dtype", "shape"}` is a tensor, `{"weights", …}` a packed object."""
    if isinstance(value, list):
        return tuple(map(_fact, value))
    if isinstance(value, dict) and "weights" in value:
        return PackedFact(
            tuple(_tensor(weight) for weight in value["weights"]),
            tuple(tuple(each) if isinstance(each, list) else each for each in value.get("numbers", ())),
            groups=int(value.get("groups", 0)),
            transpose=bool(value.get("transpose", False)),
        )
    return _tensor(value) if isinstance(value, dict) else value


def _tensor(value: Mapping[str, Any]) -> TensorFact:
    return TensorFact(str(value["dtype"]), tuple(int(size) for size in value["shape"]))
