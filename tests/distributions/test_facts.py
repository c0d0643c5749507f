"""Every distribution of the table is read right, from the wheel as it is downloaded and from what it unpacks to.

The table holds facts read from real distributions with other tools; `cxx_standard_min_gcc12` is the least
standard with which g++ 12 compiled torch/script.h, `cxx_standard_declared` what torch's own build files use.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import pytest

from tests.conftest import REPOSITORY
from tests.distributions.wheels import fetch
from torchlink.libtorch.inspect import inspect

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.matrix
DATA = json.loads((REPOSITORY / "tests/data/distributions.json").read_text())["distributions"]
WHEELS = sorted(name for name in DATA if name.startswith("torch-"))
# The files that are read in an unpacked tree; the large libraries of a CUDA wheel would add minutes and no facts.
LARGEST = 600 << 20


@pytest.fixture
def wheel(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """The wheel of a row, deleted afterwards where it was downloaded."""
    yield fetch(request.param, tmp_path)
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("wheel", WHEELS, indirect=True, ids=WHEELS)
def test_a_packed_wheel_is_read_right(wheel: Path) -> None:
    check(wheel, DATA[wheel.stem])


@pytest.mark.parametrize(
    "wheel", [name for name in WHEELS if "x86_64" in name and "linux" in name], indirect=True
)
def test_an_unpacked_wheel_is_read_right(wheel: Path, tmp_path: Path) -> None:
    with ZipFile(wheel) as archive:
        members = [
            member
            for member in archive.infolist()
            if member.filename.startswith(
                ("torch/include", "torch/share", "torch/lib", "torch/version", "torch.libs")
            )
        ]
        small = [member for member in members if member.file_size <= LARGEST]
        archive.extractall(tmp_path / "site", small)
    row = dict(DATA[wheel.stem])
    left_out = {Path(member.filename).name for member in members} - {
        Path(member.filename).name for member in small
    }
    for name in left_out:
        (tmp_path / "site/torch/lib" / name).touch()
    check(tmp_path / "site/torch", row, damaged=left_out)
    check(tmp_path / "site/torch/lib", row, damaged=left_out)


def check(path: Path, row: dict[str, Any], damaged: set[str] | None = None) -> None:
    """Compare what `inspect` reads with a row of the table."""
    found = inspect(path, "path")
    assert found.version == row["version"]
    assert (found.platform, found.arch) == (row["platform"], row["arch"])
    assert found.cxx11_abi == row["cxx11_abi"]
    assert found.cxx_standard_required == row["cxx_standard_min_gcc12"]
    assert found.cxx_standard == max(row["cxx_standard_declared"], row["cxx_standard_min_gcc12"])
    assert (found.accelerator, found.accelerator_version) == (row["accelerator"], row["cuda"])
    if row.get("libraries"):
        assert list(found.libraries) == row["libraries"]
    if (row.get("libtorch_cpu") or {}).get("search"):
        kind, entries = row["libtorch_cpu"]["search"]
        assert (found.search_kind, ":".join(found.search_path)) == (kind, entries)
    assert not [
        conflict for conflict in found.conflicts if not any(name in conflict for name in damaged or ())
    ]
