"""Real wheels: the extracted libtorch has the wheel's facts, and programs built against it run wherever it is moved."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import run_clean, unmet
from tests.distributions.test_facts import DATA, WHEELS, wheel
from torchlink.binary.loader import resolve
from torchlink.extract.extraction import extract
from torchlink.libtorch.inspect import inspect
from torchlink.paths import data_dir

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result

pytestmark = [pytest.mark.matrix, pytest.mark.compile]
__all__ = ["wheel"]  # a fixture
PLACES = {"root", "packed", "layout", "found_by", "version_from", "include_dirs", "library_dir", "libraries"}
PLACES |= {"companion_dirs", "missing_libraries", "python", "cxx_standard_from"}
TINY = data_dir("templates") / "loader" / "tiny.pt"
SOURCE = """
#include <torch/script.h>
#include <iostream>
int main(int argc, char** argv) {
  auto model = torch::jit::load(argv[1]);
  std::cout << model.forward({torch::ones({1, 4})}).toTensor() << std::endl;
}
"""


@pytest.mark.parametrize("wheel", WHEELS, indirect=True, ids=WHEELS)
def test_the_extracted_libtorch_has_the_facts_of_the_wheel(wheel: Path, tmp_path: Path) -> None:
    report = extract([wheel], tmp_path / "out")
    packed, found = inspect(wheel, "x")._asdict(), report.libtorch._asdict()
    for fact in packed.keys() - PLACES:
        assert found[fact] == packed[fact], fact
    row = DATA[wheel.stem]
    if row.get("libraries"):
        assert sorted({*report.libtorch.libraries, *report.left_out}) == row["libraries"]
    version = (tmp_path / "out/build-version").read_text()
    assert version == f"{row['version']}\n"
    shutil.rmtree(tmp_path / "out")


def build_and_run(root: Path, directory: Path, torchlink: Callable[..., Result]) -> str:
    """Compile a program with the printed words, and run it with an empty environment."""
    words = directory / "words.rsp"
    done = torchlink("flags", "--libtorch", root, "--response-file", words)
    assert done.code == 0, done.err
    (directory / "main.cpp").write_text(SOURCE)
    app = directory / "app"
    subprocess.run(["c++", directory / "main.cpp", "-o", app, f"@{words}"], check=True)
    ran = run_clean(app, TINY)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_cpu_libtorch_works_after_being_moved(
    torch_root: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    if inspect(torch_root, "x").accelerator != "cpu":
        unmet("a CPU torch")
    packed = tmp_path / "torch-0-cp3-none-any.whl"
    from zipfile import ZipFile

    with ZipFile(packed, "w") as archive:
        for part in ("include", "lib", "share", "version.py"):
            for path in [torch_root / part, *(torch_root / part).rglob("*")]:
                if path.is_file():
                    archive.write(path, f"torch/{path.relative_to(torch_root).as_posix()}")
    extract([packed], tmp_path / "out")
    packed.unlink()
    moved = tmp_path / "some where" / "else"
    moved.parent.mkdir()
    (tmp_path / "out").rename(moved)
    assert "2.5000 -0.7500" in build_and_run(moved, tmp_path, torchlink)
    assert torchlink("verify", "--libtorch", moved).code == 0


def test_a_cuda_libtorch_with_its_companions_runs_on_the_cpu_after_being_moved(
    tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    wheels = tmp_path / "wheels"
    command = [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", "-d", str(wheels)]
    # pip takes only the platforms that are named, not those that a newer one includes.
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(5, 29)]
    platforms += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
    command += [word for platform in platforms for word in ("--platform", platform)]
    command += ["--python-version", "3.12", "torch==2.15.0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        unmet(f"torch 2.15.0 and its companions from pip ({done.stderr.strip().splitlines()[-1:]})")
    report = extract(sorted(wheels.glob("*.whl")), tmp_path / "out")
    shutil.rmtree(wheels)
    assert report.libtorch.accelerator == "cuda"
    assert report.libtorch.missing_libraries == ()
    moved = tmp_path / "some where" / "else"
    moved.parent.mkdir()
    (tmp_path / "out").rename(moved)
    names = {path.name for path in (moved / "lib").iterdir()}
    for path in (moved / "lib").iterdir():
        for edge in resolve(path).edges:
            if edge.name in names:
                assert edge.path, f"{path.name} does not find {edge.name} beside it"
                assert Path(edge.path).parent == moved / "lib", f"{path.name} finds another {edge.name}"
    assert "2.5000 -0.7500" in build_and_run(moved, tmp_path, torchlink)
    assert torchlink("verify", "--libtorch", moved, "--device", "cpu").code == 0
    shutil.rmtree(moved)
