"""A bench for every test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lint.bench import Bench

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """An empty directory to build in."""
    return Bench(tmp_path)
