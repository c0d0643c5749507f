"""Inputs are worked out from a model's graph, for models of many kinds, and the models really take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import needed

torch = needed("torch")

from tests.zoo.catalogue import NAMES, build  # noqa: E402 - needs torch
from tests.zoo.description import describe  # noqa: E402 - needs torch
from torchlink.verify.description import parse_description  # noqa: E402
from torchlink.verify.guess import Guess, guesses  # noqa: E402
from torchlink.verify.guessing.check import value_of  # noqa: E402
from torchlink.verify.schema_types import OTHER, Type, parse_type  # noqa: E402
from torchlink.verify.shapes.run import Run  # noqa: E402
from torchlink.verify.shapes.values import Shaped  # noqa: E402
from torchlink.verify.specs import DictInput, InputSpec, ListInput, ScalarInput, TensorInput  # noqa: E402

if TYPE_CHECKING:
    from torchlink.verify.graph import Description

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


def real(spec: InputSpec) -> Any:
    """The value that the loader would make."""
    if isinstance(spec, TensorInput):
        make = {"ones": torch.ones, "zeros": torch.zeros}[spec.fill]
        return make(spec.shape, dtype=getattr(torch, spec.dtype))
    if isinstance(spec, ScalarInput):
        return spec.value
    if isinstance(spec, DictInput):
        return {key.value: real(value) for key, value in spec.items}
    items = [real(item) for item in spec.items]  # type: ignore[attr-defined]
    return items if isinstance(spec, ListInput) else tuple(items)


def facts(value: Any) -> Any:
    """A real value as a run on shapes would have it."""
    if isinstance(value, torch.Tensor):
        return Shaped(tuple(value.shape), str(value.dtype)[6:])
    if isinstance(value, dict):
        return {key: facts(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [facts(each) for each in value]
    return value


def without_origin(value: Any) -> Any:
    if isinstance(value, Shaped):
        return Shaped(value.shape, value.dtype)
    if isinstance(value, dict):
        return {key: without_origin(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_origin(each) for each in value]
    return value


@pytest.fixture(scope="module", params=NAMES)
def animal(request: pytest.FixtureRequest) -> tuple[str, Any, list[Guess]]:
    module = build(request.param)
    return request.param, module, list(guesses(described(module)))


def test_the_first_guess_runs(animal: tuple[str, Any, list[Guess]]) -> None:
    name, module, tried = animal
    with torch.no_grad():
        module(*map(real, tried[0].inputs))
    if name in EXPECTED:
        assert tried[0].inputs[0].to_text() == EXPECTED[name]


def test_a_guess_says_what_and_why_in_one_line(animal: tuple[str, Any, list[Guess]]) -> None:
    _, module, tried = animal
    names = [argument.name for argument in module.forward.schema.arguments[1:]]
    for guess in tried:
        assert "\n" not in guess.why
        for name, spec in zip(names, guess.inputs, strict=False):
            assert f"{name} = {spec.to_text()}" in guess.why


def test_the_list_is_short_and_without_repetitions(animal: tuple[str, Any, list[Guess]]) -> None:
    _, _, tried = animal
    assert 1 <= len(tried) <= 24
    assert len({guess.inputs for guess in tried}) == len(tried)


def test_a_run_on_shapes_gives_the_shapes_of_the_real_run(animal: tuple[str, Any, list[Guess]]) -> None:
    name, module, tried = animal
    if name == "string_out":  # its value depends on the data
        return
    description = described(module)
    values = [value_of(spec) for spec in tried[0].inputs]
    if name == "defaults":
        values += [2.0, 3, "n"]
    found = Run(description.attributes, 100_000).forward(description.graph, values)
    with torch.no_grad():
        expected = module(*map(real, tried[0].inputs))
    assert without_origin(found[0]) == facts(expected)


def test_the_reason_names_the_parameter_that_told() -> None:
    first = next(guesses(described(build("lenet"))))
    assert first.why == (
        "x = float32[1,1,28,28]: conv1.weight takes 1 channel, the layers behind take 28x28 pixels"
    )


def test_a_model_that_refuses_everything_leaves_a_short_list() -> None:
    tried = list(guesses(described(build("raises"))))
    assert 1 < len(tried) <= 24


def test_an_argument_that_cannot_be_written_leaves_no_guess() -> None:
    event = describe(build("mlp"))
    event["schema"]["arguments"][0]["type"] = "__torch__.MyClass"
    assert list(guesses(parse_description(event))) == []


def test_a_description_without_a_graph_leaves_generic_guesses() -> None:
    event = {**describe(build("mlp")), "graph": "", "attributes": {}}
    tried = list(guesses(parse_description(event)))
    assert tried[0].inputs[0].to_text() == "float32[1,3,64,64]"
    assert "nothing in the graph tells its shape" in tried[0].why


def test_forward_without_arguments_is_called_without_any() -> None:
    event = {**describe(build("mlp")), "graph": ""}
    event["schema"]["arguments"] = []
    assert [guess.inputs for guess in guesses(parse_description(event))] == [()]


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
