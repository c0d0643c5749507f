"""NVIDIA's driver and GPUs: asked of NVML, else of libcuda, else of nvidia-smi; never of torch.

NVML is loaded into this process, as nvidia-smi itself does it: a tenth of the time that a process costs.
A container may have NVML without libcuda (`NVIDIA_DRIVER_CAPABILITIES=utility`), where no CUDA program runs,
or libcuda without NVML (`compute`).
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

from torchlink.doctor.facts import Driver, Gpu
from torchlink.errors import ResourcesError, TorchlinkError
from torchlink.process import run, which
from torchlink.status import not_about_the_file

NVML = ("libnvidia-ml.so.1", "nvml.dll")
LIBCUDA = ("libcuda.so.1", "nvcuda.dll")
NAME_SIZE = 96  # bytes; NVML_DEVICE_NAME_V2_BUFFER_SIZE
# CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h
CAPABILITY = (75, 76)
SMI = ("--query-gpu=driver_version,name,compute_cap,memory.total", "--format=csv,noheader,nounits")
PCI = Path("/sys/bus/pci/devices")
NVIDIA, DISPLAY = "0x10de", "0x03"  # PCI vendor; how a display controller's class begins


class _Refused(Exception):  # noqa: N818 - it is no error of torchlink's
    """A library's function returned something else than success; the sentence says what."""


def read_driver() -> Driver:
    """Ask whoever is there."""
    nvml = _load(NVML)
    cuda = _load(LIBCUDA)
    problem = None
    if nvml is not None:
        try:
            found = ask_nvml(nvml)
        except _Refused as refused:
            problem = f"NVIDIA's driver does not answer: {refused}"
        else:
            if cuda is None:
                return Driver(found.version, found.cuda, found.gpus, "NVML", "libcuda.so.1 is missing")
            return found
    if cuda is not None:
        try:
            return ask_libcuda(cuda)
        except _Refused as refused:
            problem = problem or f"NVIDIA's driver does not answer: {refused}"
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
    """What NVML tells. Every function returns 0 for success (`nvmlReturn_t`)."""

    def call(function: str, *arguments: Any) -> None:
        try:
            code = getattr(library, function)(*arguments)
        except AttributeError:
            raise _Refused(f"it has no {function}") from None
        if code != 0:
            library.nvmlErrorString.restype = ctypes.c_char_p
            raise _Refused((library.nvmlErrorString(code) or b"").decode(errors="replace") or f"error {code}")

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
            gpus.append(Gpu(name, (major.value, minor.value), memory[0] >> 20))
    finally:
        library.nvmlShutdown()
    return Driver(
        version, cuda_version(number.value), tuple(gpus), "NVML", None if gpus else "there is no GPU"
    )


def ask_libcuda(library: Any) -> Driver:
    """What the driver's own library tells. Every function returns 0 for success (`CUresult`)."""

    def call(function: str, *arguments: Any) -> None:
        code = getattr(library, function)(*arguments)
        if code != 0:
            text = ctypes.c_char_p()
            library.cuGetErrorString(code, ctypes.byref(text))
            raise _Refused((text.value or b"").decode(errors="replace") or f"error {code}")

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
            gpus.append(Gpu(name, (parts[0], parts[1]), memory.value >> 20))
    except _Refused as refused:
        return Driver(None, cuda, (), "libcuda", str(refused))
    return Driver(None, cuda, tuple(gpus), "libcuda", None if gpus else "there is no GPU")


def ask_smi(program: str) -> Driver:
    """What `nvidia-smi` prints, where neither library can be loaded into this process."""
    try:
        table = run((program, *SMI), timeout=10)
        page = run((program,), timeout=10)
    except ResourcesError:
        raise
    except TorchlinkError as error:
        return Driver(None, None, (), "nvidia-smi", error.message.rstrip("."))
    if table.returncode != 0:
        said = (table.stdout or table.stderr).strip().splitlines() or ["nvidia-smi fails"]
        return Driver(None, None, (), "nvidia-smi", said[0].rstrip("."))
    return read_smi(table.stdout, page.stdout)


def read_smi(table: str, page: str) -> Driver:
    """Read the table of `nvidia-smi --query-gpu`, and CUDA's version from the head of its page."""
    version = None
    gpus = []
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != 4:
            continue
        version = cells[0]
        capability = re.fullmatch(r"(\d+)\.(\d+)", cells[2])
        gpus.append(
            Gpu(
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
    """CUDA's version from the number that the driver gives: 12040 is 12.4."""
    return number // 1000, number % 1000 // 10


def has_nvidia_gpu(devices: Path = PCI) -> bool:
    """Whether an NVIDIA display controller is on the PCI bus (Linux; elsewhere it cannot be told)."""
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
