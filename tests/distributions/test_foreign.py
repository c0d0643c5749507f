"""Wheels of other platforms and Debian's packages: their flags are printed, with a note about what cannot run here."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import REPOSITORY, unmet
from tests.distributions.wheels import KEPT, fetch
from torchlink.libtorch.inspect import inspect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Result

pytestmark = [
    pytest.mark.matrix,
    pytest.mark.skipif(
        (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="not foreign here"
    ),
]
DEBIAN = "debian12-libtorch-dev-1.13.1+dfsg-4-amd64"
TABLE = json.loads((REPOSITORY / "tests/data/distributions.json").read_text())["distributions"]
WORDS = {
    "torch-2.8.0-cp312-cp312-manylinux_2_28_aarch64": (
        ("-D_GLIBCXX_USE_CXX11_ABI=1", "-std=c++17", "-Wl,-rpath-link,{root}.libs", "-ltorch_cpu", "-lc10"),
        ("/LIBPATH",),
    ),
    "torch-2.15.0-cp312-cp312-macosx_14_0_arm64": (
        ("-std=c++20", "-Wl,-rpath,@loader_path/../lib", "-ltorch_cpu", "-lc10"),
        ("_GLIBCXX_USE_CXX11_ABI", "--push-state", "$ORIGIN"),
    ),
    "torch-2.6.0-cp311-cp311-win_amd64": (
        ("/std:c++17", "/I {root}/include", "/link", "/LIBPATH:{root}/lib", "torch_cpu.lib", "c10.lib"),
        ("_GLIBCXX_USE_CXX11_ABI", "-Wl,", "-std="),
    ),
}


@pytest.fixture
def wheel(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A wheel, deleted afterwards where it was downloaded."""
    yield fetch(request.param, tmp_path)
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("wheel", WORDS, indirect=True)
def test_a_packed_wheel_prints_its_platforms_flags_and_is_not_run(
    wheel: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    there, absent = WORDS[wheel.stem]
    answer = torchlink("flags", "--rpath", "origin=../lib", "--libtorch", wheel)
    assert answer.code == 0, answer.err
    for word in there:
        assert f" {word.format(root=wheel / 'torch')} " in f" {answer.out.strip()} "
    assert not [word for word in absent if word in answer.out]
    for command in (
        ("cmake", "prefix"),
        ("cmake", "init", tmp_path / "app"),
        ("nim", "init", tmp_path / "app"),
    ):
        refused = torchlink(*command, "--libtorch", wheel)
        assert refused.code == 2
        assert "not extracted" in refused.err
    assert not (tmp_path / "app").exists()
    verified = torchlink("verify", "--libtorch", wheel)
    assert verified.code == 2
    assert ("not extracted" if "linux" in wheel.stem else "can run here") in verified.err


@pytest.fixture
def debian(tmp_path: Path) -> Path:
    """Debian's libtorch1.13 and libtorch-dev, unpacked without anything that they depend on."""
    debs = sorted(KEPT.glob("deb/libtorch*1.13.1*_amd64.deb"))
    if not debs:
        if not shutil.which("apt-get"):
            unmet("apt-get")
        command = ["apt-get", "download", "-q", "libtorch-dev", "libtorch1.13"]
        subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        debs = sorted(tmp_path.glob("*.deb"))
    if len(debs) != 2 or not shutil.which("dpkg"):
        unmet("Debian's libtorch 1.13.1")
    for deb in debs:
        subprocess.run(["dpkg", "-x", deb, tmp_path / "root"], check=True)
    return tmp_path / "root/usr"


def test_debians_libtorch_is_read_right(debian: Path) -> None:
    row = TABLE[DEBIAN]
    found = inspect(debian, "test")
    # The table's 1.13.0a0 is from python3-torch's version.py, which is not in these packages.
    assert found.version == row["version"].removesuffix("a0")
    assert (found.arch, found.cxx11_abi) == (row["arch"], row["cxx11_abi"])
    assert found.cxx_standard_required == row["cxx_standard_min_gcc12"]
    assert (found.accelerator, found.layout) == ("cpu", "system")
    assert found.library_dir == debian / "lib/x86_64-linux-gnu"
    assert not found.conflicts


def test_debians_flags_name_the_unpacked_tree_and_notes_what_it_lacks(
    debian: Path, torchlink: Callable[..., Result]
) -> None:
    answer = torchlink("flags", "--libtorch", debian)
    assert f"-L{debian}/lib/x86_64-linux-gnu" in answer.out
    assert "-ltorch_cpu -lc10" in answer.out
    if not Path(f"/usr/lib/{os.uname().machine}-linux-gnu/libonnx.so.1").exists():
        assert "libglog.so.1" in answer.err or "libonnx.so.1" in answer.err
