"""Fixtures of the tests of `torchlink verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result


@pytest.fixture
def verify(torchlink: Callable[..., Result], torch_root: Path) -> Callable[..., Result]:
    """Runs `torchlink verify` with the libtorch of the tests."""

    def call(*arguments: str | Path) -> Result:
        return torchlink("verify", *arguments, "--libtorch", torch_root)

    return call
