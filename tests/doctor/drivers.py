"""Substitutes for NVIDIA's libraries, compiled by the tests: environment variables control what they return."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NVML = r"""
#include <stdlib.h>
#include <string.h>
static int number(const char *name) { return getenv(name) ? atoi(getenv(name)) : 0; }
int nvmlInit_v2(void) { return number("NVML_FAILS"); }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return code == 18 ? "Driver/library version mismatch" : "Unknown Error"; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { strncpy(text, getenv("DRIVER"), size); return 0; }
int nvmlSystemGetCudaDriverVersion(int *out) { *out = number("CUDA"); return 0; }
int nvmlDeviceGetCount_v2(unsigned *out) { *out = number("GPUS"); return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) { *out = (void *)(size_t)(index + 1); return 0; }
int nvmlDeviceGetName(void *device, char *text, unsigned size) { strncpy(text, "NVIDIA Stand-in", size); return 0; }
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
  *major = number("CAPABILITY") / 10; *minor = number("CAPABILITY") % 10; return 0;
}
int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *out) {
  out[0] = 80ull << 30; out[1] = out[0]; out[2] = 0; return 0;
}
"""
LIBCUDA = r"""
#include <stdlib.h>
#include <string.h>
static int number(const char *name) { return getenv(name) ? atoi(getenv(name)) : 0; }
int cuDriverGetVersion(int *out) { *out = number("CUDA"); return 0; }
int cuInit(unsigned flags) { return number("CUINIT_FAILS"); }
int cuGetErrorString(int code, const char **out) { *out = "no CUDA-capable device is detected"; return 0; }
int cuDeviceGetCount(int *out) { *out = number("GPUS"); return 0; }
int cuDeviceGet(int *out, int index) { *out = index; return 0; }
int cuDeviceGetName(char *text, int size, int device) { strncpy(text, "NVIDIA Stand-in", size); return 0; }
int cuDeviceGetAttribute(int *out, int attribute, int device) {
  *out = attribute == 75 ? number("CAPABILITY") / 10 : number("CAPABILITY") % 10; return 0;
}
int cuDeviceTotalMem_v2(size_t *out, int device) { *out = (size_t)80 << 30; return 0; }
"""


def build_driver(directory: Path, *, nvml: bool = True, libcuda: bool = True) -> Path:
    """The libraries in a directory for LD_LIBRARY_PATH."""
    directory.mkdir(parents=True, exist_ok=True)
    for wanted, name, source in ((nvml, "libnvidia-ml.so.1", NVML), (libcuda, "libcuda.so.1", LIBCUDA)):
        if wanted:
            subprocess.run(
                ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", directory / name],
                input=source,
                text=True,
                check=True,
                capture_output=True,
            )
    return directory
