"""`torchlink capi`: what it writes, and what the library does, through C, C++ and ctypes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import made_once, needed, program, run_clean

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result

needed("torch")
from tests.verify.compiled_models import compile_models  # noqa: E402 - needs torch

pytestmark = pytest.mark.compile
HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PACKAGES_ONLY = {"changed", "packages_only"}  # checks of test_aoti_only.py
CHECKS = sorted(set(re.findall(r"def check_(\w+)", (HERE / "through_ctypes.py").read_text())) - PACKAGES_ONLY)
MAIN = r"""
#include "torchmodel.h"
#include <stdio.h>
int main(int argc, char **argv) {
  int64_t shape[TM_MOST_DIMENSIONS];
  int32_t dimensions;
  float ones[4] = {1, 1, 1, 1};
  tm_model *model = NULL;
  tm_value *input = NULL, *output = NULL;
  tm_tensor_info info;
  (void)argc;
  if (tm_model_load(argv[1], NULL, &model) || tm_model_example_shape(model, "forward", 0, shape, &dimensions) ||
      tm_tensor_borrow(ones, TM_FLOAT32, shape, dimensions, NULL, NULL, NULL, &input) ||
      tm_model_forward(model, (const tm_value *const *)&input, 1, &output) || tm_tensor_get_info(output, &info)) {
    fprintf(stderr, "%s\n", tm_last_error());
    return 1;
  }
  printf("%d %g\n", (int)info.dimensions, ((const float *)info.data)[0]);
  tm_value_free(input);
  tm_value_free(output);
  return tm_model_free(model);
}
"""


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wrapper of the kind `python`, with the C API where it looks for it."""
    directory = tmp_path_factory.mktemp("a project")
    shutil.copy(ROOT / "examples" / "python" / "torchmodel.py", directory)
    command = [sys.executable, "-m", "torchlink", "capi", str(directory / ".torchlink" / "capi")]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    return directory


@pytest.fixture(scope="session")
def capi(project: Path) -> Path:
    return project / ".torchlink" / "capi"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiled = made_once(tmp_path_factory, "compiled", compile_models)

    def make(directory: Path) -> None:
        command = [sys.executable, str(HERE / "make_models.py"), str(directory)]
        subprocess.run(command, check=True, timeout=300)
        for package in compiled.glob("*.pt2"):
            (directory / package.name).symlink_to(package)

    return made_once(tmp_path_factory, "capi-models", make)


def flags(capi: Path) -> list[str]:
    done = subprocess.run(
        [program("pkg-config"), "--cflags", "--libs", "torchmodel"],
        env={**os.environ, "PKG_CONFIG_PATH": str(capi)},
        capture_output=True,
        text=True,
        check=True,
    )
    return [word.replace("\\ ", " ") for word in re.findall(r"(?:\\.|\S)+", done.stdout)]


def compiled_with(capi: Path, target: Path, *command: str, suffix: str = ".c") -> Path:
    source = target.with_suffix(suffix)
    source.write_text(MAIN)
    done = subprocess.run(
        [*command, str(source), "-o", str(target), *flags(capi)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return target


def test_the_directory_holds_the_files(capi: Path) -> None:
    assert sorted(path.name for path in capi.iterdir()) == [
        "libtorchmodel.so",
        "libtorchmodel.so.1",
        "torchmodel.h",
        "torchmodel.pc",
    ]


def exported_and_declared(capi: Path) -> tuple[set[str], set[str]]:
    """The names that a library exports, and those that its header declares."""
    command = [program("nm"), "-D", "--defined-only", str(capi / "libtorchmodel.so")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    header = (capi / "torchmodel.h").read_text()
    declared = set(re.findall(r"^TM_API [^(]*?\b(tm_\w+)\(", header, re.MULTILINE))
    return {line.split()[-1] for line in done.stdout.splitlines()}, declared


def test_only_functions_of_the_header_are_exported(capi: Path) -> None:
    exported, declared = exported_and_declared(capi)
    assert len(declared) > 50
    assert exported == declared


def test_soname_and_needed(capi: Path) -> None:
    command = [program("readelf"), "-d", str(capi / "libtorchmodel.so")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Library soname: [libtorchmodel.so.1]" in done.stdout
    assert {"libtorch_cpu.so", "libc10.so"} <= set(re.findall(r"\(NEEDED\).*\[(.*)\]", done.stdout))


@pytest.mark.parametrize(
    ("command", "suffix"),
    [
        (("cc", "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"), ".c"),
        (("c++", "-std=c++98", "-pedantic", "-Wall", "-Wno-long-long", "-Wno-variadic-macros"), ".cpp"),
        (("c++", "-D_GLIBCXX_USE_CXX11_ABI=0"), ".cpp"),
    ],
)
def test_a_program_runs_without_an_environment(
    capi: Path, torch_root: Path, tmp_path: Path, command: tuple[str, ...], suffix: str
) -> None:
    built = compiled_with(capi, tmp_path / "program", program(command[0]), *command[1:], suffix=suffix)
    done = run_clean(built, ROOT / "templates" / "loader" / "tiny.pt")
    assert (done.returncode, done.stdout) == (0, "2 2.5\n"), done.stderr
    failed = run_clean(built, "missing.pt")
    assert (failed.returncode, failed.stderr) == (1, "missing.pt: No such file or directory\n")


@pytest.mark.parametrize("check", CHECKS)
def test_through_ctypes(project: Path, models: Path, check: str) -> None:
    command = [sys.executable, str(HERE / "through_ctypes.py"), str(project / "torchmodel.py")]
    done = subprocess.run(
        [*command, str(models), check], capture_output=True, text=True, check=False, timeout=280
    )
    assert (done.returncode, done.stdout) == (0, "checked\n"), done.stderr


def test_a_second_time_compiles_nothing(torchlink: Callable[..., Result], capi: Path, tmp_path: Path) -> None:
    made = torchlink("capi", tmp_path / "again", "--json")
    assert (made.code, json.loads(made.out)["cached"]) == (0, True), made.err
    written = {Path(path).name for path in json.loads(made.out)["files"]}
    assert written == {path.name for path in capi.iterdir()}


def test_static(torchlink: Callable[..., Result], tmp_path: Path) -> None:
    made = torchlink("capi", tmp_path / "static", "--static")
    assert made.code == 0, made.err
    assert (tmp_path / "static" / "libtorchmodel.a").is_file()
    built = compiled_with(tmp_path / "static", tmp_path / "program", program("cc"))
    done = run_clean(built, ROOT / "templates" / "loader" / "tiny.pt")
    assert (done.returncode, done.stdout) == (0, "2 2.5\n"), done.stderr


def test_nothing_of_the_user_is_overwritten(
    torchlink: Callable[..., Result], capi: Path, tmp_path: Path
) -> None:
    (tmp_path / "torchmodel.h").write_text("mine")
    refused = torchlink("capi", tmp_path)
    assert refused.code == 2
    assert "torchmodel.h" in refused.err
    assert [path.name for path in tmp_path.iterdir()] == ["torchmodel.h"]
    (tmp_path / "torchmodel.h").rename(tmp_path / "libtorchmodel.so")
    assert torchlink("capi", tmp_path).code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["libtorchmodel.so"]
    (tmp_path / "torchmodel.h").write_text("mine")
    assert torchlink("capi", tmp_path, "--force").code == 0
    assert (tmp_path / "torchmodel.h").read_text() == (capi / "torchmodel.h").read_text()


def test_paths_that_a_pc_file_cannot_express(
    torchlink: Callable[..., Result], capi: Path, tmp_path: Path
) -> None:
    refused = torchlink("capi", tmp_path / "a,b")
    assert (refused.code, "comma" in refused.err) == (2, True), refused.err
    assert not (tmp_path / "a,b").exists()
    (tmp_path / "file").touch()
    assert torchlink("capi", tmp_path / "file").code == 2
    assert torchlink("capi", tmp_path / "file" / "below").code == 2
