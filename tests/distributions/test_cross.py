"""A real libtorch of another machine: built against with a cross compiler, and run in QEMU."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import REPOSITORY, unmet
from tests.cross.conftest import shared
from tests.distributions.wheels import fetch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

pytestmark = [
    pytest.mark.matrix,
    pytest.mark.compile,
    pytest.mark.skipif(
        (platform.system(), platform.machine()) != ("Linux", "x86_64"),
        reason="AArch64 is not another machine",
    ),
]
WHEEL = "torch-2.6.0-cp311-cp311-manylinux_2_28_aarch64"
CROSS = "aarch64-linux-gnu-g++"
MODEL = REPOSITORY / "templates/loader/tiny.pt"


@pytest.fixture(scope="module")
def libtorch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's, extracted."""
    from torchlink.cli.main import main

    for program in (CROSS, "qemu-aarch64-static"):
        if not shutil.which(program):
            unmet(program)
    directory = tmp_path_factory.mktemp("wheel")
    wheel = fetch(WHEEL, directory)
    assert main(["extract", str(wheel), str(directory / "libtorch")]) == 0
    return directory / "libtorch"


@pytest.fixture(scope="module")
def zlib(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a libz.so.1 for AArch64, which libgfortran needs but does not call here."""
    return shared(tmp_path_factory.mktemp("zlib") / "libz.so.1", "").parent


@pytest.mark.parametrize("via", ["cxx", "cmake", "nim"])
def test_it_is_verified_in_qemu(
    libtorch: Path, zlib: Path, torchlink: Callable[..., Result], via: str
) -> None:
    if not shutil.which({"cxx": "c++"}.get(via, via)):
        unmet(via)
    words = ("verify", MODEL, "--libtorch", libtorch, "--via", via)
    refused = torchlink(*words)
    assert refused.code == 2
    assert "needs libz.so.1 for aarch64" in refused.err
    compiler = f"{CROSS} -B{zlib}"
    done = torchlink(*words, "--json", "--compiler", compiler)
    said = json.loads(done.out)
    assert (done.code, said["ok"]) == (0, True), done.out
    emulator = said["loader"]["emulator"]
    assert emulator["program"].endswith(("qemu-aarch64", "qemu-aarch64-static"))
    assert (emulator["machine"], emulator["library_dirs"]) == ("aarch64", [str(zlib)])
    assert said["models"][0]["outputs"][0]["values"] == [2.5, -0.75]
    assert "wrong-architecture" not in done.out
    if via == "cxx":
        again = torchlink(*words, "--compiler", compiler)
        assert "from the cache" in again.out
        assert "emulated, because the loader is for aarch64" in again.out
        table = torchlink("matrix", MODEL, "--libtorch", libtorch, "--compiler", compiler)
        assert f"ok ({CROSS} " in table.out
        assert ", emulated)" in table.out


def test_a_program_of_torchlinks_compiler_runs(libtorch: Path, zlib: Path, tmp_path: Path) -> None:
    program = tmp_path / "app"
    source = REPOSITORY / "examples/cpp/main.cpp"
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "torchlink",
        "c++",
        "--libtorch",
        libtorch,
        source,
        "-o",
        program,
    ]
    subprocess.run(command, check=True, capture_output=True)
    words = ["qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu", "-E", f"LD_LIBRARY_PATH={zlib}"]
    ran = subprocess.run([*words, program, MODEL, "1", "4"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "2.5000 -0.7500" in ran.stdout
