"""The loader's commands for whole values: keyword arguments, methods, what was given and returned."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
import torch

from tests.verify.test_loader import events, loader, plan  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.compile, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # of torch.jit


class TwoMethods(torch.nn.Module):
    def forward(self, x: torch.Tensor, n: int = 1, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        x.mul_(scale)
        return x + n, x

    @torch.jit.export
    def count(self, ids: list[int]) -> int:
        return len(ids)


@pytest.fixture(scope="module")
def two_methods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "two_methods.pt"
    torch.jit.script(TwoMethods()).save(str(path))
    return path


def test_a_method_keyword_arguments_and_defaults_are_bound_by_the_schema(
    loader: Path,  # noqa: F811 - the fixture
    two_methods: Path,
) -> None:
    ask = (
        "forward 1 tensor float32 2 ones 1 scale float 3",
        "forward 0 2 n int 2 x tensor float32 2 ones",
        "forward 0 1 n int 3",
        "forward 1 tensor float32 2 ones 1 x int 3",
        "forward 1 tensor float32 2 ones 1 other int 3",
        "method nothing",
        "method count",
        "forward 1 list int 2 int 1 int 2",
    )
    one, two, missing, twice, unknown, no_method, method, value = events(
        loader, f"load cpu {two_methods}", *ask
    )[1:]
    assert one["outputs"][0]["values"] == [4.0, 4.0]  # type: ignore[index]
    assert two["outputs"][0]["values"] == [3.0, 3.0]  # type: ignore[index]
    assert missing["message"] == "argument x is missing"
    assert twice["message"] == "argument x is given twice"
    assert unknown["message"] == "there is no argument named other"
    assert no_method["message"] == "the model has no method named nothing; it has forward, count"
    assert method["schema"]["arguments"][0]["type"] == "List[int]"  # type: ignore[index]
    assert value["value"] == {"type": "scalar", "data_type": "int64", "value": 2}


def test_saved_inputs_are_those_before_forward_wrote_into_them(
    loader: Path,  # noqa: F811 - the fixture
    two_methods: Path,
    tmp_path: Path,
) -> None:
    given, returned, unwritable = events(
        loader,
        f"load cpu {two_methods}",
        "forward 1 tensor float32 2 hex:0000003f000080bf 1 scale float 3",
        f"save inputs {tmp_path / 'in'}",
        f"save outputs {tmp_path / 'out'}",
        f"save outputs {tmp_path / 'missing' / 'out'}",
    )[2:]
    assert given["value"] == [{"type": "tensor", "data_type": "float32", "shape": [2], "offset": 0}]
    assert given["keywords"] == {"scale": {"type": "scalar", "data_type": "float64", "value": 3.0}}
    assert struct.unpack("<2f", (tmp_path / "in").read_bytes()) == (0.5, -1.0)
    assert [part["offset"] for part in returned["value"]["value"]] == [0, 64]  # type: ignore[index]
    assert struct.unpack_from("<2f", (tmp_path / "out").read_bytes()) == (2.5, -2.0)
    assert "cannot write" in str(unwritable["message"])
