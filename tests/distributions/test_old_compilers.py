"""g++ 9 from Debian 11, unpacked: an old compiler with the headers of old and new libtorchs."""

from __future__ import annotations

import platform
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.distributions.debian import release
from tests.distributions.debian import unpack as unpack_debs
from tests.distributions.programs import HAS_CUDA, done, says
from tests.distributions.wheels import unpack
from torchlink.emit.cxx import flags
from torchlink.errors import ToolUnfitError
from torchlink.libtorch.inspect import inspect
from torchlink.plan import PlanOptions, make_plan
from torchlink.remedies.notes import notes_on
from torchlink.toolchain.compiler import find_compiler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Result

pytestmark = [
    pytest.mark.matrix,
    pytest.mark.compile,
    pytest.mark.skipif((platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="x86_64's"),
]
PACKAGES = ["cpp-9", "gcc-9", "g++-9", "libgcc-9-dev", "libstdc++-9-dev"]
OLD = "torch-1.13.1-cp310-cp310-manylinux1_x86_64"  # C++14, C++ ABI 0
NEW = "torch-2.15.0-cp312-cp312-manylinux_2_28_x86_64"  # needs C++20
TENSORS = """\
#include <torch/torch.h>
#include <iostream>

int main() { std::cout << torch::ones({2, 3}).sum().item<float>() << at::show_config().empty(); }
"""


@pytest.fixture(scope="module")
def gxx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """g++ 9, which finds its other parts relative to itself."""
    directory = tmp_path_factory.mktemp("gcc9")
    unpack_debs(PACKAGES, directory / "root", *release("bullseye", directory))
    # The links in the packages lead to libraries of a system that is not here; use this system's.
    home = directory / "root/usr/lib/x86_64-linux-gnu"
    home.mkdir(parents=True, exist_ok=True)
    for name in ("libstdc++.so.6", "libgcc_s.so.1"):
        (home / name).symlink_to(done("c++", f"-print-file-name={name}").strip())
    yield directory / "root/usr/bin/g++-9"
    shutil.rmtree(directory)


def test_the_preferred_standard_falls_back_to_the_one_that_the_headers_need(
    gxx: Path, torch_root: Path, tmp_path: Path
) -> None:
    libtorch = inspect(torch_root, "test")
    if (libtorch.cxx_standard_required, libtorch.cxx_standard) != (17, 20):
        pytest.skip("the installed torch does not prefer a standard that it can do without")
    plan = make_plan(libtorch, PlanOptions(cpu_only=True), find_compiler(str(gxx)))
    assert plan.cxx_standard == 17
    assert any("C++17 is used" in note for note in notes_on(plan))
    (tmp_path / "main.cpp").write_text(TENSORS)
    done(str(gxx), "-w", "main.cpp", "-o", "app", *flags(plan), cwd=tmp_path)
    assert says(tmp_path / "app") == "60"


def test_the_reference_loader_is_built_by_it(
    gxx: Path, torch_root: Path, torchlink: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", str(gxx))
    for via in ("cxx", "cmake"):
        answer = torchlink("verify", "--cpu", "--via", via, "--libtorch", torch_root)
        assert answer.code == 0, answer.err


def test_an_old_libtorch_is_built_with_it(gxx: Path, tmp_path: Path) -> None:
    root = unpack(OLD, tmp_path / "site")
    plan = make_plan(inspect(root, "test"), PlanOptions(cpu_only=True), find_compiler(str(gxx)))
    assert plan.cxx_standard == 14
    (tmp_path / "main.cpp").write_text(HAS_CUDA)
    # An object is enough: it is linked and run with this libtorch by another test, with the companions it needs.
    done(str(gxx), "-w", "-c", "main.cpp", *flags(plan, "compile"), cwd=tmp_path)
    shutil.rmtree(root.parent)


def test_an_error_names_the_newer_compiler_that_is_needed(gxx: Path, tmp_path: Path) -> None:
    root = unpack(NEW, tmp_path / "site")
    with pytest.raises(ToolUnfitError) as caught:
        make_plan(inspect(root, "test"), PlanOptions(cpu_only=True), find_compiler(str(gxx)))
    shutil.rmtree(root.parent)
    assert caught.value.message.startswith("g++-9 9.3.0 has no working C++20, which the headers of")
    assert caught.value.hint == "Use gcc 11 or newer (CXX or --compiler)."
