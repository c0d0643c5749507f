"""Outputs that have more elements than memory, and those that no file can hold."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest

import torchlink
from tests.conftest import needed
from torchlink.libtorch.inspect import inspect

torch = needed("torch")

from torch import Tensor, nn  # noqa: E402 - needs torch

from tests.verify.small_models import save  # noqa: E402 - needs torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result
    from torchlink.libtorch.facts import Libtorch

pytestmark = pytest.mark.compile
SIDE = 1 << 20


class Expanded(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        wide = x.reshape(1, 4).expand(1 << 20, 4).unsqueeze(1).expand(-1, 1 << 18, -1)
        whole = torch.arange(3).reshape(3, 1).expand(3, 1 << 38)
        complex_ = torch.view_as_complex(torch.ones(3, 2)).conj().expand(1 << 37, 3)
        return wide, whole, complex_, x.as_strided([1 << 20, 1 << 20], [0, 0]), x[:0].expand(1 << 20, 0)


class Overlapping(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(1 << 21).as_strided([1 << 20, 1 << 20], [1, 1])


class Sparse(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.long), x[:1], [1 << 20, 1 << 20])


class Where(nn.Module):
    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, list[torch.device]]]:  # type: ignore[name-defined]
        return x, {"a": [x.device], "b": [torch.device(self.device)]}


class Box:
    def __init__(self, x: Tensor) -> None:
        self.x = x


class Boxed(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Box]:
        return x, Box(x)


@pytest.fixture(scope="module")
def libtorch(torch_root: Path) -> Libtorch:
    return inspect(torch_root, found_by="test")


def test_an_expanded_output_is_summed_up_without_its_repetitions(libtorch: Libtorch, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(
        '{"type":"tensor","data_type":"float32","shape":[4],"value":[1,"NaN",3,2]}'
    )
    (model,) = torchlink.verify(
        save(Expanded(), tmp_path / "m.pt"), libtorch, inputs=str(tmp_path / "x.json"), timeout=60
    ).models
    assert model.error is None
    wide, whole, complex_, all_one, none = model.outputs
    assert wide.shape == (1 << 20, 1 << 18, 4)
    assert wide.values[4:] == pytest.approx((1, math.nan, 3, 2), nan_ok=True)
    assert (wide.min, wide.max, wide.mean, wide.non_finite) == (1, 3, 2, 1 << 38)
    assert (whole.values, whole.min, whole.max, whole.mean) == ((0,) * 8, 0, 2, 1)
    assert complex_.values == (complex(1, -1),) * 8
    assert (all_one.shape, all_one.mean) == ((SIDE, SIDE), 1)
    assert (none.shape, none.values, none.min) == ((SIDE, 0), (), None)


@pytest.mark.parametrize(("module", "kind"), [(Overlapping(), "expanded"), (Sparse(), "sparse")])
def test_an_output_without_memory_for_its_elements_is_one_clear_error_where_they_are_needed(
    torchlink: Callable[..., Result], torch_root: Path, tmp_path: Path, module: nn.Module, kind: str
) -> None:
    words = ("verify", save(module, tmp_path / "m.pt"), "--input", "float32[2]", "--libtorch", torch_root)
    shown = torchlink(*words)
    assert shown.code == 0, shown.out
    assert f"float32[{SIDE},{SIDE}] on cpu" in shown.out
    assert "would take 4096 GiB, above the limit of 4 GiB" in shown.out
    for option in ("--save-outputs", "--record"):
        done = torchlink(*words, option, tmp_path / "out.pt")
        assert done.code == 1
        assert "can be neither saved nor compared: a tensor that is " + kind in done.out
        assert not (tmp_path / "out.pt").exists()


def test_a_recording_notices_another_device_and_says_what_it_cannot_compare(
    torchlink: Callable[..., Result], torch_root: Path, tmp_path: Path
) -> None:
    path, golden = tmp_path / "m.pt", tmp_path / "golden"

    def verify(module: nn.Module, *options: str | Path) -> Result:
        return torchlink("verify", save(module, path), *options, "--libtorch", torch_root)

    recording = ("--input", "float32[2]", "--record", golden)
    assert verify(Where("cpu"), *recording).code == 0
    assert verify(Where("cpu"), "--golden", golden).code == 0
    changed = verify(Where("cuda:1"), "--golden", golden)
    assert changed.code == 1
    assert "output[1].b[0]: it is a Device cuda:1, expected a Device cpu" in changed.out
    assert verify(Where("cpu"), "--input", "float32[2]", "--against", "python").code == 0

    assert "expected a dict of 2" in verify(Boxed(), "--golden", golden).out
    assert verify(Boxed(), *recording, "--force").code == 0
    same = verify(Boxed(), "--golden", golden)
    assert same.code == 0
    assert "Box, whose contents cannot be compared" in same.out
    (model,) = json.loads(verify(Boxed(), "--golden", golden, "--json").out)["models"]
    assert "whose contents cannot be compared" in model["against"]["outputs"][1]["note"]

    about = golden / "m.pt" / "forward" / "golden.json"
    about.write_text(about.read_text().replace('"at": [\n    1\n   ]', '"at": [7]'))
    assert '"at": [7]' in about.read_text()
    assert "damaged" in verify(Boxed(), "--golden", golden).err
