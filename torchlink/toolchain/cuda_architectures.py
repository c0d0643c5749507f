"""For which GPU architectures nvcc compiles."""

from __future__ import annotations
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from torchlink.libtorch.facts import Libtorch


def architectures(libtorch: Libtorch | None) -> tuple[str, ...]:
    return ()
