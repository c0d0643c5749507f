"""The inputs that a user types are read, written back the same, and written for the loader."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import needed
from torchlink.errors import FileError, TorchlinkError, UsageError
from torchlink.model.stored import ITEM_SIZES
from torchlink.verify.inputs import InputSpec, parse_input
from torchlink.verify.specs import DictInput, ListInput, ScalarInput, TensorInput, TupleInput

if TYPE_CHECKING:
    from pathlib import Path

# What is typed, how it is written back, what the loader reads.
FORMS = [
    ("float32[1,3,224,224]", "float32[1,3,224,224]", "tensor float32 1x3x224x224 ones"),
    ("float32[1, 3]=ones", "float32[1,3]", "tensor float32 1x3 ones"),
    ("float32[]", "float32[]", "tensor float32 - ones"),
    ("int64[0,3]=zeros", "int64[0,3]=zeros", "tensor int64 0x3 zeros"),
    ("long[2]=randint:0:10:7", "int64[2]=randint:0:10:7", "tensor int64 2 randint:0:10:7"),
    ("torch.half[2]=rand:3", "float16[2]=rand:3", "tensor float16 2 rand:3"),
    ("double[2]=randn:3", "float64[2]=randn:3", "tensor float64 2 randn:3"),
    ("float[3]=full:-inf", "float32[3]=full:-inf", "tensor float32 3 full:-inf"),
    ("uint8[4]=full:255", "uint8[4]=full:255", "tensor uint8 4 full:255"),
    ("bool[4]=full:1", "bool[4]=full:1", "tensor bool 4 full:1"),
    ("int[5]=arange", "int32[5]=arange", "tensor int32 5 arange"),
    ("3", "3", "int 3"),
    ("-3", "-3", "int -3"),
    ("0.5", "0.5", "float 0.5"),
    ("1e-3", "0.001", "float 0.001"),
    ("-inf", "-inf", "float -inf"),
    ("nan", "nan", "float nan"),
    ("true", "true", "bool 1"),
    ("False", "false", "bool 0"),
    ("None", "none", "none"),
    ("'a b%'", "'a b%'", "str a%20b%25"),
    ('"it\'s"', "'it\\'s'", "str it%27s"),
    ("'ä'", "'ä'", "str %C3%A4"),
    ("''", "''", "str -"),
    ("'-'", "'-'", "str %2D"),
    ("[1, 2]", "[1, 2]", "list int 2 int 1 int 2"),
    ("[1, 2.5]", "[1.0, 2.5]", "list float 2 float 1.0 float 2.5"),
    ("[true]", "[true]", "list bool 1 bool 1"),
    ("['a']", "['a']", "list str 1 str a"),
    ("[]", "[]", "list any 0"),
    ("[none, 1]", "[none, 1]", "list any 2 none int 1"),
    (
        "[float32[2,3], float32[1]]",
        "[float32[2,3], float32[1]]",
        "list tensor 2 tensor float32 2x3 ones tensor float32 1 ones",
    ),
    ("[[1], [2, 3]]", "[[1], [2, 3]]", "list any 2 list int 1 int 1 list int 2 int 2 int 3"),
    ("(1,)", "(1,)", "tuple 1 int 1"),
    ("(1, 'x')", "(1, 'x')", "tuple 2 int 1 str x"),
    ("()", "()", "tuple 0"),
    ("{'k': float32[2]}", "{'k': float32[2]}", "dict 1 str k tensor float32 2 ones"),
    ("{1: (2, 3)}", "{1: (2, 3)}", "dict 1 int 1 tuple 2 int 2 int 3"),
]


@pytest.mark.parametrize(("typed", "text", "wire"), FORMS)
def test_an_input_has_its_two_forms(typed: str, text: str, wire: str) -> None:
    spec = parse_input(typed)
    assert (spec.to_text(), spec.to_wire()) == (text, wire)
    assert parse_input(spec.to_text()).to_wire() == wire


# What is typed wrong, and the column (from 1) that the caret points at.
WRONG = [
    ("", 1),
    ("float32", 8),
    ("float33[1]", 1),
    ("float32[1,3", 12),
    ("float32[1,-3]", 11),
    ("float32[-1]", 9),
    ("float32[1.5]", 10),
    ("float32[1]=foo", 12),
    ("float32[1]=", 12),
    ("float32[1]=rand", 12),
    ("float32[1]=ones:3", 12),
    ("float32[1]=randint:3:3:0", 12),
    ("float32[1]=rand:-1", 12),
    ("int64[3]=rand:1", 10),
    ("int32[3]=full:1.5", 10),
    ("uint8[1]=full:300", 10),
    ("float32[1]=full:1e39", 12),
    ("float64[1]=full:1e999", 12),
    ("float8_e4m3fn[1]=full:500", 18),
    ("[1, -1e999]", 5),
    ('{"type":"tensor","data_type":"float32","shape":[1],"value":[NaN]}', 1),
    ("int8[1]=randint:-129:0:1", 9),
    ("bool[2]=arange", 9),
    ("'abc", 1),
    ("[1, 2", 6),
    ("(1 2)", 4),
    ("{none: 1}", 2),
    ("{'a' 1}", 6),
    ("1 2", 3),
    ("99999999999999999999", 1),
    ("@", 2),
    ("?", 1),
    ("[" * 30, 18),
]


@pytest.mark.parametrize(("typed", "column"), WRONG)
def test_an_error_points_at_the_place_and_shows_an_example(typed: str, column: int) -> None:
    with pytest.raises(UsageError) as caught:
        parse_input(typed)
    assert caught.value.details == (typed, " " * (column - 1) + "^")
    assert "float32[1,3,224,224]" in caught.value.hint


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("float32[2]=randn", "expected a seed (=randn:7) at"),
        ("float32[2]=rand", "expected a seed (=rand:7) at"),
        ("float32[2]=ones:3", "expected ones at"),
        ("float32[2]=full", "expected full:VALUE at"),
    ],
)
def test_a_fill_without_its_number_is_told_which(typed: str, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_input(typed)
    assert expected in caught.value.message


@given(st.text(max_size=40))
def test_any_text_gives_an_input_or_an_error(text: str) -> None:
    try:
        spec = parse_input(text)
    except TorchlinkError:
        return
    assert "\n" not in spec.to_wire()


def specs() -> st.SearchStrategy[InputSpec]:
    shapes = st.lists(st.integers(0, 9), max_size=4).map(tuple)
    tensors = st.builds(
        TensorInput, st.sampled_from(sorted(ITEM_SIZES)), shapes, st.sampled_from(["ones", "zeros"])
    )
    scalars = st.builds(
        ScalarInput,
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    )
    keys = st.builds(ScalarInput, st.text())
    return st.recursive(
        tensors | scalars,
        lambda inner: (
            st.lists(inner, max_size=3).map(lambda items: TupleInput(tuple(items)))
            | st.lists(tensors, max_size=3).map(lambda items: ListInput(tuple(items)))
            | st.lists(st.tuples(keys, inner), max_size=3).map(lambda items: DictInput(tuple(items)))
        ),
        max_leaves=8,
    )


@given(specs())
def test_every_input_is_written_so_that_it_reads_back(spec: InputSpec) -> None:
    assert parse_input(spec.to_text()) == spec


@given(specs())
def test_the_wire_form_is_words_between_single_spaces(spec: InputSpec) -> None:
    assert all(word.isascii() and word.isprintable() and word for word in spec.to_wire().split(" "))


def test_a_tensor_comes_from_a_file(tmp_path: Path) -> None:
    numpy = needed("numpy")
    path = tmp_path / "an array, say.npy"
    numpy.save(path, numpy.arange(6, dtype="i2").reshape(2, 3))
    spec = parse_input(f"@{path}")
    encoded = str(path).replace(" ", "%20").replace(",", "%2C").replace("-", "%2D")
    assert spec.to_wire() == f"tensor int16 2x3 file:128:3x1:{encoded}"
    assert parse_input(spec.to_text()) == spec
    assert parse_input(f"[@'{path}', 1]").to_wire().startswith("list any 2 tensor int16 2x3 file:128")


def test_several_arrays_of_a_file_are_a_dict_and_one_alone_is_the_tensor(tmp_path: Path) -> None:
    numpy = needed("numpy")
    numpy.savez(tmp_path / "two.npz", a=numpy.ones(1), b=numpy.ones(1))
    assert parse_input(f"@{tmp_path / 'two.npz'}").to_wire().startswith("dict 2 str a tensor float64 1 file:")
    numpy.savez(tmp_path / "one.npz", a=numpy.ones(1))
    assert parse_input(f"{tmp_path / 'one.npz'}").to_wire().startswith("tensor float64 1 file:")
    with pytest.raises(FileError, match="Cannot read"):
        parse_input("@nothing.npy")
