"""A device in the model's own code that is not here: the line is named, and libtorch's list of backends is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

import torchlink
from tests.conftest import needed
from torchlink.errors import UsageError
from torchlink.libtorch.inspect import inspect

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
        f"forward asks for the device {device}, but this libtorch is a CPU build:"
    )
    assert "test_devices.py, line" in result.error.message
    assert result.error.message.endswith(code)
    assert result.error.details == ()


class Pinned(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.pin_memory()


class Meta(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to("meta").cpu()


class Vulkan(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to("vulkan")


class Given(torch.nn.Module):
    def forward(self, x: torch.Tensor, device: torch.device) -> torch.Tensor:
        return x.to(device)


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit
def test_every_device_that_cannot_serve_is_named_and_an_argument_can_be_one(
    torch_root: Path, tmp_path: Path
) -> None:
    libtorch = inspect(torch_root, found_by="test")
    if libtorch.accelerator != "cpu":
        pytest.skip("needs a CPU build of torch")
    for module in (Pinned, Meta, Vulkan, Given):
        torch.jit.script(module()).save(tmp_path / f"{module.__name__}.pt")
    paths = sorted(tmp_path.glob("*.pt"))
    results = {Path(model.path).stem: model for model in torchlink.verify(paths, libtorch).models}
    said = {name: model.error.message for name, model in results.items() if model.error}
    assert said["Pinned"].startswith(
        "forward asks for an accelerator, but this libtorch is a CPU build: test_"
    )
    assert said["Meta"].startswith(
        "forward reads a tensor on the meta device, which has shapes but no values:"
    )
    assert said["Vulkan"].startswith(
        "forward asks for the device VULKAN, but this libtorch is a CPU build: test_"
    )
    assert results["Given"].error is None
    assert results["Given"].inputs[1].text == "'cpu'"


@pytest.mark.parametrize(("atol", "rtol"), [(-1.0, 0.0), (0.0, float("nan")), (float("inf"), 0.0)])
def test_tolerances_that_are_negative_or_not_finite_are_refused(
    torch_root: Path, atol: float, rtol: float
) -> None:
    with pytest.raises(UsageError, match="is not a tolerance"):
        torchlink.verify(libtorch=inspect(torch_root, found_by="test"), atol=atol, rtol=rtol)


@pytest.mark.compile
def test_a_mismatch_with_inputs_that_were_worked_out_says_so(torch_root: Path, tmp_path: Path) -> None:
    torch.save([torch.ones(1, 2)], tmp_path / "expected.pt")
    libtorch = inspect(torch_root, found_by="test")
    (guessed,) = torchlink.verify(None, libtorch, expect=tmp_path / "expected.pt").models
    assert guessed.error is not None
    assert "worked out by torchlink: x = float32[1,4]" in guessed.error.message
    (given,) = torchlink.verify(None, libtorch, expect=tmp_path / "expected.pt", inputs="float32[1,4]").models
    assert given.error is not None
    assert "worked out" not in given.error.message
