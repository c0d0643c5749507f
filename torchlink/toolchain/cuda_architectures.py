"""For which GPU architectures nvcc compiles: those that the user names, else those of libtorch's own kernels.

The format of .nv_fatbin is not documented; this was found by compiling with `-gencode`. It is a sequence of containers:
a header of 16 bytes (magic, version, its size, bytes that follow) and entries, each with a header that has its kind,
its own size, the bytes that follow, and the architecture.
"""

from __future__ import annotations

import os
import re
import struct
from itertools import islice
from typing import TYPE_CHECKING

from torchlink.binary.data import Data
from torchlink.binary.elf_layout import Image
from torchlink.errors import UsageError
from torchlink.libtorch.disk import is_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.libtorch.facts import Libtorch

VARIABLE = "TORCH_CUDA_ARCH_LIST"
# The names in torch/utils/cpp_extension.py.
NAMED = {
    "Kepler+Tesla": "3.7",
    "Kepler": "3.5+PTX",
    "Maxwell+Tegra": "5.3",
    "Maxwell": "5.0;5.2+PTX",
    "Pascal": "6.0;6.1+PTX",
    "Volta+Tegra": "7.2",
    "Volta": "7.0+PTX",
    "Turing": "7.5+PTX",
    "Ampere+Tegra": "8.7",
    "Ampere": "8.0;8.6+PTX",
    "Ada": "8.9+PTX",
    "Hopper": "9.0+PTX",
    "Blackwell+Tegra": "11.0",
    "Blackwell": "10.0;10.3;12.0;12.1+PTX",
}
CAPABILITY = r"(\d{1,2})\.(\d[af]?)(\+PTX)?"
MAGIC = 0xBA55ED50
CONTAINER = struct.Struct("<IHHQ")
ENTRY = struct.Struct("<HHIQIIII")
PTX, ELF = 1, 2
PROGBITS = 1
MOST_SECTIONS = 1 << 10
MOST_CONTAINERS = 1 << 12  # the first kernels; every file of libtorch's is compiled for the same list
MOST_ENTRIES = 1 << 6  # of a container: one for each architecture
NEWEST = 200  # architectures beyond this are not any


def architectures(libtorch: Libtorch | None) -> tuple[str, ...]:
    """Return the flags of nvcc that choose architectures; none for a libtorch without CUDA.

    Args:
        libtorch: None: only $TORCH_CUDA_ARCH_LIST counts.

    Raises:
        UsageError: $TORCH_CUDA_ARCH_LIST has an unknown architecture.
        MalformedFileError: libtorch_cuda.so is damaged.
    """
    listed = os.environ.get(VARIABLE, "").strip()
    if listed:
        return tuple(_named(listed))
    if libtorch is None or libtorch.accelerator != "cuda" or libtorch.platform != "linux" or libtorch.packed:
        return ()
    library = libtorch.library_dir / "libtorch_cuda.so"
    if not is_file(library):
        return ()
    data = Data.open(library, "library")
    try:
        compiled = sorted(set(_compiled(data)))
    finally:
        data.close()
    return tuple(
        f"-gencode=arch=compute_{number},code={'sm' if kind == ELF else 'compute'}_{number}"
        for number, kind in sorted(compiled, key=lambda each: (each[0], -each[1]))
    )


def _named(listed: str) -> Iterator[str]:
    """Yield the flags of a list such as "8.0;8.6;9.0+PTX"."""
    for name in re.split(r"[;\s,]+", listed):
        if name == "native":
            yield "-arch=native"
            continue
        for each in NAMED.get(name, name).split(";"):
            found = re.fullmatch(CAPABILITY, each)
            if not found:
                raise UsageError(
                    f"${VARIABLE} has {each!r}, which is not an architecture.",
                    hint="Write for example 8.0;8.6;9.0+PTX.",
                )
            number = found[1] + found[2]
            yield f"-gencode=arch=compute_{number},code=sm_{number}"
            if found[3]:
                yield f"-gencode=arch=compute_{number},code=compute_{number}"


def _compiled(data: Data) -> Iterator[tuple[int, int]]:
    """Yield (architecture, PTX or ELF) of the first kernels."""
    for start, size in islice(_sections(Image(data)), 1):
        position, end = start, min(start + size, data.size)
        for _ in range(MOST_CONTAINERS):
            if position + CONTAINER.size > end:
                break
            magic, _, header, follows = data.unpack(CONTAINER, position)
            if magic != MAGIC:
                position += 8  # padding
                continue
            entry, position = position + header, position + header + follows
            for _ in range(MOST_ENTRIES):
                if entry + ENTRY.size > min(position, end):
                    break
                kind, _, own, content, _, _, _, number = data.unpack(ENTRY, entry)
                if kind in {PTX, ELF} and 0 < number < NEWEST:
                    yield number, kind
                entry += max(own, 1) + content


def _sections(image: Image) -> Iterator[tuple[int, int]]:
    """Yield offset and size of the sections that begin as .nv_fatbin does."""
    offset, count = image.section_table
    shape = image.layout.section
    for number in range(min(count, MOST_SECTIONS)):
        position = offset + number * shape.size
        if position + shape.size > image.data.size:
            return
        _, kind, _, _, start, size, *_ = image.data.unpack(shape, position)
        inside = CONTAINER.size <= size and start + size <= image.data.size
        if kind == PROGBITS and inside and image.data.unpack(CONTAINER, start)[0] == MAGIC:
            yield start, size
