"""A device in the model's own code that is not here: the line is named, and libtorch's list of backends is left out."""

from __future__ import annotations

import json
import shlex
import subprocess
import zipfile
from functools import partial
from pathlib import Path

import pytest

import torchlink
from tests.conftest import needed
from torchlink.errors import DeviceError, UsageError
from torchlink.libtorch.inspect import inspect
from torchlink.paths import data_dir
from torchlink.verify.devices import no_gpu

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


def saved_on_a_gpu(model: Path, target: Path) -> None:
    """The same model with its tensors' place changed, as torch.jit.save writes it where they are on a GPU."""
    with zipfile.ZipFile(model) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("/data.pkl"):
                assert b"X\x03\x00\x00\x00cpu" in content
                content = content.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
            new.writestr(name, content)


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit
@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_a_model_that_was_saved_on_a_gpu_is_mapped(torch_root: Path, tmp_path: Path, device: str) -> None:
    libtorch = inspect(torch_root, found_by="test")
    if libtorch.accelerator != "cpu":
        pytest.skip("needs a CPU build of torch")
    torch.jit.trace(torch.nn.Linear(3, 2).eval(), torch.ones(1, 3)).save(tmp_path / "cpu.pt")
    saved_on_a_gpu(tmp_path / "cpu.pt", tmp_path / "gpu.pt")
    (result,) = torchlink.verify(tmp_path / "gpu.pt", libtorch, device=device, inputs="float32[1,3]").models
    assert result.error is None
    assert (result.device, result.gpu, result.outputs[0].device) == ("cpu", None, "cpu")


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("cuda", "--device cuda needs a CUDA build, but the libtorch"),
        ("cuda:7", "--device cuda:7 needs a CUDA build, but the libtorch"),
        ("xpu", "--device xpu needs an XPU build, but the libtorch"),
        ("mps", "--device mps needs macOS, but the libtorch"),
    ],
)
def test_a_libtorch_that_was_not_built_for_the_device_is_refused(
    torch_root: Path, device: str, said: str
) -> None:
    libtorch = inspect(torch_root, found_by="test")
    if libtorch.accelerator != "cpu" or libtorch.platform != "linux":
        pytest.skip("needs a CPU build of torch for Linux")
    with pytest.raises(DeviceError) as caught:
        torchlink.verify(None, libtorch, device=device)
    assert caught.value.message.startswith(said)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "mps:0 ", "CUDA"])
def test_a_name_that_is_no_device_is_refused(torch_root: Path, device: str) -> None:
    with pytest.raises(UsageError, match="is not known"):
        torchlink.verify(None, inspect(torch_root, found_by="test"), device=device)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("CUDA error: invalid device ordinal", "there is no GPU of index 3."),
        (
            "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU",
            "there is no NVIDIA driver.",
        ),
        (
            "cuda runtime error (35) : CUDA driver version is insufficient for CUDA runtime version at a.cpp:50",
            "there is no NVIDIA driver, or one that is too old for it.",
        ),
        ("No CUDA GPUs are available", "the NVIDIA driver reports no GPU."),
        (
            "CUDA error: no kernel image is available for execution on the device",
            "no kernels for this GPU's compute capability.",
        ),
        (
            "The NVIDIA driver on your system is too old (found version 11040).",
            "too old: it supports CUDA 11.4 and older.",
        ),
    ],
)
def test_what_cuda_says_becomes_one_sentence(torch_root: Path, said: str, sentence: str) -> None:
    found = inspect(torch_root, found_by="test")
    libtorch = found._replace(accelerator="cuda", accelerator_version="13.0")
    error = no_gpu(said, libtorch, "cuda:3")
    assert error.message.startswith("This is a CUDA 13.0 build and libtorch_cuda was loaded, but")
    assert error.message.endswith(sentence)


DRIVER = """
#include <cstring>
#include <cstddef>
static int current = 0;
extern "C" {
int cuInit(unsigned) { return 0; }
int cuDeviceGet(int* device, int index) { *device = index + 40; return index < 2 ? 0 : 101; }
int cuDeviceGetName(char* text, int size, int device) {
  std::strncpy(text, device == 41 ? "Second GPU" : "First GPU", size);
  return 0;
}
int cuDevicePrimaryCtxRetain(void** context, int device) { *context = (void*)(long)device; return 0; }
int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
int cuCtxPushCurrent_v2(void* context) { current = (int)(long)context; return 0; }
int cuCtxPopCurrent_v2(void** context) { *context = 0; current = 0; return 0; }
int cuMemGetInfo_v2(size_t* free, size_t* total) {
  static size_t left = size_t(100) << 20;
  if (current != 41) return 201;
  *free = left; *total = size_t(1) << 40; left -= size_t(7) << 20;
  return 0;
}
}
"""
ASKS = """
#include "gpu.h"
#include <cstdio>
int main() {
  Library kept("libcuda.so.1"); // as libtorch_cuda keeps it
  const Gpu gpu(c10::Device("cuda:1"));
  std::printf("%s\\n", gpu.json(c10::Device("cpu")).c_str());
  try { Driver(2); } catch (const std::exception& error) { std::printf("%s\\n", error.what()); }
}
"""


@pytest.mark.compile
def test_the_driver_is_asked_in_the_device_s_own_context(torch_root: Path, tmp_path: Path) -> None:
    """With a library in the driver's place: no GPU is needed to see that its functions are called as they want."""
    (tmp_path / "driver.cpp").write_text(DRIVER)
    (tmp_path / "asks.cpp").write_text(ASKS)
    libtorch = inspect(torch_root, found_by="test")
    flags = shlex.split(torchlink.emit(torchlink.plan(libtorch), "cxx"))
    run = partial(subprocess.run, cwd=tmp_path, check=True, capture_output=True, text=True)
    run(["c++", "-shared", "-fPIC", "driver.cpp", "-o", "libcuda.so.1"])
    run(["c++", "asks.cpp", f"-I{data_dir('templates') / 'loader'}", "-o", "asks", *flags])
    found = run(["./asks"], env={"LD_LIBRARY_PATH": str(tmp_path)}).stdout.splitlines()
    assert json.loads(found[0]) == {
        "event": "gpu",
        "name": "Second GPU",
        "memory_used_mb": 7.0,
        "kernel_ran": False,
    }
    assert found[1] == "the driver answers 101"
