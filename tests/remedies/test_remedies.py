"""The commands for missing libraries pin them as torch does, and install them where libtorch finds them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fake_libtorch import fake_libtorch
from tests.libtorch.trees import Fake, make, make_venv
from torchlink.libtorch.facts import MissingLibrary
from torchlink.libtorch.machine import this_machine
from torchlink.libtorch.packages import pinned
from torchlink.remedies.pip import download_command, requirements_of
from torchlink.remedies.remedy import remedy_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result

HERE = this_machine().arch
METADATA = """\
Name: torch
Requires-Dist: setuptools>=77.0.3
Requires-Dist: cuda-toolkit[cublas,cudart,cupti]==13.2.2; platform_system == "Linux"
Requires-Dist: nvidia-cudnn-cu13==9.26.0.51; platform_system == "Linux"
Requires-Dist: nvidia-cublas-cu12 (==12.1.3.1) ; platform_system == "Linux"
"""
CUDNN = MissingLibrary(
    "libcudnn.so.9", "libtorch_cuda.so", "nvidia-cudnn-cu13", "nvidia-cudnn-cu13==9.26.0.51"
)


def write(path: Path, text: str) -> None:
    """A small file, with the directories that it takes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("package", "requirement"),
    [
        ("nvidia-cudnn-cu13", "nvidia-cudnn-cu13==9.26.0.51"),
        ("nvidia-cublas-cu12", "nvidia-cublas-cu12==12.1.3.1"),
        ("nvidia-cublas", "cuda-toolkit[cublas]==13.2.2"),
        ("nvidia-cuda-runtime", "cuda-toolkit[cudart]==13.2.2"),
        ("nvidia-cuda-cupti", "cuda-toolkit[cupti]==13.2.2"),
        ("nvidia-curand", None),
    ],
)
def test_a_package_is_pinned_as_torch_pins_it(package: str, requirement: str | None) -> None:
    assert pinned(package, METADATA) == requirement


def test_extras_of_one_package_are_asked_for_at_once() -> None:
    parts = (
        MissingLibrary(f"lib{part}.so.13", "x", None, f"cuda-toolkit[{part}]==13.2.2")
        for part in ("cublas", "cudart", "cublas")
    )
    unpinned = MissingLibrary("libcurand.so.10", "x", "nvidia-curand")
    assert requirements_of((*parts, CUDNN, unpinned)) == (
        "cuda-toolkit[cublas,cudart]==13.2.2",
        "nvidia-cudnn-cu13==9.26.0.51",
        "nvidia-curand",
    )


def test_the_command_uses_the_environments_own_interpreter(tmp_path: Path) -> None:
    libtorch = fake_libtorch(tmp_path / "torch", python=Path("/some where/bin/python"), arch=HERE)
    command = "'/some where/bin/python' -m pip install nvidia-cudnn-cu13==9.26.0.51"
    assert remedy_for(libtorch, [CUDNN]).command == command


def merging(site: Path, words: str) -> str:
    """The command that adds the files of packages to a directory and removes nothing."""
    return (
        """(new=$(mktemp -d) && trap 'rm -rf "$new"' EXIT && """
        f'python3 -m pip install --target "$new" {words} && cp -rn "$new"/. {site}/)'
    )


@pytest.mark.parametrize("name", ["site-packages", "deps"])
def test_without_an_interpreter_packages_are_added_to_the_directory(tmp_path: Path, name: str) -> None:
    site = tmp_path / name
    write(site / "torch-2.15.0.dist-info/METADATA", "")
    command = merging(site, "nvidia-cudnn-cu13==9.26.0.51")
    assert remedy_for(fake_libtorch(site / "torch", arch=HERE), [CUDNN]).command == command


def test_for_another_machine_pip_gets_its_platform(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    write(
        site / "torch-2.15.0.dist-info/WHEEL",
        "Wheel-Version: 1.0\nTag: cp312-cp312-manylinux_2_28_riscv64\n",
    )
    libtorch = fake_libtorch(site / "torch", arch="riscv64", python=Path("/usr/bin/python3"))
    command = remedy_for(libtorch, [CUDNN]).command
    assert (
        "--platform=manylinux2014_riscv64 $(seq -f --platform=manylinux_2_%g_riscv64 17 28) "
        "--python-version 3.12 --only-binary :all: nvidia-cudnn-cu13" in command
    )


def test_what_pip_believes_to_be_installed_is_forced(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    write(site / "nvidia_cuda_cupti-13.2.86.dist-info/RECORD", "nvidia/cu13/lib/libcupti.so.13,sha256=x,1\n")
    write(site / "nvidia_cudnn_cu13-8.0.dist-info/RECORD", "nvidia/cudnn/lib/libcudnn.so.8,sha256=x,1\n")
    cupti = MissingLibrary(
        "libcupti.so.13", "libtorch_cpu.so", "nvidia-cuda-cupti", "cuda-toolkit[cupti]==13.2.2"
    )
    python = tmp_path / "bin/python"
    assert remedy_for(fake_libtorch(site / "torch", python=python, arch=HERE), [cupti, CUDNN]).command == (
        f"{python} -m pip install --force-reinstall --no-deps nvidia-cuda-cupti==13.2.86 && "
        f"{python} -m pip install nvidia-cudnn-cu13==9.26.0.51"
    )
    command = merging(site, "--no-deps nvidia-cuda-cupti==13.2.86")
    assert remedy_for(fake_libtorch(site / "torch", arch=HERE), [cupti]).command == command


WHEEL = "torch-2.15.0+cu132-cp313-cp313t-manylinux_2_28_{}.whl"


def test_companions_are_downloaded_for_the_machine_of_the_wheel() -> None:
    assert (
        download_command([CUDNN], WHEEL.format(HERE), HERE) == f"pip download {CUDNN.requirement} -d wheels"
    )
    assert download_command([CUDNN], WHEEL.format("riscv64"), "riscv64") == (
        "pip download --platform=manylinux2014_riscv64 $(seq -f --platform=manylinux_2_%g_riscv64 17 28) "
        f"--python-version 3.13 --only-binary :all: {CUDNN.requirement} -d wheels"
    )
    assert download_command([MissingLibrary("libodd.so", "x", None)], WHEEL.format(HERE), HERE) == ""


@pytest.mark.matrix
def test_the_command_downloads_for_another_machine(tmp_path: Path) -> None:
    other = "aarch64" if HERE == "x86_64" else "x86_64"
    nvtx = MissingLibrary("libnvtx3interop.so.1", "x", "nvidia-nvtx", "cuda-toolkit[nvtx]==13.2.2")
    command = download_command([nvtx], WHEEL.format(other), other)
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert [wheel for wheel in (tmp_path / "wheels").glob("nvidia_nvtx-*") if wheel.stem.endswith(other)]


@pytest.mark.matrix
@pytest.mark.parametrize("recorded", [True, False])
def test_the_command_adds_what_is_missing_and_takes_nothing_away(tmp_path: Path, recorded: bool) -> None:
    site = tmp_path / "some where/site-packages"
    write(site / "nvidia/cu13/lib/libcublas.so.13", "mine")
    write(site / "nvidia/__init__.py", "mine")
    if recorded:
        write(
            site / "nvidia_nvtx-13.2.86.dist-info/RECORD", "nvidia/cu13/lib/libnvtx3interop.so.1,sha256=x,1\n"
        )
    nvtx = MissingLibrary("libnvtx3interop.so.1", "x", "nvidia-nvtx", "cuda-toolkit[nvtx]==13.2.2")
    command = remedy_for(fake_libtorch(site / "torch", arch=HERE), [nvtx]).command
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert list((site / "nvidia").rglob("*nvtx*"))
    assert (site / "nvidia/cu13/lib/libcublas.so.13").read_text() == "mine"
    assert (site / "nvidia/__init__.py").read_text() == "mine"


def test_what_conda_installed_conda_fixes(tmp_path: Path) -> None:
    prefix = tmp_path / "env"
    write(prefix / "conda-meta/pytorch-2.9.1-cuda129_mkl_py312_h1_300.json", "{}")
    write(prefix / "conda-meta/nccl-2.29.1.1-h2_0.json", '{"files": ["lib/libnccl.so.2"]}')
    parts = [
        MissingLibrary("libcupti.so.12", "libtorch_cpu.so", "nvidia-cuda-cupti-cu12"),
        MissingLibrary("libcudnn.so.9", "libtorch_cuda.so", "nvidia-cudnn-cu12"),
        MissingLibrary("libnccl.so.2", "libtorch_cuda.so", "nvidia-nccl-cu12"),
    ]
    facts: dict[str, Any] = {
        "accelerator": "cuda",
        "accelerator_version": "12.9",
        "python": prefix / "bin/python",
    }
    expected = (
        f"conda install -p {prefix} --force-reinstall nccl && "
        f"conda install -p {prefix} -c conda-forge cuda-cupti cudnn cuda-version=12.9"
    )
    for root in (prefix, prefix / "lib/python3.12/site-packages/torch"):
        assert remedy_for(fake_libtorch(root, **facts), parts).command == expected
    old = fake_libtorch(prefix, **{**facts, "accelerator_version": "11.8"})
    words = f"conda install -p {prefix} -c conda-forge cudatoolkit=11.8 intel-openmp"
    openmp = MissingLibrary("libiomp5.so", "libtorch_cpu.so", "intel-openmp")
    assert remedy_for(old, [parts[0], openmp]).command == words


def test_what_pip_installed_into_a_conda_environment_pip_fixes(tmp_path: Path) -> None:
    prefix = tmp_path / "env"
    write(prefix / "conda-meta/python-3.12.1-h1_0_cpython.json", "{}")
    libtorch = fake_libtorch(
        prefix / "lib/python3.12/site-packages/torch", python=prefix / "bin/python", arch=HERE
    )
    assert "-m pip install nvidia-cudnn" in remedy_for(libtorch, [CUDNN]).command


def test_pip_cannot_fix_a_libtorch_outside_an_environment(tmp_path: Path) -> None:
    remedy = remedy_for(fake_libtorch(tmp_path / "moved", layout="zip"), [CUDNN])
    assert remedy.command == ""
    assert "pip cannot fix" in remedy.text
    assert f"copy the libraries of nvidia-cudnn-cu13==9.26.0.51 into {tmp_path}/moved/lib" in remedy.text
    assert "torchlink extract TORCH.whl COMPANION.whl" in remedy.text


def test_debians_libraries_come_from_debian(tmp_path: Path) -> None:
    library_dir = tmp_path / "usr/lib/x86_64-linux-gnu"
    libtorch = fake_libtorch(tmp_path / "usr", layout="system", library_dir=library_dir)
    glog = MissingLibrary("libglog.so.0", "libc10.so", None)
    assert remedy_for(libtorch, [glog]).text.startswith("`apt install libtorch-dev` installs")
    assert "libgflags-dev" in remedy_for(libtorch, [glog]).text
    opencl = MissingLibrary("libOpenCL.so.1", "libtorch_cpu.so", None)
    assert remedy_for(libtorch, [opencl]).text.startswith(
        "`apt install ocl-icd-libopencl1` installs libOpenCL"
    )


def test_there_is_no_remedy_where_nothing_is_known(tmp_path: Path) -> None:
    libtorch = fake_libtorch(tmp_path / "torch", python=Path(sys.executable))
    assert remedy_for(libtorch, [MissingLibrary("libodd.so", "x", None)]).text == ""
    assert remedy_for(libtorch, []).text == ""


@pytest.mark.compile
def test_verify_ends_with_the_command_that_its_note_named(
    tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    fake = replace(
        Fake(),
        version="2.13.0+cu994",
        cuda="99.4",
        libraries=("torch_cpu", "torch", "c10_cuda", "torch_cuda", "torch_cuda_linalg"),
        needed=(
            ("torch_cuda", ("libcublas_x.so.99",)),
            ("torch_cuda_linalg", ("libcusolver_x.so.99",)),  # which nothing links
        ),
    )
    root = make(make_venv(tmp_path / "venv") / "torch", fake)
    result = torchlink("verify", "--libtorch", root)
    assert result.code == 1
    note, _, failure = result.err.partition("The reference loader could not be built")
    command = note.split("to get them: ")[1].splitlines()[0]
    assert "cublas" in command
    assert "cusolver" in command
    assert f"Get what libtorch's libraries need: {command}" in failure
