"""Models with operators of other libraries: the library is named where it is missing, and loaded where it is named."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

import torchlink
from tests.conftest import needed
from torchlink.emit import cxx
from torchlink.errors import FileError
from torchlink.libtorch.inspect import inspect
from torchlink.plan import make_plan
from torchlink.toolchain.compiler import find_compiler
from torchlink.verify.operators import UnknownOperatorError, _mentions, all_unknown, unknown_operator

if TYPE_CHECKING:
    from pathlib import Path

LIBRARY = """
#include <torch/library.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/mul.h>
at::Tensor twice(const at::Tensor& x) { return at::mul(x, 2); }
TORCH_LIBRARY(mine, library) { library.def("twice", &twice); }
"""
MODEL = """
import sys
import torch
torch.ops.load_library(sys.argv[1])


class Model(torch.nn.Module):
    def forward(self, x):
        return torch.ops.mine.twice(x)


torch.jit.script(Model()).save(sys.argv[2])
"""


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("\nUnknown builtin op: torchvision::nms.\nCould not", "torchvision/_C.so"),
        ("Unknown builtin op: mine::twice.", "the library that registers mine is missing"),
        ("Unknown type name '__torch__.torch.classes.mine.Stack':", "the class mine::Stack"),
        ("Unknown builtin op: aten::of_tomorrow.", "which this libtorch does not have"),
        ("Unknown builtin op: prepacked::linear_clamp_run.", "built without it"),
    ],
)
def test_the_library_that_is_missing_is_named(message: str, told: str) -> None:
    error = unknown_operator(message)
    assert error is not None
    assert told in error.message


def test_other_messages_are_left_alone() -> None:
    assert unknown_operator("Unknown type name 'Tensr'") is None


def test_all_libraries_that_are_missing_are_named_at_once_and_one_that_does_not_help(tmp_path: Path) -> None:
    model, given, useless = (tmp_path / name for name in ("model.pt", "libgiven.so", "libuseless.so"))
    code = "a = ops.mine.twice(x)\nb: __torch__.torch.classes.yours.Stack\nc = ops.given.f(a)\nops.prim.data(c)\n"
    with zipfile.ZipFile(model, "w") as archive:
        archive.writestr("m/code/__torch__/inner.py", code)
        archive.writestr("m/constants.pkl", "ops.data.not_code(")
    given.write_bytes(b"\0given\0")
    useless.write_bytes(b"")
    error = unknown_operator("Unknown builtin op: mine::twice.")
    assert isinstance(error, UnknownOperatorError)
    told = all_unknown(error, model, (given, useless))
    assert told.message.endswith("registers mine is missing. It needs the library that registers yours, too.")
    assert told.hint.startswith(
        "What was given (libgiven.so, libuseless.so) does not register mine. Name each of"
    )


@pytest.mark.compile
def test_a_library_that_cannot_be_loaded_says_what_it_lacks(torch_root: Path, tmp_path: Path) -> None:
    libtorch, source = inspect(torch_root, found_by="test"), tmp_path / "empty.cpp"
    source.write_text("")
    needed_, needing, foreign = (tmp_path / f"lib{name}.so" for name in ("needed", "needing", "foreign"))
    subprocess.run(["c++", "-shared", "-fPIC", source, "-o", needed_, "-Wl,-soname,libneeded.so"], check=True)
    words: list[str | Path] = [
        "c++",
        "-shared",
        "-fPIC",
        "-Wl,--no-as-needed",
        source,
        needed_,
        "-o",
        needing,
    ]
    subprocess.run(words, check=True)
    (with_it,) = torchlink.verify(None, libtorch, libraries=[needed_, needing]).models
    assert with_it.error is None
    content = bytearray(needed_.read_bytes())
    content[18:20] = b"\xf3\0"  # e_machine: RISC-V
    foreign.write_bytes(content)
    needed_.unlink()
    (without,) = torchlink.verify(None, libtorch, libraries=needing).models
    assert without.error is not None
    assert without.error.message.startswith(f"{needing}: ")
    assert without.error.hint.startswith("It needs libneeded.so, which is not found")
    (other,) = torchlink.verify(None, libtorch, libraries=foreign).models
    assert other.error is not None
    assert other.error.message.startswith(f"{foreign} is for riscv64, but the libtorch in ")


@pytest.mark.compile
def test_a_library_that_is_named_is_loaded_before_the_model(torch_root: Path, tmp_path: Path) -> None:
    needed("torch")
    libtorch = inspect(torch_root, found_by="test")
    source, library, model = (tmp_path / name for name in ("mine.cpp", "libmine.so", "model.pt"))
    source.write_text(LIBRARY)
    words = cxx.flags(make_plan(libtorch, compiler=find_compiler()))
    subprocess.run(["c++", "-shared", "-fPIC", source, "-o", library, *words], check=True)
    (tmp_path / "model.py").write_text(MODEL)
    subprocess.run([sys.executable, tmp_path / "model.py", library, model], check=True)
    (without,) = torchlink.verify(model, libtorch).models
    assert without.error is not None
    assert "the operator mine::twice" in without.error.message
    assert "--library" in without.error.hint
    (ok,) = torchlink.verify(
        str(model), libtorch, libraries=[library], inputs=["float32[2]"], against=f"python={sys.executable}"
    ).models
    assert ok.error is None
    assert ok.against is not None
    assert ok.against.ok
    assert ok.outputs[0].values == (2.0, 2.0)
    (wrong,) = torchlink.verify(model, libtorch, libraries=str(source)).models
    assert wrong.error is not None
    assert "invalid ELF header" in wrong.error.message
    with pytest.raises(FileError):
        torchlink.verify(model, libtorch, libraries=[tmp_path / "absent.so"])


@pytest.mark.compile
def test_the_api_takes_one_path_or_several_and_what_the_command_takes(
    torch_root: Path, tmp_path: Path
) -> None:
    libtorch = inspect(torch_root, found_by="test")
    tiny = torchlink.verify(libtorch=libtorch).models[0].path
    for models in (tiny, [tiny], (tiny, tiny)):
        report = torchlink.verify(
            models, libtorch, inputs="float32[1,4]", timeout=60, compiler="c++", via="cxx"
        )
        assert report.ok
        assert [model.path for model in report.models] == [tiny] * (
            1 if isinstance(models, str) else len(models)
        )
    output = report.models[0].outputs[0]
    assert (output.dtype, output.shape) == ("float32", (1, 2))
    (tmp_path / "no model").write_text("")
    assert torchlink.verify(tmp_path / "no model", libtorch).exit_code == 2


def test_what_is_no_library_is_said_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty").touch()
    (tmp_path / "model.pt").write_bytes(b"no model")
    kinds = {"fifo": "(it is a FIFO)", "empty": "empty", "absent": "no such file", ".": "(it is a directory)"}
    for name, what in kinds.items():
        with pytest.raises(FileError, match=re.escape(what)):
            torchlink.verify(str(tmp_path / "model.pt"), libraries=[tmp_path / name])
    assert not _mentions(tmp_path / "fifo", "mine")
