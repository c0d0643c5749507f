"""The prefix on disk: one directory per plan, complete or absent, never changed, never over the user's files."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from tests.fake_libtorch import CUDA, fake_libtorch
from torchlink.compilation.cmake import write_prefix
from torchlink.plan import PlanOptions, make_plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

CONFIG = "share/cmake/Torch/TorchConfig.cmake"


def test_the_same_plan_keeps_its_directory_untouched(tmp_path: Path) -> None:
    plan = make_plan(fake_libtorch(tmp_path, CUDA))
    first = write_prefix(plan)
    before = (first / CONFIG).stat().st_mtime_ns
    assert write_prefix(plan) == first
    assert (first / CONFIG).stat().st_mtime_ns == before


def test_another_plan_gets_another_directory(tmp_path: Path) -> None:
    libtorch = fake_libtorch(tmp_path, CUDA)
    plans = (
        make_plan(libtorch),
        make_plan(libtorch, PlanOptions(cpu_only=True)),
        make_plan(libtorch, PlanOptions(aoti=True)),
    )
    assert len({write_prefix(plan) for plan in plans}) == 3


def test_a_damaged_or_deleted_directory_is_rewritten(tmp_path: Path) -> None:
    plan = make_plan(fake_libtorch(tmp_path))
    prefix = write_prefix(plan)
    text = (prefix / CONFIG).read_text()
    (prefix / CONFIG).write_text("half")
    assert write_prefix(plan) == prefix
    assert (prefix / CONFIG).read_text() == text
    shutil.rmtree(prefix)
    assert write_prefix(plan) == prefix
    assert (prefix / CONFIG).read_text() == text


def test_the_commands_print_one_directory(torch_root: Path, torchlink: Callable[..., Result]) -> None:
    prefix = torchlink("cmake", "prefix", "--libtorch", torch_root).out.strip()
    torch_dir = torchlink("cmake", "dir", "--libtorch", torch_root).out.strip()
    assert torch_dir == f"{prefix}/share/cmake/Torch"
    said = json.loads(torchlink("cmake", "prefix", "--libtorch", torch_root, "--json").out)
    assert said == {"schema": 1, "prefix": prefix, "torch_dir": torch_dir}


def test_output_renews_its_own_files_and_no_others(
    torch_root: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    command = ("cmake", "prefix", "--libtorch", torch_root, "--output", tmp_path / "p")
    assert torchlink(*command).out.strip() == str(tmp_path / "p")
    assert torchlink(*command, "--cpu", "--aoti").code == 0
    (tmp_path / "p" / CONFIG).write_text("# a config file of the user's\n")
    refused = torchlink(*command)
    assert refused.code == 2
    assert CONFIG in refused.err
    assert torchlink(*command, "--force").code == 0
