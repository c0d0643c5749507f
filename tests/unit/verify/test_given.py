"""Arguments are bound to the schema of a model's method before it runs, and what does not fit is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import needed
from torchlink.errors import UsageError
from torchlink.verify.given import bind, read_given
from torchlink.verify.graph import Argument

SCHEMA = (
    Argument("x", "Tensor"),
    Argument("n", "int", has_default=True, default="2"),
    Argument("scale", "float", has_default=True, default="1."),
    Argument("masks", "Optional[Dict[str, List[Tensor]]]", has_default=True, default="None"),
    Argument("state", "Tuple[Tensor, Tensor]", has_default=True, default="None", kwarg_only=True),
)


def bound(*inputs: str) -> tuple[str, ...]:
    given = read_given(inputs, None)
    assert given is not None
    found = bind(given, SCHEMA, "forward", Path("m.pt"))
    return (
        *(spec.to_wire() for spec in found.positional),
        *(f"{name}={spec.to_wire()}" for name, spec in found.keywords),
    )


def test_what_fits_is_taken_in_its_place() -> None:
    assert bound("float32[2]") == ("tensor float32 2 ones",)
    assert bound("scale=3", "x=float32[2]") == ("scale=float 3.0", "x=tensor float32 2 ones")
    assert bound("[float32[2]]", "3", "0.5") == ("tensor float32 2 ones", "int 3", "float 0.5")
    assert bound("float32[2]", "masks={'a': (int8[1],)}") == (
        "tensor float32 2 ones",
        "masks=dict 1 str a list tensor 1 tensor int8 1 ones",
    )
    assert (
        bound("float32[2]", "state=[int8[], int8[]]")[1]
        == "state=tuple 2 tensor int8 - ones tensor int8 - ones"
    )
    assert bound("float32[2]", "masks=none")[1] == "masks=none"


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (["3"], "m.pt: argument x of forward takes Tensor, but an int (3) is given."),
        (["n=3"], "m.pt: argument x (Tensor) of forward is missing."),
        (
            ["float32[1]", "1", "1", "none", "3"],
            "m.pt: forward takes 4 arguments by position, but --input gives 5.",
        ),
        (["float32[1]", "mask=3"], "m.pt: forward has no argument 'mask' (did you mean 'masks'?)."),
        (["float32[1]", "x=float32[1]"], "m.pt: argument x is given by position and by name."),
        (["float32[1]", "0.5"], "m.pt: argument n of forward takes int, but a float (0.5) is given."),
        (["float32[1]", "true"], "m.pt: argument n of forward takes int, but a bool (true) is given."),
        (["float32[1]", "none"], "m.pt: argument n of forward takes int, but None is given."),
        (
            ["float32[1]", "masks={'a': [3]}"],
            "m.pt: argument masks['a'][0] of forward takes Tensor, but an int (3) is given.",
        ),
        (
            ["float32[1]", "masks={1: []}"],
            "m.pt: argument masks (key 1) of forward takes str, but an int (1) is given.",
        ),
        (
            ["float32[1]", "state=(int8[1],)"],
            "m.pt: argument state of forward takes Tuple[Tensor, Tensor], but a tuple of 1 is given.",
        ),
    ],
)
def test_what_does_not_fit_is_named_by_the_model_s_own_names(inputs: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        bound(*inputs)
    assert caught.value.message == said
    assert "forward(x: Tensor, n: int = 2" in caught.value.hint


def test_all_arguments_come_from_one_file(tmp_path: Path) -> None:
    def from_json(text: str) -> tuple[str, ...]:
        (tmp_path / "in.json").write_text(text)
        given = read_given(None, tmp_path / "in.json")
        assert given is not None
        found = bind(given, SCHEMA, "forward", Path("m.pt"))
        return (
            *(spec.to_wire() for spec in found.positional),
            *(f"{name}={spec.to_wire()}" for name, spec in found.keywords),
        )

    tensor = '{"type":"tensor","data_type":"uint8","shape":[2],"value":[1,2]}'
    assert from_json(f"[{tensor}, 3]") == ("tensor uint8 2 hex:0102", "int 3")
    assert from_json(f'{{"type":"generic_dict","value":{{"n":3,"x":{tensor}}}}}') == (
        "n=int 3",
        "x=tensor uint8 2 hex:0102",
    )
    assert from_json(tensor) == ("tensor uint8 2 hex:0102",)
    recorded = f'"positional":[{tensor}],"keywords":{{"type":"generic_dict","value":{{"n":3}}}}'
    assert from_json(f'{{"type":"generic_dict","value":{{{recorded}}}}}') == (
        "tensor uint8 2 hex:0102",
        "n=int 3",
    )
    with pytest.raises(UsageError, match="argument x of forward takes Tensor, but a dict of 1"):
        from_json('{"type":"dict","value":[[1,2]]}')
    with pytest.raises(UsageError, match="has no argument 'y'"):
        from_json(f'{{"type":"generic_dict","value":{{"y":3,"x":{tensor}}}}}')


def test_a_dict_is_an_argument_of_any_type_and_arrays_are_taken_in_order(tmp_path: Path) -> None:
    numpy = needed("numpy")

    def only(name: str) -> str:
        given = read_given(None, tmp_path / name)
        assert given is not None
        (spec,) = bind(given, (Argument("x", "Any"),), "forward", Path("m.pt")).positional
        return spec.to_text()

    (tmp_path / "in.json").write_text('{"type":"generic_dict","value":{"a":3}}')
    assert only("in.json") == "{'a': 3}"
    numpy.savez(tmp_path / "in.npz", a=numpy.ones(2, "f4"))
    assert only("in.npz") == f"@'{tmp_path / 'in.npz'}'"


def test_input_and_inputs_exclude_each_other_and_no_name_is_given_twice() -> None:
    with pytest.raises(UsageError, match="cannot be combined"):
        read_given(["3"], Path("in.json"))
    with pytest.raises(UsageError, match="given twice"):
        read_given(["n=3", "n=4"], None)
