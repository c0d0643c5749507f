"""A real libtorch of another machine: built against with a cross compiler, and run in QEMU."""

from __future__ import annotations

import json
import os
import platform
import shlex
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


def in_qemu(zlib: Path, program: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    words = ["qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu", "-E", f"LD_LIBRARY_PATH={zlib}"]
    return subprocess.run([*words, program, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("by", ["torchlink c++", "flags --cxx"])
def test_a_program_of_torchlinks_compiler_or_flags_runs(
    libtorch: Path, zlib: Path, tmp_path: Path, torchlink: Callable[..., Result], by: str
) -> None:
    program = tmp_path / "app"
    source = REPOSITORY / "examples/cpp/main.cpp"
    if by == "flags --cxx":
        flags = torchlink("flags", "--libtorch", libtorch)
        assert f"compile with {CROSS}" in flags.err
        command: list[str | Path] = [CROSS, source, "-o", program, *shlex.split(flags.out)]
    else:
        own: list[str | Path] = [sys.executable, "-m", "torchlink", "c++", "--libtorch", libtorch]
        command = [*own, source, "-o", program]
    subprocess.run(command, check=True, capture_output=True)
    ran = in_qemu(zlib, program, MODEL, "1", "4")
    assert ran.returncode == 0, ran.stderr
    assert "2.5000 -0.7500" in ran.stdout


C_PROGRAM = """
#include <stdio.h>
#include <torchmodel.h>
int main(int count, char **words) {
  float ones[] = {1, 1, 1, 1};
  int64_t shape[] = {1, 4};
  tm_model *model = NULL;
  tm_value *input = NULL, *output = NULL;
  tm_tensor_info info;
  if (tm_tensor_borrow(ones, TM_FLOAT32, shape, 2, NULL, NULL, NULL, &input) != TM_OK ||
      tm_tensor_get_info(input, &info) != TM_OK || info.element_size != 4 ||
      tm_model_load(words[count - 1], NULL, &model) != TM_OK ||
      tm_model_forward(model, (const tm_value *const *)&input, 1, &output) != TM_OK ||
      tm_tensor_get_info(output, &info) != TM_OK) {
    fprintf(stderr, "%s\\n", tm_last_error());
    return 1;
  }
  printf("%s %g %g\\n", tm_libtorch_version(), ((float *)info.data)[0], ((float *)info.data)[1]);
  tm_value_free(output);
  tm_value_free(input);
  return tm_model_free(model);
}
"""


@pytest.mark.parametrize("by", ["flags --capi", "pkg-config"])
@pytest.mark.parametrize("kind", ["capi", "capi --aoti-only"])
def test_a_program_in_c_runs(
    libtorch: Path, zlib: Path, tmp_path: Path, torchlink: Callable[..., Result], kind: str, by: str
) -> None:
    """This is the first libtorch that loads packages; the linker does not find what its libraries need by itself."""
    c = CROSS.replace("g++", "gcc")
    options = ("--aoti-only", "--compiler", c) if "only" in kind else ()
    made = torchlink("capi", tmp_path / "c-api", "--libtorch", libtorch, *options)
    assert made.code == 0, made.err
    (tmp_path / "main.c").write_text(C_PROGRAM)
    if by == "flags --capi":
        flags = torchlink("flags", "--capi", tmp_path / "c-api").out
    else:
        words = ["pkg-config", "--cflags", "--libs", "torchmodel"]
        where = {**os.environ, "PKG_CONFIG_PATH": str(tmp_path / "c-api")}
        flags = subprocess.run(words, env=where, check=True, capture_output=True, text=True).stdout
    command: list[str | Path] = [c, tmp_path / "main.c", "-o", tmp_path / "app", *shlex.split(flags)]
    subprocess.run(command, check=True, capture_output=True)
    ran = in_qemu(zlib, tmp_path / "app", MODEL)
    if "only" in kind:
        assert (ran.returncode, "TorchScript" in ran.stderr) == (1, True), ran.stderr
    else:
        assert (ran.returncode, ran.stdout) == (0, "2.6.0 2.5 -0.75\n"), ran.stderr
