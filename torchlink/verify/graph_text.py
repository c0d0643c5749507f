"""Reading a graph in TorchScript's own notation, as `torch::jit::Graph::toString` writes it.

A line is a node: `%y : Tensor, %z : int = aten::op[attribute=…](%a, %b) # where it comes from`; blocks are
indented below their node as `block0(%i : int):` to `-> (%r)`; the graph ends with `return (%y)`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from torchlink.verify.graph import Block, Node, TensorFact
from torchlink.verify.guessing.values import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = re.compile(r"%([\w.\-]+)")
TYPED = re.compile(r"%([\w.\-]+) : ")
NODE = re.compile(r"^\s*(?P<outputs>%.*?)? ?= (?P<kind>\w+::\w+)(?P<rest>.*)$")
INPUTS = re.compile(r"\(((?:%[\w.\-]+(?:, )?)*)\)(?:, scope: .*)?(?:\s+#.*)?$")
BLOCK = re.compile(r"^\s*block\d+\((?P<inputs>.*)\):")
# What has an entry in the interpreter's table of constants: each constant, and the counter of each loop.
TABLED = re.compile(r"^ *(?:%[\w.\-]+ : .*? )?= prim::(?:Constant|Loop)\b", re.MULTILINE)
ATTRIBUTE = re.compile(r'\[name="((?:[^"\\]|\\.)*)"')
CONSTANT = re.compile(r"\[value=(?P<value>.*)\]\(\)")
# A tensor's type where it is known: `Float(8, 3, 3, 3, strides=[27, 9, 3, 1], requires_grad=0, device=cpu)`.
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
    """The graph; lines that are not understood are passed over, an empty text is an empty graph.

    Args:
        text: as TorchScript writes it.
        constants: what is known besides of its constants and of loops' counters, in order. The text tells no
            tensor of more than ten elements.
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
    """The value of a constant of this type; UNKNOWN where its text does not say."""
    if text is None:
        return None
    tensor = TENSOR_TYPE.match(type_)
    if tensor and tensor["dtype"] in TENSOR_DTYPES:
        boxed = BOXED.match(text)
        if boxed and not tensor["sizes"]:  # a number that tracing has made a 0-dim tensor
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
