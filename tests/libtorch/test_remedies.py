"""What brings missing libraries is pinned as torch pins it, and goes to where libtorch finds it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.imitations import imitate
from tests.libtorch.trees import Fake, make, make_venv
from torchlink.libtorch.facts import MissingLibrary
from torchlink.libtorch.packages import pinned
from torchlink.libtorch.remedies import remedy_for, requirements_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result

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


def test_the_environments_own_interpreter_is_told_to_install(tmp_path: Path) -> None:
    libtorch = imitate(tmp_path / "torch", python=Path("/some where/bin/python"))
    command = "'/some where/bin/python' -m pip install nvidia-cudnn-cu13==9.26.0.51"
    assert remedy_for(libtorch, [CUDNN]).command == command


def test_without_an_interpreter_pip_is_told_the_directory(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    command = f"python3 -m pip install --target {site} nvidia-cudnn-cu13==9.26.0.51"
    assert remedy_for(imitate(site / "torch"), [CUDNN]).command == command


def test_what_belongs_to_no_environment_is_not_for_pip(tmp_path: Path) -> None:
    remedy = remedy_for(imitate(tmp_path / "moved", layout="zip"), [CUDNN])
    assert remedy.command == ""
    assert "pip cannot mend" in remedy.text
    assert f"copy the libraries of nvidia-cudnn-cu13==9.26.0.51 into {tmp_path}/moved/lib" in remedy.text
    assert "torchlink extract TORCH.whl COMPANION.whl" in remedy.text


def test_debians_libraries_come_from_debian(tmp_path: Path) -> None:
    library_dir = tmp_path / "usr/lib/x86_64-linux-gnu"
    libtorch = imitate(tmp_path / "usr", layout="system", library_dir=library_dir)
    glog = MissingLibrary("libglog.so.0", "libc10.so", None)
    assert remedy_for(libtorch, [glog]).text.startswith("`apt install libtorch-dev` brings")
    assert "libgflags-dev" in remedy_for(libtorch, [glog]).text


def test_nothing_is_said_where_nothing_is_known(tmp_path: Path) -> None:
    libtorch = imitate(tmp_path / "torch", python=Path(sys.executable))
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
