"""A wheel or zip is read in place, with the same result as for its extracted files."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from zipfile import ZIP_DEFLATED, ZipFile

import pytest

from tests.libtorch.trees import Fake, make
from torchlink.errors import LibtorchUnusableError
from torchlink.libtorch.inspect import inspect

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.compile
WHEEL = replace(Fake(), search_path="$ORIGIN:$ORIGIN/../../torch.libs", new_dtags=False)
PLACES = {"root", "packed", "layout", "include_dirs", "library_dir", "companion_dirs", "python"}


def pack(directory: Path, archive: Path) -> Path:
    """Zip what is in a directory."""
    with ZipFile(archive, "w", ZIP_DEFLATED) as file:
        for path in sorted(directory.rglob("*")):
            if path.is_file():
                file.write(path, path.relative_to(directory).as_posix())
    return archive


def test_a_wheel_reads_like_the_unpacked_one(tmp_path: Path) -> None:
    root = make(tmp_path / "site/torch", WHEEL)
    (tmp_path / "site/torch-2.13.0.dist-info").mkdir()
    (tmp_path / "site/torch-2.13.0.dist-info/METADATA").write_text("Name: torch\n")
    (tmp_path / "site/torch.libs").mkdir()
    (tmp_path / "site/torch.libs/libopenblas-abc.so").touch()
    wheel = pack(tmp_path / "site", tmp_path / "torch-2.13.0-cp311-cp311-linux_x86_64.whl")
    packed, unpacked = inspect(wheel, "path"), inspect(root, "path")
    facts, others = packed._asdict(), unpacked._asdict()
    for field in facts.keys() - set(PLACES):
        assert facts[field] == others[field], field
    assert (packed.packed, packed.root, packed.layout) == (True, wheel, "wheel")
    assert packed.library_dir == wheel / "torch/lib"
    assert packed.include_dirs[0] == wheel / "torch/include"
    assert [(each.path, each.in_place) for each in packed.companion_dirs] == [(wheel / "torch.libs", True)]


def test_a_zip_with_libtorch_inside(tmp_path: Path) -> None:
    root = make(tmp_path / "top/libtorch", replace(Fake(), version=None, libraries=("torch_cpu", "torch")))
    (root / "build-version").write_text("2.13.0+cpu\n")
    found = inspect(pack(tmp_path / "top", tmp_path / "libtorch.zip"), "path")
    assert (found.layout, found.version, found.cxx11_abi) == ("zip", "2.13.0+cpu", 1)
    assert found.library_dir == tmp_path / "libtorch.zip/libtorch/lib"


def test_a_wheel_with_another_name_is_recognised(tmp_path: Path) -> None:
    make(tmp_path / "site/torch")
    found = inspect(pack(tmp_path / "site", tmp_path / "download.bin"), "path")
    assert (found.layout, found.packed, found.version) == ("wheel", True, "2.13.0+cpu")


def test_contradictions_in_an_archive_are_settled_by_its_libraries(tmp_path: Path) -> None:
    make(tmp_path / "site/torch", replace(Fake(), version="2.11.0"))
    found = inspect(pack(tmp_path / "site", tmp_path / "torch.whl"), "path")
    assert found.version == "2.13.0"
    assert any("version.py says version 2.11.0" in conflict for conflict in found.conflicts)


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "site/torch")
    wheel = pack(tmp_path / "site", tmp_path / "torch.whl")
    content = wheel.read_bytes()
    wheel.write_bytes(content[: len(content) // 2])
    with pytest.raises(LibtorchUnusableError, match=r"cut off or damaged.* download it again"):
        inspect(wheel, "path")


def test_a_damaged_member_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "site/torch")
    wheel = pack(tmp_path / "site", tmp_path / "torch.whl")
    with ZipFile(wheel) as file:
        member = file.getinfo("torch/lib/libc10.so")
    content = bytearray(wheel.read_bytes())
    start = member.header_offset + 30 + len(member.filename)
    content[start : start + member.compress_size] = bytes(member.compress_size)
    wheel.write_bytes(content)
    with pytest.raises(LibtorchUnusableError, match="damaged or encrypted"):
        inspect(wheel, "path")
