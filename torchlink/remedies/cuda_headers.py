"""CUDA's headers that a libtorch lacks: the sentence that says so, and what installs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torchlink.remedies.remedy import remedy_for
from torchlink.toolchain.cuda import missing_headers

if TYPE_CHECKING:
    from torchlink.libtorch.facts import Libtorch


class HeadersRemedy(NamedTuple):
    """Which of CUDA's headers are missing, and what installs them; a package or a toolkit is enough."""

    message: str  # one sentence
    names: tuple[str, ...]  # of the headers
    command: str  # for a shell; empty if none can help
    packages: tuple[str, ...]  # that contain them; empty if libtorch has no companion packages
    toolkit: str  # "a CUDA 13 toolkit (CUDA_HOME)"

    @property
    def text(self) -> str:
        """The alternatives on one line."""
        packages = self.command or " and ".join(self.packages)
        return f"{packages}, or {self.toolkit}" if packages else self.toolkit


def headers_remedy(libtorch: Libtorch) -> HeadersRemedy | None:
    """Return what installs the missing headers; None if they are complete, or not needed at all."""
    missing = missing_headers(libtorch)
    if missing is None:
        return None
    verb = "are" if missing.names[1:] else "is"
    return HeadersRemedy(
        "A program that includes c10/cuda or ATen/cuda does not compile: of CUDA's own headers "
        f"{' and '.join(missing.names)} {verb} missing.",
        missing.names,
        remedy_for(libtorch, missing.packaged).command,
        tuple(str(each.package) for each in missing.packaged),
        f"a CUDA {missing.cuda} toolkit (CUDA_HOME)" if missing.cuda else "a CUDA toolkit (CUDA_HOME)",
    )
