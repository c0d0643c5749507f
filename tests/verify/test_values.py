"""Values of every kind go into models and come out of them whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import torchlink
from tests.conftest import needed
from torchlink.libtorch.inspect import inspect

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.verify.result import ModelResult

import torch
from torch import Tensor, nn

numpy = needed("numpy")
safetensors = needed("safetensors.torch")
pytestmark = [
    pytest.mark.compile,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of torch.jit
    pytest.mark.filterwarnings("ignore:ComplexHalf"),
]


class Pair(NamedTuple):
    left: Tensor
    right: int


class Many(nn.Module):
    def forward(
        self,
        x: Tensor,
        state: tuple[Tensor, list[int]],
        named: dict[str, Tensor],
        scale: float = 2.0,
        text: str = "t",
    ) -> tuple[Tensor, dict[int, list[Tensor]], dict[str, Tensor], Pair, str, float, Tensor | None]:
        total = x.mul_(scale)
        return total, {7: [state[0], x.t()]}, named, Pair(x[:0], state[1][0]), text + "!", scale, None

    @torch.jit.export
    def count(self, words: list[str], *, more: int) -> int:
        return len(words) + more


class Echo(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Number(nn.Module):
    def forward(self, x: complex) -> complex:
        return x


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    torch.jit.script(Many()).save(str(directory / "many.pt"))
    torch.jit.script(Echo()).save(str(directory / "echo.pt"))
    torch.jit.script(Number()).save(str(directory / "number.pt"))
    return directory


def proved(path: Path, torch_root: Path, **options: Any) -> ModelResult:
    (model,) = torchlink.verify(path, inspect(torch_root, found_by="test"), **options).models
    return model


X = torch.arange(6.0).reshape(3, 2).t()  # no contiguous one
NAMED = {"a": torch.tensor([float("nan"), float("-inf")]), "b": torch.empty(0, 2, dtype=torch.bool)}
STATE = (torch.tensor(5, dtype=torch.int8), [4, 5])
RETURNED = (X * 2, {7: [STATE[0], (X * 2).t()]}, NAMED, (torch.empty(0, 3), 4), "t!", 2.0, None)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and bool(torch.equal(torch.nan_to_num(one), torch.nan_to_num(other)))
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and bool(one == other)


def test_what_torch_saves_goes_in_and_torch_loads_what_comes_out(
    models: Path, torch_root: Path, tmp_path: Path
) -> None:
    torch.save([X, STATE, NAMED], tmp_path / "in.pt")
    model = proved(
        models / "many.pt", torch_root, inputs_file=tmp_path / "in.pt", save_outputs=tmp_path / "out.pt"
    )
    assert model.error is None
    assert same(torch.load(tmp_path / "out.pt", weights_only=True), RETURNED)
    assert model.saved == str(tmp_path / "out.pt")
    tree: Any = model.output
    assert tree["value"][3]["names"] == ["left", "right"]
    assert tree["value"][2]["value"]["a"]["value"] == ["NaN", "-Infinity"]
    assert tree["value"][6] == {"type": "none"}


def test_the_json_that_was_written_goes_in_again(models: Path, torch_root: Path, tmp_path: Path) -> None:
    torch.save(NAMED, tmp_path / "named.pt")
    inputs = [f"named={tmp_path / 'named.pt'}", "float32[2,3]=arange", "(int8[]=full:5, [4, 5])", "scale=3"]
    model = proved(models / "many.pt", torch_root, inputs=inputs, save_outputs=tmp_path / "o.json")
    assert model.error is None
    assert [taken.name for taken in model.inputs] == ["x", "state", "named", "scale"]
    document = json.loads((tmp_path / "o.json").read_text())
    shown: Any = model.output
    del shown["value"][3]["names"]  # of the named tuple
    assert document == shown
    (tmp_path / "x.json").write_text(json.dumps(document["value"][0]))
    again = proved(models / "echo.pt", torch_root, inputs=[str(tmp_path / "x.json")])
    assert again.output == document["value"][0]


def test_entries_go_in_by_name_or_in_order(models: Path, torch_root: Path, tmp_path: Path) -> None:
    numpy.savez(tmp_path / "named.npz", x=numpy.full((2,), 3, dtype="u2"))
    safetensors.save_file({"0": torch.ones(2, dtype=torch.float8_e5m2)}, tmp_path / "order.safetensors")
    for name, dtype in (("named.npz", "uint16"), ("order.safetensors", "float8_e5m2")):
        model = proved(
            models / "echo.pt",
            torch_root,
            inputs_file=tmp_path / name,
            save_outputs=tmp_path / "o.pt",
            force=True,
        )
        assert model.error is None
        assert torch.load(tmp_path / "o.pt", weights_only=True).dtype is getattr(torch, dtype)


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "uint64", "float16", "bfloat16", "float8_e4m3fn", "complex128"]
)
def test_every_kind_of_element_goes_through(
    dtype: str, models: Path, torch_root: Path, tmp_path: Path
) -> None:
    tensor = torch.tensor([[1, 0, 1], [0, 1, 1]]).to(getattr(torch, dtype)).t()
    torch.save(tensor, tmp_path / "in.pt")
    model = proved(
        models / "echo.pt", torch_root, inputs=[str(tmp_path / "in.pt")], save_outputs=tmp_path / "out.pt"
    )
    assert model.error is None
    out = torch.load(tmp_path / "out.pt", weights_only=True)
    assert out.dtype is tensor.dtype
    assert out.to(torch.complex128).tolist() == tensor.to(torch.complex128).tolist()


def test_whole_numbers_without_a_sign_and_complex_ones_are_shown_as_they_are(
    models: Path, torch_root: Path
) -> None:
    huge = '{"type":"tensor","data_type":"uint64","shape":[2],"value":[18446744073709551615,7]}'
    (output,) = proved(models / "echo.pt", torch_root, inputs=[huge]).outputs
    assert output.values == (2**64 - 1, 7)
    assert (output.min, output.max, output.mean) == (7, 2**64 - 1, 2.0**63)
    number = '{"type":"scalar","data_type":"complex128","value":[1,"-Infinity"]}'
    (output,) = proved(models / "number.pt", torch_root, inputs=[number]).outputs
    assert (output.type, output.value) == ("complex", complex(1, float("-inf")))


def test_a_method_takes_its_keyword_only_argument(models: Path, torch_root: Path) -> None:
    model = proved(models / "many.pt", torch_root, method="count", inputs=["['a', 'b']", "more=3"])
    assert model.output == {"type": "scalar", "data_type": "int64", "value": 5}
    missing = proved(models / "many.pt", torch_root, method="count", inputs=["['a', 'b']"]).error
    assert missing is not None
    assert missing.message == f"{models / 'many.pt'}: argument more (int) of count is missing."
    unknown = proved(models / "many.pt", torch_root, method="counts").error
    assert unknown is not None
    assert unknown.message == f"{models / 'many.pt'} has no method named counts; it has forward, count."
    assert unknown.exit_code == 2


def test_a_large_output_is_cut_in_the_json_and_whole_in_the_file(
    models: Path, torch_root: Path, tmp_path: Path
) -> None:
    model = proved(
        models / "echo.pt", torch_root, inputs=["float32[7,1000]=randn:1"], save_outputs=tmp_path / "o.npz"
    )
    tree: Any = model.output
    assert (tree["shape"], len(tree["value"]), tree["truncated"]) == ([7, 1000], 8, True)
    output = numpy.load(tmp_path / "o.npz")["output"]
    assert output.shape == (7, 1000)
    assert output.reshape(-1)[:8].tolist() == [float(numpy.float32(each)) for each in tree["value"]]


def test_a_file_that_is_there_stays_and_a_failure_leaves_none(
    models: Path, torch_root: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there.pt"
    there.write_text("mine")
    with pytest.raises(torchlink.TorchlinkError, match="exists") as caught:
        proved(models / "echo.pt", torch_root, save_outputs=there)
    assert caught.value.exit_code == 2
    assert there.read_text() == "mine"
    error = proved(
        models / "echo.pt", torch_root, inputs=["bfloat16[2]"], save_outputs=tmp_path / "out.npz"
    ).error
    assert error is not None
    assert error.message == "The output is bfloat16, which .npz does not have."
    assert [path.name for path in tmp_path.iterdir()] == ["there.pt"]
