"""A verify that is killed leaves no loader behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import needed, until

torch = needed("torch")

from torch import Tensor, nn  # noqa: E402 - needs torch

from tests.verify.small_models import save  # noqa: E402 - needs torch

pytestmark = [pytest.mark.compile, pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")]


class Endless(nn.Module):
    """Never returns."""

    def forward(self, x: Tensor) -> Tensor:
        while bool(x.sum() < 1e9):
            x = x * 1
        return x


def children(parent: int) -> list[int]:
    """The processes that a process started."""
    text = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii")
    return [int(word) for word in text.split()]


def test_a_model_that_never_returns_does_not_outlive_a_killed_verify(
    tmp_path: Path, torch_root: Path, private_cache: Path
) -> None:
    model = save(Endless(), tmp_path / "endless.pt")
    command = [sys.executable, "-m", "torchlink", "verify", "--libtorch", str(torch_root), "--input"]
    environment = {**os.environ, "TORCHLINK_CACHE_DIR": str(private_cache)}
    subprocess.run(
        [*command, "float32[1,4]"], env=environment, check=True, stdout=subprocess.DEVNULL, timeout=300
    )
    running = subprocess.Popen(
        [*command, "float32[4]", str(model)], env=environment, stdout=subprocess.DEVNULL
    )
    until(lambda: children(running.pid))
    loaders = children(running.pid)
    running.kill()
    running.wait(60)
    until(lambda: not any(Path(f"/proc/{loader}").exists() for loader in loaders))
