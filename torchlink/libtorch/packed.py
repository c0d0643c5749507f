"""Refusing an archive where files are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.errors import LibtorchUnusableError
from torchlink.shown import quoted

if TYPE_CHECKING:
    from torchlink.libtorch.facts import Libtorch


def check_unpacked(libtorch: Libtorch) -> None:
    """Refuse a libtorch that is not extracted, for words that a build will use.

    Raises:
        LibtorchUnusableError: it is.
    """
    if libtorch.packed:
        raise LibtorchUnusableError(
            f"{libtorch.root} is not extracted: compiler, linker and loader need files.",
            hint=f"Unpack it (torchlink extract {quoted(str(libtorch.root))} DIR) and say --libtorch DIR.",
        )
