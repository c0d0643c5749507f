"""Graphs are read from TorchScript's own notation."""

from __future__ import annotations

import pytest

from torchlink.verify.graph import TensorFact, constant, parse_graph
from torchlink.verify.guessing.values import UNKNOWN

GRAPH = """\
graph(%self : __torch__.Model,
      %x.1 : Tensor,
      %state : (Tensor, Tensor)):
  %4 : str = prim::Constant[value="of ] and \\"quotes\\" %x]()"]()
  %n : int = prim::Constant[value=3]()
  %true : bool = prim::Constant[value=1]()
  %fc : __torch__.torch.nn.modules.linear.Linear = prim::GetAttr[name="fc"](%self)
  %a : Tensor, %b : Tensor = prim::TupleUnpack(%state)
   = prim::If(%true) # /a (b)/model.py:3:4
    block0():
       = prim::RaiseException(%4)
      -> ()
    block1():
      -> ()
  %y : Float(2, 3, strides=[3, 1], requires_grad=0, device=cpu) = prim::Loop(%n, %true, %x.1), scope: M::fc # m.py:1:1
    block0(%i : int, %z.1 : Tensor):
      %z : Tensor = aten::add(%z.1, %a, %i)
      -> (%true, %z)
  %r : (Tensor, Tensor) = prim::TupleConstruct(%y, %b)
  return (%r)
"""


def test_nodes_blocks_and_values_are_read() -> None:
    graph = parse_graph(GRAPH)
    assert graph.inputs == ("self", "x.1", "state")
    assert graph.outputs == ("r",)
    kinds = [node.kind.removeprefix("prim::") for node in graph.nodes]
    assert kinds == ["Constant"] * 3 + ["GetAttr", "TupleUnpack", "If", "Loop", "TupleConstruct"]
    text, number, flag, module, unpacked, branch, loop, _ = graph.nodes
    assert (text.value, number.value, flag.value) == ('of ] and "quotes" %x]()', 3, True)
    assert (module.name, module.inputs, module.type) == (
        "fc",
        ("self",),
        "__torch__.torch.nn.modules.linear.Linear",
    )
    assert unpacked.outputs == ("a", "b")
    assert (branch.inputs, len(branch.blocks), branch.blocks[0].nodes[0].kind) == (
        ("true",),
        2,
        "prim::RaiseException",
    )
    assert loop.inputs == ("n", "true", "x.1")
    assert (loop.blocks[0].inputs, loop.blocks[0].outputs) == (("i", "z.1"), ("true", "z"))


@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        ("int", "-7", -7),
        ("float", "0.10000000000000001", 0.1),
        ("float", "1.0000000000000001e-05", 1e-5),
        ("float", "2.", 2.0),
        ("float", "inf", float("inf")),
        ("bool", "0", False),
        ("str", r'"a\tb\\c\"\303\244"', 'a\tb\\c"\u00c3\u00a4'),
        ("Device", '"cpu"', "cpu"),
        ("int[]", "[1, -2]", [1, -2]),
        ("float[]", "[0.5, 1.]", [0.5, 1.0]),
        ("str[]", '["a, b", "c]"]', ["a, b", "c]"]),
        ("int[]", "annotate(List[int], [])", []),
        (
            "Float(8, 3, strides=[3, 1], requires_grad=0, device=cpu)",
            "<Tensor>",
            TensorFact("float32", (8, 3)),
        ),
        ("Long(requires_grad=0, device=cpu)", "{5}", 5),
        ("Double(requires_grad=0, device=cpu)", "{0.5}", 0.5),
        ("Long(1, strides=[1], requires_grad=0, device=cpu)", "{5}", TensorFact("int64", (1,))),
        ("Tensor", "<Tensor>", UNKNOWN),
        ("complex", "1.+2.j", UNKNOWN),
        ("NoneType", None, None),
    ],
)
def test_constants_have_their_values(type_: str, text: str | None, value: object) -> None:
    assert constant(type_, text) == value


@pytest.mark.parametrize("text", ["", "nonsense", "graph(%x : Tensor):\n", GRAPH[:400], GRAPH[:700]])
def test_half_a_graph_is_read_as_far_as_it_goes(text: str) -> None:
    assert parse_graph(text).nodes or not text.startswith("graph(%self")


def test_what_1_1_calls_otherwise_is_read_as_today() -> None:
    graph = parse_graph(
        "graph(%self : Module, %table : Dict[str, Tensor], %sizes : int[], %x : Tensor):\n"
        '  %3 : string = prim::Constant[value="k"]()\n'
        "  %4 : int = prim::Constant[value=0]()\n"
        "  %5 : Tensor = prim::DictIndex(%table, %3)\n"
        "  %6 : int = aten::select(%sizes, %4)\n"
        "  %7 : Tensor = aten::select(%x, %4, %6)\n"
        "  return (%7)\n"
    )
    assert graph.nodes[0].value == "k"
    kinds = [node.kind for node in graph.nodes[2:]]
    assert kinds == ["aten::__getitem__", "aten::__getitem__", "aten::select"]
