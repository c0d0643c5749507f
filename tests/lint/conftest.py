"""A builder for every test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lint.builder import Builder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    """An empty directory to build in."""
    return Builder(tmp_path)
