"""Inputs are found by running the model: as often as the report says, not for ever, printing as if it were run once."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import needed
from torchlink.libtorch.inspect import inspect
from torchlink.report.verify import model_to_json, to_text
from torchlink.verify.verification import verify

torch = needed("torch")

from torch import Tensor, nn  # noqa: E402 - needs torch

from tests.models.catalogue import build  # noqa: E402 - needs torch
from tests.verify.small_models import save  # noqa: E402 - needs torch

if TYPE_CHECKING:
    from torchlink.verify.result import VerifyReport

pytestmark = pytest.mark.compile


class PrintsBeforeItFits(nn.Module):
    """Takes one size only, and prints whatever it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 5)
        self.head = nn.Linear(2 * 9 * 9, 3)

    def forward(self, x: Tensor) -> Tensor:
        print("an image of", x.size(2))
        return self.head(torch.flatten(self.conv(x)[:, :, ::2, ::2], 1))


class PrintsAndRaises(nn.Module):
    """Prints and raises, whatever it is given."""

    def forward(self, x: Tensor) -> Tensor:
        print("an attempt")
        if x.dim() >= 0:
            raise ValueError("no")
        return x


class Slow(nn.Module):
    """Takes long, and raises something new each time."""

    def forward(self, x: Tensor) -> Tensor:
        count = 0
        for i in range(30_000_000):
            count += i % 3
        if count > 0:
            raise ValueError("no tensor of sizes " + str(x.size()) + " and of " + str(x.dtype))
        return x


class Random(nn.Module):
    """Gives something else at each call."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(self.layer(x), 0.5, training=True) + torch.randn(4)


class Values(nn.Module):
    """Refuses by the values, not by the shape, what has one row."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.sum() == 9):
            raise ValueError("these values are not welcome")
        return self.layer(x)


@pytest.fixture(scope="module")
def report(torch_root: Path, tmp_path_factory: pytest.TempPathFactory) -> VerifyReport:
    directory = tmp_path_factory.mktemp("tries")
    modules = (PrintsBeforeItFits(), PrintsAndRaises(), Slow(), Random(), Values())
    paths = [save(module, directory / f"{type(module).__name__}.pt") for module in modules]
    for name in ("rectangle", "odd_size", "lenet"):
        paths.append(directory / f"frozen_{name}.pt")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # freezing is deprecated; it is what this is about
            torch.jit.freeze(build(name)).save(str(paths[-1]))
    return verify(paths, inspect(torch_root, found_by="test"))


def model_of(report: VerifyReport, name: str) -> dict[str, object]:
    return next(model_to_json(model) for model in report.models if Path(model.path).stem == name)


def test_what_tries_that_failed_have_printed_is_not_shown(report: VerifyReport) -> None:
    model = model_of(report, "PrintsBeforeItFits")
    assert model["ok"], model["error"]
    assert isinstance(model["input_tries"], int)
    assert model["input_tries"] > 1
    size = str(model["inputs"]).partition("float32[1,1,")[2].partition(",")[0]
    assert model["printed"] == f"an image of {size}\n"
    assert f"found in {model['input_tries']} runs of forward" in to_text(report)


def test_of_a_model_that_always_raises_the_first_try_is_shown(report: VerifyReport) -> None:
    model = model_of(report, "PrintsAndRaises")
    assert model["printed"] == "an attempt\n"
    assert model["input_tries"] in range(12, 40)
    assert f"with each of {model['input_tries']} different inputs forward raised: no" in str(model["error"])


def test_a_slow_model_is_not_run_again_and_again(report: VerifyReport) -> None:
    model = model_of(report, "Slow")
    assert model["input_tries"] in range(3, 60)
    assert f"none of the {model['input_tries']} inputs that were tried fits" in str(model["error"])


def test_a_model_of_random_outputs_is_run_once(report: VerifyReport) -> None:
    model = model_of(report, "Random")
    assert (model["ok"], model["input_tries"]) == (True, 1)


def test_values_that_are_refused_are_followed_by_others(report: VerifyReport) -> None:
    assert model_of(report, "Values")["ok"]


@pytest.mark.parametrize("name", ["rectangle", "odd_size", "lenet"])
def test_sizes_of_frozen_models_are_found_within_a_few_tries(report: VerifyReport, name: str) -> None:
    model = model_of(report, f"frozen_{name}")
    assert model["ok"], model["error"]
    assert model["input_tries"] in range(1, 9)
