"""What a file is, is told from its bytes: files that torch and others really write, and damaged ones."""

from __future__ import annotations

import gzip
import os
import pickle
import re
import tarfile
import warnings
import zipfile
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import needed
from torchlink.errors import FileError, MalformedFileError, ModelError
from torchlink.model.archive import open_archive
from torchlink.model.kind import RUN, identify, require_model
from torchlink.model.other_files import REMEDIES
from torchlink.paths import data_dir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

torch = needed("torch")


def zip_of(*names: str) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"1")
    return buffer.getvalue()


def torch_tar() -> bytes:
    """The members, in their order, that torch.save wrote in its tar days (torch/serialization.py: legacy_load)."""
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:", format=tarfile.PAX_FORMAT) as tar:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            tar.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


def write_package(path: Path) -> None:
    from torch.package import PackageExporter

    with PackageExporter(str(path)) as exporter:
        exporter.extern("torch.**")
        exporter.save_pickle("model", "model.pkl", torch.nn.Linear(2, 2))


def write_exported(path: Path) -> None:
    torch.export.save(torch.export.export(torch.nn.Linear(4, 2), (torch.ones(1, 4),)), str(path))


def scripted() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(torch.nn.Linear(4, 2))


# What torch writes: kind, a word of the description, the writer.
WRITTEN_BY_TORCH: dict[str, tuple[str, str, Callable[[Path], Any]]] = {
    "scripted": ("torchscript", "file format 3", lambda path: scripted().save(str(path))),
    "traced": (
        "torchscript",
        "file format",
        lambda path: torch.jit.trace(torch.nn.Linear(4, 2), torch.ones(1, 4)).save(str(path)),
    ),
    "lite": (
        "torchscript",
        "lite interpreter",
        lambda path: scripted()._save_for_lite_interpreter(str(path)),
    ),
    "flatbuffer": (
        "torchscript",
        "flatbuffer",
        lambda path: torch._C._save_jit_module(scripted()._c, str(path), {}),
    ),
    "package": ("torch-package", "torch.package", write_package),
    "exported": ("exported-program", "torch.export", write_exported),
    "module": (
        "module-pickle",
        "torch.nn.modules.linear.Linear",
        lambda path: torch.save(torch.nn.Linear(4, 2), path),
    ),
    "state_dict": (
        "state-dict",
        "weights",
        lambda path: torch.save(torch.nn.Linear(4, 2).state_dict(), path),
    ),
    "nested": (
        "checkpoint",
        "under the key 'state_dict'",
        lambda path: torch.save({"epoch": 3, "state_dict": torch.nn.Linear(4, 2).state_dict()}, path),
    ),
    "checkpoint": ("state-dict", "weights", lambda path: torch.save({"model": {}, "epoch": 3}, path)),
    "tensor": ("tensors", "a tensor", lambda path: torch.save(torch.ones(3), path)),
    "list": ("tensors", "a list of tensors", lambda path: torch.save([torch.ones(3)], path)),
    "other": ("pickle", "plain pickle", lambda path: torch.save(["text"], path)),
    "legacy": (
        "pickle",
        "before PyTorch 1.6",
        lambda path: torch.save(torch.ones(3), path, _use_new_zipfile_serialization=False),
    ),
}

# What others write, or what is left of a file: kind, a word of the description, the bytes.
BYTES: dict[str, tuple[str, str, bytes]] = {
    "empty": ("empty", "empty", b""),
    "zeros": ("zeros", "zero bytes", bytes(10_000)),
    "tar": ("tar", "tar archive", torch_tar()),
    "pickle2": ("pickle", "Python pickle", pickle.dumps({"a": 1}, protocol=2)),
    "pickle5": ("pickle", "Python pickle", pickle.dumps([1, 2], protocol=5)),
    "pickle0": ("pickle", "Python pickle", pickle.dumps([1, 2], protocol=0)),
    "aoti 2.6": (
        "aoti-package",
        "AOTInductor",
        zip_of("version", "data/aotinductor/model/model.so", "archive_format"),
    ),
    "aoti 2.13": (
        "aoti-package",
        "AOTInductor",
        zip_of("m/archive_format", "m/data/aotinductor/model/x.wrapper.so"),
    ),
    "exported 2.1": (
        "exported-program",
        "torch.export",
        zip_of("serialized_exported_program.json", "version"),
    ),
    "torchscript 1.0": (
        "torchscript",
        "file format 1",
        zip_of("m/version", "m/model.json", "m/tensors/0", "m/code/m.py"),
    ),
    "torchserve": ("torchserve", "TorchServe", zip_of("MAR-INF/MANIFEST.json", "model.pt")),
    "torch::save": (
        "tensors",
        "torch::save",
        zip_of("a/data.pkl", "a/constants.pkl", "a/version", "a/data/0"),
    ),
    "zipped": ("zip", "model.pt", zip_of("model.pt", "readme.txt")),
    "npz": ("numpy", "NumPy", zip_of("a.npy", "b.npy")),
    "keras": ("other-framework", "Keras", zip_of("metadata.json", "config.json", "model.weights.h5")),
    "empty zip": ("zip", "empty", zip_of()),
    "safetensors": ("safetensors", "safetensors", (2).to_bytes(8, "little") + b"{}"),
    "onnx": ("onnx", "ONNX", b"\x08\x07\x12\x07pytorch\x1a\x05" + b"2.1.0" + b":\x10"),
    "onnx without producer": ("onnx", "ONNX", b"\x08\x08\x3a\xff\x01"),
    "saved model": ("unknown", "no format", b"\x08\x01\x12\xf0\x95\x03\x0a\x80\x95\x03\x12\xff\xfe\xfd"),
    "npy": ("numpy", "NumPy", b"\x93NUMPY\x01\x00"),
    "elf": ("shared-library", "ELF", b"\x7fELF\x02\x01\x01"),
    "gzip": ("compressed", "gzip", gzip.compress(b"model")),
    "hdf5": ("other-framework", "HDF5", b"\x89HDF\r\n\x1a\n"),
    "tflite": ("other-framework", "TensorFlow Lite", b"\x1c\0\0\0TFL3"),
    "executorch": ("executorch", "ExecuTorch", b"\x1c\0\0\0ET12"),
    "git lfs": ("lfs-pointer", "Git LFS", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
    "web page": ("web-page", "web page", b"<!DOCTYPE html><html><title>404</title>"),
    "text": ("text", "text", b"import torch\n"),
    "random": ("unknown", "no format", bytes(range(128, 256)) * 3),
}


@pytest.mark.parametrize("name", WRITTEN_BY_TORCH)
def test_what_torch_writes_is_known(name: str, tmp_path: Path) -> None:
    kind, word, write = WRITTEN_BY_TORCH[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write(tmp_path / "model.pt")
    found = identify(tmp_path / "model.pt")
    assert (found.kind, word in found.detail) == (kind, True), found


@pytest.mark.parametrize("name", BYTES)
def test_other_bytes_are_known(name: str, tmp_path: Path) -> None:
    kind, word, content = BYTES[name]
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    found = identify(path)
    assert (found.kind, word in found.detail) == (kind, True), found


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95, 0.99])
def test_a_truncated_model_is_told_from_a_whole_one(kept: float, tmp_path: Path) -> None:
    scripted().save(str(tmp_path / "whole.pt"))
    content = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ModelError, match="truncated"):
        require_model(tmp_path / "cut.pt")


def test_a_directory_a_missing_file_and_a_pipe_are_errors_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match="a directory"):
        require_model(tmp_path)
    with pytest.raises(ModelError, match="a pipe"):
        require_model(tmp_path / "pipe")
    with pytest.raises(FileError, match="No such file"):
        require_model(tmp_path / "nothing.pt")
    with pytest.raises(FileError, match="Cannot read"):
        require_model(tmp_path / ("x" * 5000))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_said_to_be_so(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"PK")
    path.chmod(0)
    with pytest.raises(FileError, match="permission denied"):
        identify(path)


def test_an_error_says_what_the_file_is_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(torch.nn.Linear(4, 2), path)
    with pytest.raises(ModelError) as caught:
        require_model(path)
    assert "torch.nn.modules.linear.Linear" in caught.value.message
    assert f"torch.load({str(path)!r}" in caught.value.hint
    assert 'torch.jit.script(model.eval()).save("model.pt")' in caught.value.hint


@pytest.mark.compile
@pytest.mark.parametrize("kind", ["module-pickle", "exported-program", "state-dict"])
def test_the_two_lines_of_python_make_a_model_that_loads(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "saved"
    model, example_inputs = torch.nn.Linear(4, 2).eval(), (torch.ones(1, 4),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "exported-program":
            path = path.with_suffix(".pt2")
            torch.export.save(torch.export.export(model, example_inputs), path)
        else:
            torch.save(model if kind == "module-pickle" else model.state_dict(), path)
        with pytest.raises(ModelError) as caught:
            require_model(path)
        assert identify(path).kind == kind
        compiled, scripted_ = re.findall(r"`([^`]+)`", caught.value.hint)
        names = {"torch": torch, "model": model, "example_inputs": example_inputs}
        exec(scripted_, dict(names))
        if kind == "module-pickle":  # the others end in the same call, which compiles for some seconds
            exec(compiled, dict(names))
            assert require_model(tmp_path / "model.pt2").kind == "aoti-package"
    assert "aoti_compile_and_package" in compiled
    assert require_model(tmp_path / "model.pt").kind == "torchscript"


def test_every_kind_has_a_remedy() -> None:
    assert all(REMEDIES[kind] for kind in REMEDIES if kind not in RUN)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "sprung"),))

    torch.save(Trap(), tmp_path / "trap.pt")
    (tmp_path / "trap.pkl").write_bytes(pickle.dumps(Trap()))
    assert (
        identify(tmp_path / "trap.pt").detail == "a Python object of class posix.mkdir pickled by torch.save"
    )
    assert identify(tmp_path / "trap.pkl").kind == "pickle"
    assert not (tmp_path / "sprung").exists()


def test_the_table_of_contents_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []

    class Counted(zipfile.ZipFile):
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            opened.append(arguments)
            super().__init__(*arguments, **keywords)

    monkeypatch.setattr(zipfile, "ZipFile", Counted)
    model = data_dir("templates") / "loader" / "tiny.pt"
    assert identify(model).detail == "a TorchScript model (file format 3)"
    assert len(opened) == 1


def test_a_stored_entry_is_checked_against_its_checksum(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/version", "3\n")
        archive.writestr("a/other", "4\n")
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(content.replace(b"3\n", b"5\n", 1))
    found = open_archive(tmp_path / "a.zip")
    assert found is not None
    assert found.read("other") == b"4\n"
    with pytest.raises(MalformedFileError, match="version is damaged"):
        found.read("version")
