"""Driver and GPUs are read from the driver's own libraries, and a build is checked against them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.doctor.drivers import build_driver
from torchlink.doctor.driver import cuda_fit, cuda_version, has_nvidia_gpu, read_driver, read_smi
from torchlink.doctor.report import Driver, InstalledGpu

if TYPE_CHECKING:
    from pathlib import Path

SAID = {"DRIVER": "580.65.06", "CUDA": "13000", "GPUS": "2", "CAPABILITY": "90"}
H100 = InstalledGpu("NVIDIA H100", (9, 0), 81559)


def doctor(environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    """What `torchlink doctor --json` says in a process of its own, whose loader sees the stand-ins."""
    done = subprocess.run(
        [sys.executable, "-m", "torchlink", "doctor", "--json", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both stand-ins, and each alone."""
    top = tmp_path_factory.mktemp("driver")
    build_driver(top / "both")
    build_driver(top / "nvml", libcuda=False)
    build_driver(top / "libcuda", nvml=False)
    return top


@pytest.mark.compile
class TestDriverLibraries:
    """What the stand-ins say arrives."""

    def test_nvml_reports_everything(self, libraries: Path) -> None:
        driver = doctor({"LD_LIBRARY_PATH": str(libraries / "both"), **SAID})["driver"]
        gpu = {"name": "NVIDIA Stand-in", "capability": "9.0", "memory_mb": 81920}
        assert driver == {
            "version": "580.65.06",
            "cuda": "13.0",
            "source": "NVML",
            "problem": None,
            "gpus": [gpu, gpu],
        }

    def test_without_libcuda_no_gpu_can_be_used(self, libraries: Path) -> None:
        driver = doctor({"LD_LIBRARY_PATH": str(libraries / "nvml"), **SAID})["driver"]
        assert (driver["version"], driver["problem"]) == ("580.65.06", "libcuda.so.1 is missing")

    def test_without_nvml_libcuda_is_used(self, libraries: Path) -> None:
        driver = doctor({"LD_LIBRARY_PATH": str(libraries / "libcuda"), **SAID})["driver"]
        assert (driver["version"], driver["cuda"], driver["source"]) == (None, "13.0", "libcuda")
        assert [gpu["memory_mb"] for gpu in driver["gpus"]] == [81920, 81920]

    def test_the_error_of_a_failing_library_is_reported(self, libraries: Path) -> None:
        environment = {"LD_LIBRARY_PATH": str(libraries / "libcuda"), **SAID, "CUINIT_FAILS": "100"}
        assert doctor(environment)["driver"]["problem"] == "no CUDA-capable device is detected"

    def test_a_kernel_module_of_another_version_is_reported(self, libraries: Path, tmp_path: Path) -> None:
        build_driver(tmp_path, libcuda=False)
        driver = doctor({"LD_LIBRARY_PATH": str(tmp_path), **SAID, "NVML_FAILS": "18"})["driver"]
        assert driver["problem"] == "NVIDIA's driver does not answer: Driver/library version mismatch"
        assert driver["gpus"] == []


@pytest.mark.parametrize(
    ("build", "cuda", "capability", "runs", "why"),
    [
        ((13, 2), (13, 0), (9, 0), True, "the driver supports up to CUDA 13.0"),
        ((12, 8), (13, 0), (9, 0), True, "the driver supports up to CUDA 13.0"),
        ((12, 8), (12, 2), (9, 0), True, "the driver supports up to CUDA 12.2"),
        ((13, 0), (12, 8), (9, 0), False, "needs driver 580.65.06 or newer"),
        ((12, 1), (11, 8), (8, 0), False, "needs driver 525.60.13 or newer"),
        ((10, 2), (10, 1), (7, 0), False, "and this is a CUDA 10.2 build"),
        ((13, 0), (13, 0), (7, 0), False, "is too old for CUDA 13"),
        ((13, 0), (13, 0), (7, 5), True, "CUDA 13.0"),
        ((12, 4), (13, 0), (12, 0), False, "needs a build with CUDA 12.8 or newer"),
        ((12, 8), (13, 0), (12, 0), True, "CUDA 13.0"),
        ((11, 7), (12, 4), (9, 0), False, "needs a build with CUDA 11.8 or newer"),
        ((11, 0), (12, 4), (8, 9), True, "CUDA 12.4"),
        ((99, 0), (12, 4), (8, 9), False, "this is a CUDA 99.0 build"),
    ],
)
def test_a_cuda_build_is_checked_against_driver_and_gpu(
    build: tuple[int, int], cuda: tuple[int, int], capability: tuple[int, int], runs: bool, why: str
) -> None:
    gpu = InstalledGpu("GPU", capability, None)
    verdict, reason = cuda_fit(build, Driver("1.2.3", cuda, (gpu,), "NVML", None))
    assert verdict is runs
    assert why in reason


def test_one_supported_gpu_is_enough() -> None:
    old = InstalledGpu("old", (6, 0), None)
    assert cuda_fit((13, 0), Driver("580", (13, 0), (old, H100), "NVML", None))[0] is True


def test_without_a_driver_nothing_runs_and_without_a_version_it_is_unknown() -> None:
    nothing = Driver(None, None, (), None, "there is no NVIDIA driver")
    assert cuda_fit((12, 4), nothing) == (False, "there is no NVIDIA driver")
    assert cuda_fit(None, Driver("580", (13, 0), (H100,), "NVML", None))[0] is None


def test_the_output_of_nvidia_smi_is_parsed() -> None:
    page = "| NVIDIA-SMI 550.54.15    Driver Version: 550.54.15    CUDA Version: 12.4     |\n"
    table = "550.54.15, NVIDIA H100 80GB HBM3, 9.0, 81559\n550.54.15, Tesla K80, [N/A], [N/A]\n"
    assert read_smi(table, page) == Driver(
        "550.54.15",
        (12, 4),
        (InstalledGpu("NVIDIA H100 80GB HBM3", (9, 0), 81559), InstalledGpu("Tesla K80", None, None)),
        "nvidia-smi",
        None,
    )
    assert read_smi("", "").problem == "there is no GPU"


def test_numbers_of_the_driver_are_cuda_versions() -> None:
    assert [cuda_version(number) for number in (11080, 12040, 13000)] == [(11, 8), (12, 4), (13, 0)]


def test_a_gpu_without_a_driver_is_detected(tmp_path: Path) -> None:
    for name, vendor, kind in (("net", "0x10de", "0x020000"), ("intel", "0x8086", "0x030000")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    (tmp_path / "empty").mkdir()
    assert not has_nvidia_gpu(tmp_path)
    (tmp_path / "intel/vendor").write_text("0x10de\n")
    assert has_nvidia_gpu(tmp_path)
    assert not has_nvidia_gpu(tmp_path / "nowhere")


@pytest.mark.gpu
def test_the_real_driver_agrees_with_nvidia_smi() -> None:
    from torchlink.doctor.driver import ask_smi
    from torchlink.process import which

    smi = which("nvidia-smi")
    assert smi
    asked, printed = read_driver(), ask_smi(smi)
    assert asked.problem is None
    assert (asked.version, asked.cuda, len(asked.gpus)) == (printed.version, printed.cuda, len(printed.gpus))
    assert [(gpu.name, gpu.capability) for gpu in asked.gpus] == [
        (gpu.name, gpu.capability) for gpu in printed.gpus
    ]
