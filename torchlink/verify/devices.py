"""Why a GPU cannot be used, from the exception that libtorch throws for its first CUDA tensor.

Also a device named in the model's own code that this libtorch or this machine lacks.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import DeviceFailedError

if TYPE_CHECKING:
    from torchlink.libtorch.facts import Libtorch


class Cause(NamedTuple):
    """A reason why libtorch cannot use the GPU."""

    said: re.Pattern[str]  # matches the exception's sentence
    sentence: str  # follows "This is a CUDA 13.2 build"
    hint: str


# c10/cuda/CUDAFunctions.cpp (driver, GPUs), ATen/detail/CUDAHooksInterface.h and the dispatcher (libtorch_cuda).
CAUSES = (
    Cause(
        re.compile(r"Found no NVIDIA driver"),
        "and {library} was loaded, but there is no NVIDIA driver",
        "Install NVIDIA's driver, or use --device cpu.",
    ),
    Cause(
        re.compile(r"driver on your system is too old \(found version (\d+)\)"),
        "and {library} was loaded, but the NVIDIA driver here is too old: it supports CUDA {version} and older",
        "Update the driver, use a libtorch built for CUDA {version} or older, or use --device cpu.",
    ),
    Cause(
        re.compile(r"No CUDA GPUs are available|no CUDA-capable device|might not have a CUDA gpu"),
        "and {library} was loaded, but the NVIDIA driver reports no GPU",
        "Check nvidia-smi and CUDA_VISIBLE_DEVICES, or use --device cpu.",
    ),
    Cause(
        re.compile(
            r"without ATen_(?:cuda|hip) library|from the 'CUDA' backend|[Nn]ot linked with support for"
        ),
        "but {library} was not loaded",
        "Omit --cpu, or use --device cpu.",
    ),
)


def no_gpu(said: str, libtorch: Libtorch) -> DeviceFailedError:
    """The error for a GPU that libtorch cannot use.

    Args:
        said: the decisive sentence of the exception.
        libtorch: for which accelerator it was built.
    """
    names = {"cuda": "CUDA", "rocm": "ROCm", "xpu": "XPU"}
    name = names.get(libtorch.accelerator, libtorch.accelerator)
    build = " ".join(filter(None, (name, libtorch.accelerator_version, "build")))
    library = "libtorch_hip" if libtorch.accelerator == "rocm" else f"libtorch_{libtorch.accelerator}"
    for cause in CAUSES:
        match = cause.said.search(said)
        if match:
            # CUDA encodes its versions: 12020 is 12.2.
            number = int(match[1]) if match.lastindex else 0
            version = f"{number // 1000}.{number % 1000 // 10}"
            return DeviceFailedError(
                f"This is a {build} {cause.sentence.format(version=version, library=library)}.",
                hint=cause.hint.format(version=version),
            )
    return DeviceFailedError(
        f"The GPU is not usable, although this is a {build}: {said}", hint="Use --device cpu."
    )


# libtorch's errors about a device that it was not built for, or that is missing.
BACKEND = re.compile(
    r"with arguments from the '(?:Sparse|SparseCsr|Quantized|NestedTensor)?"
    r"(?P<device>CUDA|HIP|MPS|XPU|XLA|HPU|IPU|MTIA|Vulkan|Metal|Lazy|VE|PrivateUse1)' backend"
)
ANY = "ANY"
NONE_AT_ALL = "Cannot access accelerator device when none is available"
NO_VALUES = "Cannot copy out of meta tensor"
CUDA = re.compile(
    r"without ATen_cuda library|[Nn]ot linked with support for cuda|not compiled with CUDA|No CUDA GPUs are available"
    r"|Found no NVIDIA driver|NVIDIA driver on your system is too old|no CUDA-capable device"
)
OTHER = re.compile(
    r"(?:without ATen_|compiled with |initialize )(?P<device>mps|xpu|hip|hpu|xla|mtia|MPS|XPU|HIP)\b"
    r"|[Nn]ot linked with support for (?P<unlinked>\w+)"
)
ORIGINAL, SERIALIZED = "Traceback of TorchScript, original code", "Traceback of TorchScript, serialized code"
FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')
HERE = re.compile(r"^\s*~+ <--- HERE")


class SourceLine(NamedTuple):
    """A line of the model's code."""

    where: str  # "model.py, line 15, in forward"
    code: str


def device_in_model(message: str, libtorch: Libtorch, *, verbose: bool = False) -> DeviceFailedError | None:
    """The error for a forward that asks for a device that is missing; None for other exceptions.

    Args:
        message: the text of the exception.
        libtorch: what the loader was built against.
        verbose: keep the whole text, libtorch's list of backends included.
    """
    place = place_of(message)
    at = f": {place.where}: {place.code}" if place else ""
    lines = tuple(line for line in message.splitlines() if line.strip()) if verbose else ()
    if NO_VALUES in message:
        return DeviceFailedError(
            f"forward reads a tensor on the meta device, which has shapes but no values{at}",
            hint="Create that tensor on the device of an input (x.device) instead.",
            details=lines,
        )
    device = "CUDA" if CUDA.search(message) else _named(message)
    if device is None:
        return None
    built = " ".join(filter(None, (libtorch.accelerator.upper(), libtorch.accelerator_version, "build")))
    lacks = (
        f"this libtorch is a {built}"
        if libtorch.accelerator.upper() != device
        else f"this {built} cannot use it here"
    )
    asks = "Its code names" if place and device.lower() in place.code.lower() else "It needs"
    hint = (
        f"{asks} the device: use the device of an input instead (x.device), or save the model again from the CPU "
        "(model.cpu(), then script or trace again)"
    )
    hint += (
        "; or name a CUDA build with --libtorch and run it with --device cuda." if device == "CUDA" else "."
    )
    return DeviceFailedError(
        f"forward asks for {f'the device {device}' if device != ANY else 'an accelerator'}, but {lacks}{at}",
        hint=hint,
        details=lines,
    )


def _named(message: str) -> str | None:
    """The device that libtorch does not have, in capitals; ANY for an accelerator of any kind."""
    if NONE_AT_ALL in message:
        return ANY
    found = BACKEND.search(message) or OTHER.search(message)
    return next((name.upper() for name in found.groups() if name), None) if found else None


def place_of(message: str) -> SourceLine | None:
    """The innermost line in TorchScript's traceback: of the original code if known, else of the saved code."""
    for title in (ORIGINAL, SERIALIZED):
        _, found, rest = message.partition(title)
        lines = rest.partition("\nTraceback of TorchScript")[0].splitlines() if found else []
        place = frame = None
        for before, line in zip(["", *lines], lines, strict=False):
            frame = FRAME.match(line) or frame
            if HERE.match(line) and frame:
                name = re.split(r"[/\\]", frame["file"])[-1] if title == ORIGINAL else frame["file"]
                place = SourceLine(f"{name}, line {frame['line']}, in {frame['function']}", before.strip())
        if place:
            return place
    return None
