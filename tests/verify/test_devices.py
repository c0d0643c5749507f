"""A device in the model's own code that is not here: the line is named, and libtorch's list of backends is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import torchlink
from tests.conftest import needed
from torchlink.errors import UsageError
from torchlink.libtorch.inspect import inspect

if TYPE_CHECKING:
    from pathlib import Path

needed("torch")
import torch  # noqa: E402


class Zeros(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.zeros(4, device="cuda:0")


class Moved(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to("cuda") * 2


class Metal(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.ones(3, device="mps")


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit
@pytest.mark.parametrize(
    ("module", "device", "code"),
    [
        (Zeros, "CUDA", 'return x + torch.zeros(4, device="cuda:0")'),
        (Moved, "CUDA", 'return x.to("cuda") * 2'),
        (Metal, "MPS", 'return x + torch.ones(3, device="mps")'),
    ],
)
def test_the_line_that_names_the_device_is_reported(
    torch_root: Path, tmp_path: Path, module: type, device: str, code: str
) -> None:
    libtorch = inspect(torch_root, found_by="test")
    if libtorch.accelerator != "cpu":
        pytest.skip("needs a CPU build of torch")
    torch.jit.script(module()).save(tmp_path / "model.pt")
    (result,) = torchlink.verify(tmp_path / "model.pt", libtorch).models
    assert result.error is not None
    assert (result.error.code, result.error.exit_code) == ("device-unusable", 1)
    assert result.error.message.startswith(
        f"forward asks for the device {device}, and this libtorch is a CPU build:"
    )
    assert "test_devices.py, line" in result.error.message
    assert result.error.message.endswith(code)
    assert result.error.details == ()


@pytest.mark.parametrize(("atol", "rtol"), [(-1.0, 0.0), (0.0, float("nan"))])
def test_negative_tolerances_are_refused(torch_root: Path, atol: float, rtol: float) -> None:
    with pytest.raises(UsageError, match="is no tolerance"):
        torchlink.verify(libtorch=inspect(torch_root, found_by="test"), atol=atol, rtol=rtol)


@pytest.mark.compile
def test_a_mismatch_with_inputs_that_were_worked_out_says_so(torch_root: Path, tmp_path: Path) -> None:
    torch.save([torch.ones(1, 2)], tmp_path / "expected.pt")
    libtorch = inspect(torch_root, found_by="test")
    (guessed,) = torchlink.verify((), libtorch, expect=tmp_path / "expected.pt").models
    assert guessed.error is not None
    assert "worked out by torchlink: x = float32[1,4]" in guessed.error.message
    (given,) = torchlink.verify((), libtorch, expect=tmp_path / "expected.pt", inputs="float32[1,4]").models
    assert given.error is not None
    assert "worked out" not in given.error.message
