"""NVIDIA's driver and GPUs, and whether a libtorch's accelerator libraries can run on them.

The driver is queried through NVML, else libcuda, else nvidia-smi; never through torch. NVML is loaded into this
process, as nvidia-smi does, which takes a tenth of the time of starting nvidia-smi. A container may have NVML without
libcuda (`NVIDIA_DRIVER_CAPABILITIES=utility`), where no CUDA program runs, or libcuda without NVML (`compute`).

Sources: NVIDIA's "CUDA Compatibility" (from CUDA 11 on every release of a major version runs on every driver
of that major version or a later one; before, each needs its own) and the CUDA toolkits' release notes (which
compute capabilities each major version still and already compiles for).
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchlink.bounds import whole_number
from torchlink.doctor.report import AcceleratorFit, Driver, InstalledGpu
from torchlink.errors import ResourcesError, TorchlinkError
from torchlink.process import run, which
from torchlink.status import not_about_the_file

if TYPE_CHECKING:
    from torchlink.libtorch.facts import Libtorch


NVML = ("libnvidia-ml.so.1", "nvml.dll")
LIBCUDA = ("libcuda.so.1", "nvcuda.dll")
NAME_SIZE = 96  # bytes; NVML_DEVICE_NAME_V2_BUFFER_SIZE
# CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h
CAPABILITY = (75, 76)
SMI = ("--query-gpu=driver_version,name,compute_cap,memory.total", "--format=csv,noheader,nounits")
PCI = Path("/sys/bus/pci/devices")
NVIDIA, DISPLAY = "0x10de", "0x03"  # PCI vendor; prefix of a display controller's class
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
KFD = Path("/dev/kfd")  # the device file of AMD's driver


class _CallFailed(Exception):  # noqa: N818 - caught in this module
    """A library's function did not return success; the message says why."""


def read_driver() -> Driver:
    """Query the driver through the first interface that is available."""
    nvml = _load(NVML)
    cuda = _load(LIBCUDA)
    problem = None
    if nvml is not None:
        try:
            found = ask_nvml(nvml)
        except _CallFailed as error:
            problem = f"NVIDIA's driver does not answer: {error}"
        else:
            if cuda is None:
                return Driver(found.version, found.cuda, found.gpus, "NVML", "libcuda.so.1 is missing")
            return found
    if cuda is not None:
        try:
            return ask_libcuda(cuda)
        except _CallFailed as error:
            problem = problem or f"NVIDIA's driver does not answer: {error}"
    smi = which("nvidia-smi")
    if smi is not None and problem is None:
        return ask_smi(smi)
    if problem is None:
        problem = "there is an NVIDIA GPU, but no driver" if has_nvidia_gpu() else "there is no NVIDIA driver"
    return Driver(None, None, (), None, problem)


def _load(names: tuple[str, ...]) -> ctypes.CDLL | None:
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def ask_nvml(library: Any) -> Driver:
    """Query NVML. Every function returns 0 for success (`nvmlReturn_t`)."""

    def call(function: str, *arguments: Any) -> None:
        try:
            code = getattr(library, function)(*arguments)
        except AttributeError:
            raise _CallFailed(f"it has no {function}") from None
        if code != 0:
            library.nvmlErrorString.restype = ctypes.c_char_p
            raise _CallFailed(
                (library.nvmlErrorString(code) or b"").decode(errors="replace") or f"error {code}"
            )

    call("nvmlInit_v2")
    try:
        text = ctypes.create_string_buffer(NAME_SIZE)
        call("nvmlSystemGetDriverVersion", text, NAME_SIZE)
        version = text.value.decode(errors="replace")
        number = ctypes.c_int()
        call("nvmlSystemGetCudaDriverVersion", ctypes.byref(number))
        count = ctypes.c_uint()
        call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        gpus = []
        for index in range(count.value):
            device = ctypes.c_void_p()
            call("nvmlDeviceGetHandleByIndex_v2", index, ctypes.byref(device))
            call("nvmlDeviceGetName", device, text, NAME_SIZE)
            major, minor = ctypes.c_int(), ctypes.c_int()
            call("nvmlDeviceGetCudaComputeCapability", device, ctypes.byref(major), ctypes.byref(minor))
            memory = (ctypes.c_ulonglong * 3)()  # nvmlMemory_t: total, free, used
            call("nvmlDeviceGetMemoryInfo", device, memory)
            name = text.value.decode(errors="replace")
            gpus.append(InstalledGpu(name, (major.value, minor.value), memory[0] >> 20))
    finally:
        library.nvmlShutdown()
    return Driver(
        version, cuda_version(number.value), tuple(gpus), "NVML", None if gpus else "there is no GPU"
    )


def ask_libcuda(library: Any) -> Driver:
    """Query libcuda. Every function returns 0 for success (`CUresult`)."""

    def call(function: str, *arguments: Any) -> None:
        code = getattr(library, function)(*arguments)
        if code != 0:
            text = ctypes.c_char_p()
            library.cuGetErrorString(code, ctypes.byref(text))
            raise _CallFailed((text.value or b"").decode(errors="replace") or f"error {code}")

    number = ctypes.c_int()
    call("cuDriverGetVersion", ctypes.byref(number))
    cuda = cuda_version(number.value)
    try:
        call("cuInit", 0)
        count = ctypes.c_int()
        call("cuDeviceGetCount", ctypes.byref(count))
        gpus = []
        for index in range(count.value):
            device = ctypes.c_int()
            call("cuDeviceGet", ctypes.byref(device), index)
            text = ctypes.create_string_buffer(NAME_SIZE)
            call("cuDeviceGetName", text, NAME_SIZE, device)
            parts = []
            for attribute in CAPABILITY:
                value = ctypes.c_int()
                call("cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
                parts.append(value.value)
            memory = ctypes.c_size_t()
            call("cuDeviceTotalMem_v2", ctypes.byref(memory), device)
            name = text.value.decode(errors="replace")
            gpus.append(InstalledGpu(name, (parts[0], parts[1]), memory.value >> 20))
    except _CallFailed as error:
        return Driver(None, cuda, (), "libcuda", str(error))
    return Driver(None, cuda, tuple(gpus), "libcuda", None if gpus else "there is no GPU")


def ask_smi(program: str) -> Driver:
    """Query nvidia-smi, for use where neither library can be loaded into this process."""
    try:
        table = run((program, *SMI), timeout=10)
        page = run((program,), timeout=10)
    except ResourcesError:
        raise
    except TorchlinkError as error:
        return Driver(None, None, (), "nvidia-smi", error.message.rstrip("."))
    if table.returncode != 0:
        lines = (table.stdout or table.stderr).strip().splitlines() or ["nvidia-smi failed"]
        return Driver(None, None, (), "nvidia-smi", lines[0].rstrip("."))
    return read_smi(table.stdout, page.stdout)


def read_smi(table: str, page: str) -> Driver:
    """Parse the table of `nvidia-smi --query-gpu`, and CUDA's version in the header of plain `nvidia-smi`."""
    version = None
    gpus = []
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != 4:
            continue
        version = cells[0]
        capability = re.fullmatch(r"(\d+)\.(\d+)", cells[2])
        gpus.append(
            InstalledGpu(
                cells[1],
                (int(capability[1]), int(capability[2])) if capability else None,
                int(cells[3]) if cells[3].isdigit() else None,
            )
        )
    cuda = re.search(r"CUDA Version:\s*(\d+)\.(\d+)", page)
    return Driver(
        version,
        (int(cuda[1]), int(cuda[2])) if cuda else None,
        tuple(gpus),
        "nvidia-smi",
        None if gpus else "there is no GPU",
    )


def cuda_version(number: int) -> tuple[int, int]:
    """Return CUDA's version from the driver's number: 12040 is 12.4."""
    return number // 1000, number % 1000 // 10


def has_nvidia_gpu(devices: Path = PCI) -> bool:
    """Whether an NVIDIA display controller is on the PCI bus (Linux; elsewhere False)."""
    for device in devices.glob("*"):
        try:
            vendor = (device / "vendor").read_text(encoding="ascii")
            kind = (device / "class").read_text(encoding="ascii")
        except OSError as error:
            not_about_the_file(device, error)
            continue
        if vendor.strip() == NVIDIA and kind.startswith(DISPLAY):
            return True
    return False


def accelerator_fit(libtorch: Libtorch, driver: Driver) -> AcceleratorFit | None:
    """Check one libtorch; None for a CPU build."""
    if libtorch.accelerator == "cuda":
        return AcceleratorFit(libtorch, *cuda_fit(version_of(libtorch), driver))
    if libtorch.accelerator == "rocm":
        there = KFD.exists()
        return AcceleratorFit(libtorch, there, f"{KFD} exists" if there else f"{KFD} is missing")
    if libtorch.accelerator == "cpu":
        return None
    return AcceleratorFit(libtorch, None, f"torchlink cannot detect {libtorch.accelerator.upper()} devices")


def version_of(libtorch: Libtorch) -> Version | None:
    """Return major and minor of the CUDA that a libtorch was built with; 0 for an unknown minor."""
    parts = [whole_number(part) for part in (libtorch.accelerator_version or "").split(".") if part.isdigit()]
    return (parts[0], parts[1] if len(parts) > 1 else 0) if parts else None


def cuda_fit(build: Version | None, driver: Driver) -> tuple[bool | None, str]:
    """Whether a CUDA build runs with this driver and its GPUs, and why.

    Args:
        build: the CUDA version of the build.
        driver: this machine's.
    """
    if driver.problem:
        return False, driver.problem
    if build is None or driver.cuda is None:
        return None, "the CUDA version of the build or of the driver is unknown"
    named = f"CUDA {build[0]}.{build[1]}"
    if driver.cuda < (build[0], 0) or (build[0] < 11 and driver.cuda < build):
        needed = (
            f", which needs driver {FIRST_DRIVERS[build[0]]} or newer" if build[0] in FIRST_DRIVERS else ""
        )
        has = f"driver {driver.version}" if driver.version else "the driver"
        return False, f"{has} supports up to CUDA {dotted(driver.cuda)}, and this is a {named} build{needed}"
    refusals = [reason for gpu in driver.gpus if (reason := gpu_misfit(build, gpu))]
    if refusals and len(refusals) == len(driver.gpus):
        return False, refusals[0]
    return True, f"{driver.gpus[0].name}; the driver supports up to CUDA {dotted(driver.cuda)}"


def gpu_misfit(build: Version, gpu: InstalledGpu) -> str | None:
    """Return why a build has no kernels for a GPU, or None."""
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
