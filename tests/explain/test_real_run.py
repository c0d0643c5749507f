"""Failures of real programs at run time, and of Nim: the cause is named, and its fix makes them run."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import unmet
from tests.explain.real import Place, fix

if TYPE_CHECKING:
    from pathlib import Path

OPERATORS = """
import torch
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
"""
MODEL = """
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)
    def forward(self, x):
        return self.layer(x)
"""
MODELS = """
def nms(boxes: torch.Tensor, scores: torch.Tensor):
    return torch.ops.torchvision.nms(boxes, scores, 0.5)
torch.jit.script(nms).save("detect.pt")
model = Model().eval()
torch.jit.script(model).save("model.pt")
torch.save(model.state_dict(), "weights.pt")
torch.save(model.state_dict(), "old.pt", _use_new_zipfile_serialization=False)
"""
# Loads a TorchScript file as a C++ program does: through libtorch's own reader.
LOAD = """
import sys, traceback, torch
failed = 0
for name in sys.argv[1:]:
    try:
        torch._C.import_ir_module(torch._C.CompilationUnit(), name, None, {}, False)
    except Exception:
        traceback.print_exc()
        failed = 1
sys.exit(failed)
"""
CALL = f"import torch\n{MODEL}model = Model()\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, torch_root: Path) -> Place:
    """A directory with the models of `MODELS`."""
    place = Place(tmp_path_factory.mktemp("models"), torch_root)
    place.write("models.py", OPERATORS + MODEL + MODELS)
    place.write("load.py", LOAD)
    place.works(f"{sys.executable} models.py")
    return place


def load(name: str) -> str:
    return f"{sys.executable} load.py {name}"


def test_weights_are_no_model(models: Place) -> None:
    found = models.cause_of(load("weights.pt"))
    assert (found.cause.id, found.certainty) == ("model-not-torchscript", "certain")
    command = fix(found, 'model.load_state_dict(torch.load("weights.pt"))')
    models.write("save.py", f"{CALL}{command}\n{LOAD}")
    models.works(f"{sys.executable} save.py scripted.pt")


def test_damaged_files(models: Place) -> None:
    here = models.directory
    whole = (here / "model.pt").read_bytes()
    (here / "truncated.pt").write_bytes(whole[: len(whole) // 2])
    (here / "pointer.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (here / "empty.pt").write_bytes(b"")
    found = models.cause_of(load("truncated.pt pointer.pt empty.pt old.pt"))
    assert (found.cause.id, found.certainty) == ("model-corrupt-or-legacy", "certain")
    # Those that say the same are shown once.
    assert sum("PytorchStreamReader" in line.text for line in found.evidence) + found.more == 4
    (here / "truncated.pt").write_bytes(whole)  # the fix: get the file again
    models.works(load("truncated.pt"))


def test_another_directory(models: Place) -> None:
    (models.directory / "build").mkdir(exist_ok=True)
    found = models.cause_of(f"cd build && {sys.executable} ../load.py model.pt")
    assert (found.cause.id, found.certainty) == ("model-file-missing", "certain")
    models.works(f'cd build && {sys.executable} ../load.py "$PWD/../model.pt"')


@pytest.mark.parametrize(
    ("call", "cause", "beginning"),
    [
        ("model(torch.ones(1, 3, dtype=torch.double))", "input-dtype-mismatch", "model(input.to(next("),
        ("model(torch.ones(1, 5))", "input-shape-mismatch", ""),
        ("model.to('meta')(torch.ones(1, 3)) + torch.ones(2)", "input-device-mismatch", "model.to(device)("),
    ],
)
def test_an_input_that_does_not_fit(models: Place, call: str, cause: str, beginning: str) -> None:
    models.write("call.py", f"{CALL}{call}\n")
    found = models.cause_of(f"{sys.executable} call.py")
    assert found.cause.id == cause
    if beginning:
        device = 'device = "cpu"\ninput = torch.ones(1, 3, dtype=torch.double)\n'
        wanted = device if "dtype" in cause else device.replace(", dtype=torch.double", "")
        models.write("call.py", f"{CALL}{wanted}{fix(found, beginning)}\n")
        models.works(f"{sys.executable} call.py")


def test_cuda_in_a_cpu_build(models: Place, torch_root: Path) -> None:
    if (torch_root / "lib/libtorch_cuda.so").exists():
        unmet("a CPU build of libtorch")
    models.write("cuda.py", 'import torch\ntorch.load("weights.pt", map_location="cuda")\n')
    found = models.cause_of(f"{sys.executable} cuda.py")
    # A CUDA build without a driver says the same: this machine's libtorch makes it certain.
    assert (found.cause.id, found.certainty) == ("libtorch-cpu-only", "likely")
    command = fix(found, "torch.load").replace("model.pt", "weights.pt")
    models.write("cuda.py", f"import torch\n{command}\n")
    models.works(f"{sys.executable} cuda.py")


def test_operators_of_torchvision(models: Place) -> None:
    found = models.cause_of(load("detect.pt"))
    assert (found.cause.id, found.certainty) == ("torchvision-ops-missing", "certain")
    models.write("with_ops.py", OPERATORS + LOAD)  # the fix: the library with the operators comes first
    models.works(f"{sys.executable} with_ops.py detect.pt")


def test_an_exported_program_is_no_package(models: Place) -> None:
    exported = 'torch.export.save(torch.export.export(model, (torch.ones(1, 3),)), "exported.pt2")\n'
    models.write("package.py", f'{CALL}{exported}torch._inductor.aoti_load_package("exported.pt2")\n')
    found = models.cause_of(f"{sys.executable} package.py")
    assert (found.cause.id, found.certainty) == ("aoti-not-a-package", "certain")


@pytest.mark.compile
def test_a_library_of_another_aotinductor(models: Place) -> None:
    models.write(
        "model.c", "void aoti_torch_of_tomorrow(void); void run(void) { aoti_torch_of_tomorrow(); }\n"
    )
    models.works("gcc -shared -fPIC model.c -o model.so")
    models.write("aoti.py", "import torch\ntorch._C._aoti.AOTIModelContainerRunnerCpu('./model.so', 1)\n")
    found = models.cause_of(f"{sys.executable} aoti.py")
    assert (found.cause.id, found.certainty) == ("aoti-mismatch", "certain")


@pytest.mark.nim
def test_nim_c(tmp_path: Path, torch_root: Path) -> None:
    place = Place(tmp_path, torch_root)
    place.write(
        "main.nim",
        '{.emit: "#include <c10/core/DeviceType.h>\\n".}\n'
        'var size {.importc: "sizeof(int)", nodecl.}: cint\necho size\n',
    )
    found = place.cause_of(
        f"nim c --hints:off --nimcache:c --passC:-I{shlex.quote(str(place.include))} main.nim"
    )
    assert (found.cause.id, found.certainty) == ("nim-c-not-cpp", "certain")
    place.works("torchlink flags --nim > nim.cfg")
    place.works(fix(found, "nim cpp").replace("nim cpp", "nim cpp --hints:off --nimcache:cpp"))
    assert place.works("./main").strip() == "4"
