"""Stored tensors and outputs are brought together by key where both have keys, else by position."""

from __future__ import annotations

import pytest

from torchlink.errors import MismatchError
from torchlink.verify.outputs import as_output, positions


@pytest.mark.parametrize(
    ("stored", "output"),
    [
        ("", "output"),
        ("[0]", "output[0]"),
        ("['boxes'][1]", "output.boxes[1]"),
        (repr(["größe"]), "output.größe"),
        (repr(["it's ]['\""]), "output.it's ]['\""),
        (repr([True]), "output[true]"),
        (repr([-3]), "output[-3]"),
    ],
)
def test_a_stored_label_reads_as_the_loader_s(stored: str, output: str) -> None:
    assert as_output(stored) == output


@pytest.mark.parametrize(
    ("outputs", "stored", "order"),
    [
        (["output"], ["['y']"], (0,)),
        (["output.b", "output.a"], ["['a']", "['b']"], (1, 0)),
        (["output[1]", "output[0]"], ["[0]", "[1]"], (1, 0)),
        (["output[0].b", "output[0].a"], ["[0]['a']", "[0]['b']"], (1, 0)),
        (["output[0]", "output[2]"], ["[0]", "[1]"], (0, 1)),
        (["output.b", "output.a"], ["[0]", "[1]"], (0, 1)),
        (["output.b", "output.a"], ["['arr_0']", "['arr_1']"], (0, 1)),
        (["output.b", "output.a"], ["['0']", "['1']"], (0, 1)),
        (["output[0]", "output[1]"], ["['b']", "['a']"], (0, 1)),
    ],
)
def test_keys_go_before_positions(outputs: list[str], stored: list[str], order: tuple[int, ...]) -> None:
    assert positions(outputs, stored, "y.pt") == order


@pytest.mark.parametrize(
    ("outputs", "stored", "said"),
    [
        (["output.a"], ["['a']", "['b']"], "output.b is missing."),
        (["output.a", "output.b"], ["['a']"], "output.b is not in the file."),
        (["output.a", "output.b"], ["['a']", "['c']"], "output.c is missing; output.b is not in the file."),
        (["output[0]", "output[1]"], ["[0]"], "2 tensors, but y.pt contains 1."),
    ],
)
def test_what_does_not_match_is_named(outputs: list[str], stored: list[str], said: str) -> None:
    wrong = positions(outputs, stored, "y.pt")
    assert isinstance(wrong, MismatchError)
    assert said in wrong.message
