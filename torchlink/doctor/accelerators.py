"""Whether the GPU half of a libtorch can run here: the driver's age and the GPU's generation against the build.

Sources: NVIDIA's "CUDA Compatibility" (from CUDA 11 on every release of a major version runs on every driver
of that major version or a later one; before, each needs its own) and the CUDA toolkits' release notes (which
compute capabilities each major version still and already compiles for).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.bounds import whole_number
from torchlink.doctor.facts import AcceleratorFit

if TYPE_CHECKING:
    from torchlink.doctor.facts import Driver, Gpu
    from torchlink.libtorch.facts import Libtorch

Version = tuple[int, int]

# The first driver of each CUDA major version (Linux).
FIRST_DRIVERS = {9: "384.81", 10: "410.48", 11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
# The oldest compute capability that a CUDA major version compiles for.
OLDEST_GPUS: dict[int, Version] = {9: (3, 0), 10: (3, 0), 11: (3, 5), 12: (5, 0), 13: (7, 5)}
# Compute capability, and the first CUDA that compiles for GPUs of this major generation.
FIRST_CUDA: tuple[tuple[Version, Version], ...] = (
    ((12, 0), (12, 8)),
    ((10, 0), (12, 8)),
    ((9, 0), (11, 8)),
    ((8, 0), (11, 0)),
    ((7, 0), (9, 0)),
)
KFD = Path("/dev/kfd")  # the door to AMD's driver


def accelerator_fit(libtorch: Libtorch, driver: Driver) -> AcceleratorFit | None:
    """Check one libtorch; None for one without a GPU half."""
    if libtorch.accelerator == "cuda":
        return AcceleratorFit(libtorch, *cuda_fit(version_of(libtorch), driver))
    if libtorch.accelerator == "rocm":
        there = KFD.exists()
        return AcceleratorFit(libtorch, there, f"{KFD} is there" if there else f"there is no {KFD}")
    if libtorch.accelerator == "cpu":
        return None
    return AcceleratorFit(
        libtorch, None, f"torchlink does not look for {libtorch.accelerator.upper()} devices"
    )


def version_of(libtorch: Libtorch) -> Version | None:
    """Major and minor of the CUDA that a libtorch was built with; 0 for a minor that its files do not tell."""
    parts = [whole_number(part) for part in (libtorch.accelerator_version or "").split(".") if part.isdigit()]
    return (parts[0], parts[1] if len(parts) > 1 else 0) if parts else None


def cuda_fit(build: Version | None, driver: Driver) -> tuple[bool | None, str]:
    """Whether a CUDA build runs with this driver and its GPUs, and why.

    Args:
        build: the CUDA version of the build.
        driver: what is here.
    """
    if driver.problem:
        return False, driver.problem
    if build is None or driver.cuda is None:
        return None, "the CUDA version of the build or of the driver is not known"
    named = f"CUDA {build[0]}.{build[1]}"
    if driver.cuda < (build[0], 0) or (build[0] < 11 and driver.cuda < build):
        needed = (
            f", which needs driver {FIRST_DRIVERS[build[0]]} or newer" if build[0] in FIRST_DRIVERS else ""
        )
        has = f"driver {driver.version}" if driver.version else "the driver"
        return False, f"{has} serves up to CUDA {dotted(driver.cuda)}, and this is a {named} build{needed}"
    refusals = [reason for gpu in driver.gpus if (reason := gpu_misfit(build, gpu))]
    if refusals and len(refusals) == len(driver.gpus):
        return False, refusals[0]
    return True, f"{driver.gpus[0].name}; the driver serves up to CUDA {dotted(driver.cuda)}"


def gpu_misfit(build: Version, gpu: Gpu) -> str | None:
    """Why a build has no kernels for a GPU, or None."""
    if gpu.capability is None:
        return None
    oldest = OLDEST_GPUS.get(build[0])
    if oldest and gpu.capability < oldest:
        return (
            f"{gpu.name} (compute capability {dotted(gpu.capability)}) is too old for CUDA {build[0]}, "
            f"which compiles for {dotted(oldest)} and newer"
        )
    first = next((cuda for generation, cuda in FIRST_CUDA if gpu.capability >= generation), None)
    if first and build < first and build[1]:
        return (
            f"{gpu.name} (compute capability {dotted(gpu.capability)}) is newer than CUDA {dotted(build)}: "
            f"it needs a build with CUDA {dotted(first)} or newer"
        )
    return None


def dotted(version: Version) -> str:
    """`(12, 4)` as 12.4."""
    return f"{version[0]}.{version[1]}"
