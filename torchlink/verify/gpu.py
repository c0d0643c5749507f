"""Why a GPU cannot be used, from the exception that libtorch throws for its first CUDA tensor."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import DeviceFailedError

if TYPE_CHECKING:
    from torchlink.libtorch.facts import Libtorch


class Cause(NamedTuple):
    """One thing that keeps libtorch from the GPU."""

    said: re.Pattern[str]  # what stands in the exception's sentence
    sentence: str  # behind "This is a CUDA 13.2 build"
    hint: str


# c10/cuda/CUDAFunctions.cpp (driver, GPUs), ATen/detail/CUDAHooksInterface.h and the dispatcher (libtorch_cuda).
CAUSES = (
    Cause(
        re.compile(r"Found no NVIDIA driver"),
        "and {library} was loaded, but there is no NVIDIA driver",
        "Install NVIDIA's driver, or say --device cpu.",
    ),
    Cause(
        re.compile(r"driver on your system is too old \(found version (\d+)\)"),
        "and {library} was loaded, but the NVIDIA driver here is too old: it serves CUDA {version} and older",
        "Update the driver, take a libtorch of CUDA {version} or older, or say --device cpu.",
    ),
    Cause(
        re.compile(r"No CUDA GPUs are available|no CUDA-capable device|might not have a CUDA gpu"),
        "and {library} was loaded, but the NVIDIA driver shows it no GPU",
        "Look at nvidia-smi and CUDA_VISIBLE_DEVICES, or say --device cpu.",
    ),
    Cause(
        re.compile(
            r"without ATen_(?:cuda|hip) library|from the 'CUDA' backend|[Nn]ot linked with support for"
        ),
        "but {library} was not loaded",
        "Leave --cpu away, or say --device cpu.",
    ),
)


def no_gpu(said: str, libtorch: Libtorch) -> DeviceFailedError:
    """The error for a GPU that libtorch cannot use.

    Args:
        said: the exception's decisive sentence.
        libtorch: for which accelerator it was built.
    """
    names = {"cuda": "CUDA", "rocm": "ROCm", "xpu": "XPU"}
    name = names.get(libtorch.accelerator, libtorch.accelerator)
    build = " ".join(filter(None, (name, libtorch.accelerator_version, "build")))
    library = "libtorch_hip" if libtorch.accelerator == "rocm" else f"libtorch_{libtorch.accelerator}"
    for cause in CAUSES:
        match = cause.said.search(said)
        if match:
            # CUDA counts its versions so: 12020 is 12.2.
            number = int(match[1]) if match.lastindex else 0
            version = f"{number // 1000}.{number % 1000 // 10}"
            return DeviceFailedError(
                f"This is a {build} {cause.sentence.format(version=version, library=library)}.",
                hint=cause.hint.format(version=version),
            )
    return DeviceFailedError(
        f"The GPU is not usable, though this is a {build}: {said}", hint="Say --device cpu."
    )
