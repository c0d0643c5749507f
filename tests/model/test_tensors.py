"""Tensors in files are found where numpy and torch say that they are."""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import needed
from torchlink.errors import FileError, MalformedFileError, TorchlinkError
from torchlink.model.stored import ITEM_SIZES
from torchlink.model.tensors import read_expected

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.model.stored import StoredTensor

torch = needed("torch")
numpy = needed("numpy")


def loaded(stored: StoredTensor) -> Any:
    """What a reader gets that follows a StoredTensor to the letter."""
    count = 0 if 0 in stored.shape else 1
    count += (
        sum((size - 1) * stride for size, stride in zip(stored.shape, stored.strides, strict=True)) * count
    )
    data = stored.path.read_bytes()[stored.offset :][: count * ITEM_SIZES[stored.dtype]]
    dtype = getattr(torch, stored.dtype)
    flat = torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
    return flat.as_strided(stored.shape, stored.strides)


def same(stored: StoredTensor, tensor: Any) -> bool:
    if tensor.dtype == torch.complex32:  # which torch itself cannot compare
        return bool(torch.equal(loaded(stored).to(torch.complex64), tensor.to(torch.complex64)))
    return stored.dtype == str(tensor.dtype)[6:] and torch.equal(loaded(stored), tensor.detach())


@pytest.mark.filterwarnings("ignore:ComplexHalf")
@pytest.mark.parametrize("dtype", ITEM_SIZES)
def test_every_dtype_of_torch_is_read(dtype: str, tmp_path: Path) -> None:
    tensor = torch.tensor([[0, 1, 1], [1, 0, 1]], dtype=getattr(torch, dtype))
    torch.save(tensor, tmp_path / "t.pt")
    (found,) = read_expected(tmp_path / "t.pt")
    assert same(found, tensor)
    assert found.label == ""


TENSORS = {
    "0-dim": lambda: torch.tensor(3.5),
    "empty": lambda: torch.zeros(0, 3),
    "transposed": lambda: torch.arange(12.0).reshape(3, 4).t(),
    "slice": lambda: torch.arange(20)[3:17:2],
    "expanded": lambda: torch.arange(3.0).expand(4, 3),
    "channels last": lambda: torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
    "parameter": lambda: torch.nn.Parameter(torch.ones(2)),
}


@pytest.mark.parametrize("name", TENSORS)
def test_strides_and_offsets_are_followed(name: str, tmp_path: Path) -> None:
    tensor = TENSORS[name]()
    torch.save(tensor, tmp_path / "t.pt")
    (found,) = read_expected(tmp_path / "t.pt")
    assert same(found, tensor)


def test_containers_are_gone_through_in_order_with_labels(tmp_path: Path) -> None:
    a, b, c = torch.ones(2), torch.zeros(3, dtype=torch.int64), torch.tensor(True)
    torch.save({"a": a, "rest": [b, (c, None, "text", 3)]}, tmp_path / "t.pt")
    found = read_expected(tmp_path / "t.pt")
    assert [each.label for each in found] == ["['a']", "['rest'][0]", "['rest'][1][0]"]
    assert all(same(each, tensor) for each, tensor in zip(found, (a, b, c), strict=True))


def test_a_state_dict_and_shared_storages_are_read(tmp_path: Path) -> None:
    base = torch.arange(6.0)
    torch.save({**torch.nn.Linear(2, 1).state_dict(), "head": base[:2], "tail": base[4:]}, tmp_path / "t.pt")
    found = {each.label: each for each in read_expected(tmp_path / "t.pt")}
    assert list(found) == ["['weight']", "['bias']", "['head']", "['tail']"]
    assert same(found["['tail']"], base[4:])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_of_today_is_read(protocol: int, tmp_path: Path) -> None:
    torch.save([torch.arange(3)], tmp_path / "t.pt", pickle_protocol=protocol)
    (found,) = read_expected(tmp_path / "t.pt")
    assert same(found, torch.arange(3))


def test_numpy_arrays_are_read(tmp_path: Path) -> None:
    c_order = numpy.arange(6, dtype=numpy.int16).reshape(2, 3)
    fortran = numpy.asfortranarray(numpy.arange(6.0).reshape(2, 3))
    numpy.save(tmp_path / "c.npy", c_order)
    numpy.save(tmp_path / "f.npy", fortran)
    numpy.savez(tmp_path / "both.npz", c=c_order, scalar=numpy.array(True), none=numpy.zeros((0, 2), "f4"))
    assert same(read_expected(tmp_path / "c.npy")[0], torch.from_numpy(c_order))
    assert same(read_expected(tmp_path / "f.npy")[0], torch.from_numpy(fortran))
    found = read_expected(tmp_path / "both.npz")
    assert [(each.label, each.shape) for each in found] == [
        ("['c']", (2, 3)),
        ("['scalar']", ()),
        ("['none']", (0, 2)),
    ]
    assert same(found[0], torch.from_numpy(c_order))


def test_a_container_of_tensors_saved_by_torchscript_is_read(tmp_path: Path) -> None:
    holder = torch.nn.Module()
    holder.register_buffer("logits", torch.arange(4.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(holder).save(str(tmp_path / "h.pt"))
    (found,) = read_expected(tmp_path / "h.pt")
    assert same(found, torch.arange(4.0))


REFUSED = {
    "module": lambda path: torch.save(torch.nn.Linear(2, 2), path),
    "sparse": lambda path: torch.save(torch.eye(2).to_sparse(), path),
    "conjugate": lambda path: torch.save(torch.ones(2, dtype=torch.complex64).conj(), path),
    "quantized": lambda path: torch.save(torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), path),
    "legacy": lambda path: torch.save(torch.ones(3), path, _use_new_zipfile_serialization=False),
    "no tensors": lambda path: torch.save({"a": 1}, path),
    "big-endian": lambda path: numpy.save(path.open("wb"), numpy.arange(3, dtype=">f4")),
    "objects": lambda path: numpy.save(path.open("wb"), numpy.array([{}])),
    "compressed": lambda path: numpy.savez_compressed(path.open("wb"), a=numpy.ones(3)),
    "text": lambda path: path.write_text("1 2 3"),
    "empty": lambda path: path.write_bytes(b""),
}


def test_a_compressed_archive_is_saved_again_with_what_writes_its_kind(tmp_path: Path) -> None:
    numpy.savez_compressed(tmp_path / "a.npz", a=numpy.ones(3))
    with pytest.raises(FileError) as caught:
        read_expected(tmp_path / "a.npz")
    assert caught.value.hint == "Save it again with numpy.savez, which does not compress."


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_read_is_refused_with_advice(name: str, tmp_path: Path) -> None:
    REFUSED[name](tmp_path / "t.pt")
    with pytest.raises(FileError) as caught:
        read_expected(tmp_path / "t.pt")
    assert caught.value.hint
    assert str(tmp_path) in caught.value.message


def test_a_model_is_no_expectation(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "m.pt"))
    with pytest.raises(FileError, match="TorchScript model"):
        read_expected(tmp_path / "m.pt")


def test_damaged_files_are_errors_and_nothing_else(tmp_path: Path) -> None:
    torch.save([torch.arange(9.0).reshape(3, 3), {"k": torch.ones(2)}], tmp_path / "t.pt")
    content = (tmp_path / "t.pt").read_bytes()
    damaged = tmp_path / "damaged.pt"
    for place in range(0, len(content), 7):
        damaged.write_bytes(content[:place] + bytes([content[place] ^ 0x5A]) + content[place + 1 :])
        with contextlib.suppress(TorchlinkError):
            assert all(found.offset <= len(content) for found in read_expected(damaged))
    damaged.write_bytes(content[: len(content) // 2])
    with pytest.raises(MalformedFileError):
        read_expected(damaged)
