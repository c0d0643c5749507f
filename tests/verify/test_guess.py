"""Inputs are worked out from a model's graph, for models of many kinds, and the models really take them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import needed
from torchlink.libtorch.inspect import inspect

needed("torch")

from tests.models.catalogue import NAMES, build  # noqa: E402 - needs torch
from tests.models.description import describe  # noqa: E402 - needs torch
from torchlink.verify.graph import parse_description  # noqa: E402
from torchlink.verify.guessing.search import Guess, guesses  # noqa: E402
from torchlink.verify.guessing.sizes import Narrowing, amounts  # noqa: E402
from torchlink.verify.schema_types import OTHER, Type, parse_type  # noqa: E402
from torchlink.verify.specs import ScalarInput  # noqa: E402
from torchlink.verify.verification import verify  # noqa: E402

if TYPE_CHECKING:
    from torchlink.verify.graph import Description
    from torchlink.verify.result import ModelResult

# Here only one shape, or one family of shapes, can be right.
EXPECTED = {
    "mlp": "float32[1,10]",
    "lenet": "float32[1,1,28,28]",
    "traced_lenet": "float32[1,1,28,28]",
    "rectangle": "float32[1,1,64,32]",
    "channels_last": "float32[1,64,64,3]",
    "vit": "float32[1,3,32,32]",
    "embedding": "int64[1,8]",
    "token_classifier": "int64[1,6]",
    "double": "float64[1,4]",
    "half": "float16[1,4]",
    "bfloat16": "bfloat16[1,4]",
    "complex": "complex64[1,3]",
    "norm_training": "float32[2,4]",
    "columns": "float32[1,7]",
    "list_in": "[float32[3,64,64], float32[3,64,64]]",
    "dict_in": "{'ids': int64[1,8], 'pixels': float32[1,3,64,64]}",
    "tuple_in": "(float32[1,3], float32[1,2])",
    "mode": "float32[1,4]",
}


def described(module: Any) -> Description:
    return parse_description(describe(module))


def tried(description: Description, most: int = 40) -> list[Guess]:
    """The first guesses, each of which is said to have failed for a reason of its own."""
    search = guesses(description)
    found: list[Guess] = []
    with suppress(StopIteration):
        found.append(next(search))
        while len(found) < most:
            found.append(search.send(f"error {len(found)}"))
    return found


@pytest.fixture(scope="module")
def results(torch_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelResult]:
    directory = tmp_path_factory.mktemp("models")
    paths = [directory / f"{name}.pt" for name in NAMES]
    for path in paths:
        build(path.stem).save(str(path))
    report = verify(paths, inspect(torch_root, found_by="test"))
    return {Path(model.path).stem: model for model in report.models}


@pytest.mark.compile
@pytest.mark.parametrize("name", NAMES)
def test_inputs_that_fit_are_found_within_a_few_tries(results: dict[str, ModelResult], name: str) -> None:
    result = results[name]
    assert result.error is None
    assert 1 <= (result.input_tries or 0) <= 8
    if name in EXPECTED:
        assert result.inputs[0].text == EXPECTED[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_guess_says_what_and_why_in_one_line_and_comes_once(name: str) -> None:
    module = build(name)
    names = [argument.name for argument in module.forward.schema.arguments[1:]]
    found = tried(described(module))
    assert len({guess.inputs for guess in found}) == len(found) > 0
    for guess in found:
        assert "\n" not in guess.why
        for argument, spec in zip(names, guess.inputs, strict=False):
            assert f"{argument} = {spec.to_text()}" in guess.why


def test_the_reason_names_the_parameter_that_told() -> None:
    first = next(guesses(described(build("lenet"))))
    assert first.why == "x = float32[1,1,64,64]: conv1.weight takes 1 channel, tried with 64x64 pixels"


def test_a_model_that_raises_the_same_whatever_it_is_given_is_not_tried_for_ever() -> None:
    search = guesses(described(build("raises")))
    found = [next(search)]
    with suppress(StopIteration):
        while True:
            found.append(search.send("this model always refuses"))
    assert 12 <= len(found) < 40


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ("mat1 and mat2 shapes cannot be multiplied (1x2048 and 1024x3)", (2048, 1024)),
        ("size mismatch, m1: [1 x 2048], m2: [1024 x 3] at /pytorch/aten", (2048, 1024)),
        ("shape '[-1, 96]' is invalid for input of size 1014", (1014, 96)),
        (
            "The size of tensor a (65) must match the size of tensor b (17) at non-singleton dimension 1",
            (65, 17),
        ),
        ("expected scalar type Float but found Long", None),
    ],
)
def test_the_sizes_in_an_error_are_read(message: str, found: tuple[int, int] | None) -> None:
    assert amounts(message) == found


def test_an_embedding_of_positions_tells_the_length_on_either_side() -> None:
    for message in (
        "a (8) must match the size of tensor b (77)",
        "a (77) must match the size of tensor b (8)",
    ):
        narrowing = Narrowing(frozenset("BL"))
        sizes = iter(narrowing)
        first = next(sizes)
        assert first["L"] == 8
        narrowing.told(first, f"The size of tensor {message} at non-singleton dimension 1")
        assert next(sizes)["L"] == 77


def test_errors_lead_to_an_image_that_is_not_square() -> None:
    narrowing = Narrowing(frozenset("BHW"))
    for number, sizes in enumerate(narrowing):
        got = (sizes["H"] // 2) * (sizes["W"] // 2)
        if got == 40 * 50:
            break
        narrowing.told(sizes, f"mat1 and mat2 shapes cannot be multiplied (1x{got} and 2000x3)")
        assert number < 10


def test_errors_lead_to_the_size_that_fits() -> None:
    """A model that flattens what two layers of stride 2 leave of an image of 148 by 148."""
    narrowing = Narrowing(frozenset("BHW"))
    for number, sizes in enumerate(narrowing):
        got = (sizes["H"] // 4) * (sizes["W"] // 4) * 3
        if got == (148 // 4) ** 2 * 3:
            break
        narrowing.told(sizes, f"mat1 and mat2 shapes cannot be multiplied (1x{got} and {37 * 37 * 3}x3)")
        assert number < 8


def test_an_argument_that_cannot_be_written_leaves_no_guess() -> None:
    event = describe(build("mlp"))
    event["schema"]["arguments"][0]["type"] = "__torch__.MyClass"
    assert tried(parse_description(event)) == []


def test_a_description_without_a_graph_leaves_generic_guesses() -> None:
    event = {**describe(build("mlp")), "graph": "", "attributes": {}}
    first = next(guesses(parse_description(event)))
    assert first.inputs[0].to_text() == "float32[1,3,64,64]"
    assert "nothing in the graph fixes its shape" in first.why


def test_forward_without_arguments_is_called_without_any() -> None:
    event = {**describe(build("mlp")), "graph": ""}
    event["schema"]["arguments"] = []
    assert [guess.inputs for guess in tried(parse_description(event))] == [()]


def test_a_default_is_written_where_a_later_argument_has_none() -> None:
    event = describe(build("defaults"))
    event["schema"]["arguments"][-1]["has_default"] = False
    (_, scale, steps, _) = next(guesses(parse_description(event))).inputs
    assert (scale, steps) == (ScalarInput(2.0), ScalarInput(3))


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("Tensor",), Type("Tensor")),
        (("List[Tensor]", "Tensor[]", "Tensor[2]"), Type("list", (Type("Tensor"),))),
        (("Optional[int]", "int?"), Type("optional", (Type("int"),))),
        (("Dict[str, int]", "Dict(str, int)"), Type("dict", (Type("str"), Type("int")))),
        (("Tuple[int, Tensor]", "(int, Tensor)"), Type("tuple", (Type("int"), Type("Tensor")))),
        (("List[List[int]]", "int[][]"), Type("list", (Type("list", (Type("int"),)),))),
        (("Union[int, str]",), Type("union", (Type("int"), Type("str")))),
        (("__torch__.Point", "Device", "Future(Tensor)", "", "Tensor junk"), OTHER),
    ],
)
def test_types_are_read_in_both_notations(texts: tuple[str, ...], expected: Type) -> None:
    assert [parse_type(text) for text in texts] == [expected] * len(texts)
