"""Which libtorch it is, so that two machines can tell whether they have the same."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from torchlink.bounds import first_bytes

if TYPE_CHECKING:
    from torchlink.libtorch.facts import Libtorch

START = 1 << 20  # bytes: the tables of symbols and their hashes, which no two builds share
LIBRARIES = ("torch_cpu", "caffe2", "torch", "c10")  # the first that is there holds most of its code


class Identity(NamedTuple):
    """A libtorch as other machines know it."""

    root: str  # where it is here; of no account for whether it is the same
    version: str | None
    cxx11_abi: int | None
    arch: str
    accelerator: str
    build: str  # of its main library: size and a hash of its start

    @property
    def text(self) -> str:
        """For people."""
        abi = "" if self.cxx11_abi is None else f", C++ ABI {self.cxx11_abi}"
        return f"{self.version or 'of unknown version'} ({self.arch}, {self.accelerator}{abi}, build {self.build})"

    def same_as(self, other: Identity) -> bool:
        """Whether it is the same build, wherever it lies."""
        return self._replace(root="") == other._replace(root="")


def identity_of(libtorch: Libtorch) -> Identity:
    """The identity of a libtorch.

    Raises:
        OSError: its main library cannot be read.
    """
    build = "?"
    for name in LIBRARIES:
        file = next(
            (each for each in libtorch.libraries if each.partition(".")[0] in (f"lib{name}", name)), None
        )
        if file is not None:
            path = libtorch.library_dir / file
            digest = hashlib.sha256(first_bytes(path, START)).hexdigest()[:16]
            build = f"{path.stat().st_size:x}-{digest}"
            break
    return Identity(
        str(libtorch.root),
        libtorch.version,
        libtorch.cxx11_abi,
        libtorch.arch,
        libtorch.accelerator,
        build,
    )
