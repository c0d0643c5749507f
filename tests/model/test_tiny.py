"""The model that torchlink carries is what its script writes, small, and plain enough for an old libtorch."""

from __future__ import annotations

import importlib.util
import re
import warnings
import zipfile
from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from tests.conftest import REPOSITORY, needed
from torchlink.model.kind import require_model

if TYPE_CHECKING:
    from types import ModuleType

torch = needed("torch")

TINY = REPOSITORY / "templates" / "loader" / "tiny.pt"
TINY_1_1 = REPOSITORY / "templates" / "loader" / "tiny-1.1.pt"  # the same, saved by torch 1.1.0
OPERATORS_OF_1_0 = {"addmm", "relu", "t"}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "make_tiny_model", REPOSITORY / "tools" / "make_tiny_model.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def contents(archive: zipfile.ZipFile) -> dict[str, bytes]:
    return {name: archive.read(name) for name in archive.namelist()}


def test_the_carried_model_is_what_the_script_writes(script: ModuleType) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = script.tiny_model()
    with zipfile.ZipFile(TINY) as carried, zipfile.ZipFile(BytesIO(written)) as fresh:
        assert contents(carried) == contents(fresh)


def test_it_computes_what_its_script_says() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.jit.load(str(TINY))
    assert model(torch.ones(1, 4)).tolist() == [[2.5, -0.75]]
    assert model(torch.zeros(2, 4)).tolist() == [[0.625, 0.5]] * 2


def test_it_is_small_and_of_the_oldest_format_that_is_written() -> None:
    assert TINY.stat().st_size < 4096
    assert require_model(TINY).detail == "a TorchScript model (file format 3)"


def test_the_one_for_old_libtorchs_is_of_the_first_format_and_computes_the_same() -> None:
    assert TINY_1_1.stat().st_size < 4096
    assert require_model(TINY_1_1).detail == "a TorchScript model (file format 1)"
    with zipfile.ZipFile(TINY) as new, zipfile.ZipFile(TINY_1_1) as old:
        weights = [
            sorted(archive.read(name)[:48] for name in archive.namelist() if re.search(part, name))
            for archive, part in ((new, r"/data/\d+$"), (old, r"/tensors/\d+$"))
        ]
    assert weights[0] == weights[1]


def test_it_uses_operators_of_the_first_releases_only() -> None:
    with zipfile.ZipFile(TINY) as archive:
        code = archive.read("tiny/code/__torch__/torchlink.py").decode()
    assert set(re.findall(r"torch\.([a-z]\w*)\(", code)) <= OPERATORS_OF_1_0


def test_it_tells_nothing_of_the_machine_that_wrote_it() -> None:
    with zipfile.ZipFile(TINY) as archive:
        assert not [name for name in archive.namelist() if "debug" in name or "serialization_id" in name]
    assert str(REPOSITORY).encode() not in TINY.read_bytes()
