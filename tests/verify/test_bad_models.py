"""Models that never return, or that crash their process: stopped in time, told in one sentence, tried again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import needed

torch = needed("torch")

from torch import Tensor, nn  # noqa: E402 - needs torch

from tests.verify.small_models import Printing, save  # noqa: E402 - needs torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

pytestmark = pytest.mark.compile


class Endless(nn.Module):
    """Never returns."""

    def forward(self, x: Tensor) -> Tensor:
        while bool(x.sum() < 1e9):
            x = x * 1
        return x


class CrashesUnlessThree(nn.Module):
    """Reads memory that is not its own, unless its input has three dimensions, which no operator tells."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 3:
            x = torch.ops.aten._reshape_alias(x, [1 << 40], [1])
        return x.sum()


class AlwaysCrashes(nn.Module):
    """Reads memory that is not its own."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.aten._reshape_alias(x, [1 << 40], [1]).sum()


@pytest.fixture
def proved(torchlink: Callable[..., Result], torch_root: Path, tmp_path: Path) -> Callable[..., Any]:
    """`proved(Module(), "--option")` is the exit code and the model's entry in the report."""

    def call(module: nn.Module, *options: str) -> tuple[int, Any]:
        model = save(module, tmp_path / "model.pt")
        result = torchlink("verify", model, "--libtorch", torch_root, "--json", *options)
        return result.code, json.loads(result.out)["models"][0]

    return call


@pytest.mark.parametrize("options", [("--input", "float32[3]"), ()])
def test_a_model_that_never_returns_is_stopped(proved: Callable[..., Any], options: tuple[str, ...]) -> None:
    code, model = proved(Endless(), "--timeout", "0.7", *options)
    assert code == 1
    assert model["error"]["code"] == "timed-out"
    assert "did not finish within 0.7 s: stopped in the model's forward" in model["error"]["message"]
    assert "--timeout" in model["error"]["hint"]
    assert model["load_ms"] > 0


def test_each_model_has_the_time_for_itself(
    torchlink: Callable[..., Result], torch_root: Path, tmp_path: Path
) -> None:
    endless = save(Endless(), tmp_path / "endless.pt")
    good = save(Printing(), tmp_path / "good.pt")
    words = ("--timeout", "1.5", "--input", "float32[2]", "--libtorch", torch_root, "--json")
    report = json.loads(torchlink("verify", endless, good, *words).out)
    assert [model["ok"] for model in report["models"]] == [False, True]


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "x"])
def test_what_is_no_time_is_refused(torchlink: Callable[..., Result], seconds: str, torch_root: Path) -> None:
    result = torchlink("verify", "--timeout", seconds, "--libtorch", torch_root)
    assert result.code == 2
    assert "--timeout" in result.err


def test_after_a_guess_that_crashes_the_next_is_tried(proved: Callable[..., Any]) -> None:
    code, model = proved(CrashesUnlessThree())
    assert code == 0, model
    assert model["inputs"][0]["input"].count(",") == 2


def test_a_model_that_always_crashes_is_given_up_with_its_signal(proved: Callable[..., Any]) -> None:
    code, model = proved(AlwaysCrashes())
    assert code == 1
    assert model["error"]["code"] == "run-failed"
    assert "SIGSEGV" in model["error"]["message"]


def test_whole_numbers_of_floating_tensors_stay_floats_in_json(proved: Callable[..., Any]) -> None:
    _, model = proved(Printing(), "--input", "float32[2]=arange")
    (output,) = model["outputs"]
    assert [type(number) for number in (*output["values"], output["min"], output["mean"])] == [float] * 4
    _, model = proved(Printing(), "--input", "int64[2]=arange")
    assert [type(number) for number in model["outputs"][0]["values"]] == [int, int]


def test_what_a_model_prints_is_in_its_report(proved: Callable[..., Any]) -> None:
    _, model = proved(Printing(), "--input", "float32[2]")
    assert model["printed"].strip()
