"""The toy libtorch, built once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cmake.toy import build_toy

if TYPE_CHECKING:
    from torchlink.libtorch.facts import Libtorch


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Libtorch:
    """A CUDA libtorch in a directory with a space, a quote and letters that are not ASCII."""
    return build_toy(tmp_path_factory.mktemp("toy") / "it's ä toy#" / "torch")
