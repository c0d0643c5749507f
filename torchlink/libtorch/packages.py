"""Which PyPI package brings a library that libtorch's wheels leave to others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.bounds import whole_number
from torchlink.libtorch.names import NVIDIA_PACKAGES

if TYPE_CHECKING:
    from torchlink.libtorch.layout import Layout

# From CUDA 13 on the toolkit's own parts go without suffix; what has releases of its own keeps it.
KEEP_SUFFIX = {"cudnn", "cusparselt", "nccl", "nvshmem"}
# From CUDA 13 on torch requires the toolkit's parts as extras of one package; where they are called otherwise.
TOOLKIT = "cuda-toolkit"
EXTRAS = {"cuda-runtime": "cudart", "cuda-cupti": "cupti", "cuda-nvrtc": "nvrtc"}
# How SONAMEs begin that XPU and ROCm builds need, the longer first → package (Intel's by their wheels of 2026).
OTHERS = {
    "libmkl_sycl_": "onemkl-sycl-",  # each part is a package
    "libmkl": "mkl",
    "libiomp5": "intel-openmp",
    "libsycl": "intel-sycl-rt",
    "libur_": "intel-cmplr-lib-ur",
    "libimf": "intel-cmplr-lib-rt",
    "libintlc": "intel-cmplr-lib-rt",
    "libirng": "intel-cmplr-lib-rt",
    "libsvml": "intel-cmplr-lib-rt",
    "libOpenCL": "intel-opencl-rt",
    "libpti_view": "intel-pti",
    "libumf": "umf",
    "libhwloc": "tcmlib",
    "libccl": "oneccl",
    "libmpi": "impi-rt",
    "libamdhip64": "rocm-sdk-core",
    "libhipblas": "rocm-sdk-libraries",
    "librocblas": "rocm-sdk-libraries",
    "libMIOpen": "rocm-sdk-libraries",
}

# What PEP 440 calls a version specifier: `==9.26.0.51`, `>=12,<13`.
VERSIONS = re.compile(r"(?:[<>=!~]=?=?[A-Za-z0-9.*+!_-]{1,60},?){1,8}")


def package_of(library: str, cuda: str | None, requires: str = "") -> str | None:
    """The package that brings a library, or None where it is not known.

    Args:
        library: SONAME, such as `libcupti.so.13`.
        cuda: torch's CUDA version, such as `13.2`.
        requires: text of torch's METADATA; where it names a package for this library, that name is taken.
    """
    match = re.match(r"([\w+-]+?)(?:[_.]\d[\w.]*)?\.so(?:\.|$)", library)
    stem = match[1] if match else library
    parts = (NVIDIA_PACKAGES[known] for known in NVIDIA_PACKAGES if stem.startswith(f"{known}_"))
    part = NVIDIA_PACKAGES.get(stem) or next(parts, None)
    if part is None:
        begins = next((known for known in OTHERS if stem.startswith(known)), "")
        if not begins.endswith("sycl_"):
            return OTHERS.get(begins)
        rest = stem[len(begins) :]
        return OTHERS[begins] + rest if re.fullmatch(r"[a-z0-9_]+", rest) else None
    named = re.search(rf"^Requires-Dist:\s*(nvidia-{part}(?:-cu\d+)?)(?![\w-])", requires, re.MULTILINE)
    if named:
        return named[1]
    major = (cuda or "").split(".")[0]
    if not major or (major.isdigit() and whole_number(major) >= 13 and part not in KEEP_SUFFIX):
        return f"nvidia-{part}"
    return f"nvidia-{part}-cu{major}"


def pinned(package: str, requires: str) -> str | None:
    """The requirement by which torch's METADATA asks for a package: without marker, in PEP 440's short form.

    Args:
        package: its name, such as `nvidia-cudnn-cu13`; a part of CUDA's toolkit is looked for in the extras of
            `cuda-toolkit`, too.
        requires: text of METADATA.

    Returns:
        `nvidia-cudnn-cu13==9.26.0.51` or `cuda-toolkit[cublas]==13.2.2`; None where torch does not ask for it.
    """
    direct = re.search(rf"^Requires-Dist:\s*{re.escape(package)}(?![\w-])([^;\n]*)", requires, re.MULTILINE)
    if direct:
        return _with_version(package, direct[1])
    part = package.removeprefix("nvidia-")
    extra = EXTRAS.get(part, part)
    toolkit = re.search(rf"^Requires-Dist:\s*{TOOLKIT}\[([^]]*)\]([^;\n]*)", requires, re.MULTILINE)
    if toolkit and extra in re.split(r"\s*,\s*", toolkit[1].strip()):
        return _with_version(f"{TOOLKIT}[{extra}]", toolkit[2])
    return None


def _with_version(package: str, said: str) -> str:
    """A requirement with the versions that METADATA asks for; without them where they are none (PEP 440)."""
    versions = re.sub(r"[\s()]", "", said)
    return package + versions if not versions or VERSIONS.fullmatch(versions) else package


def metadata(layout: Layout) -> str:
    """The METADATA of torch's distribution beside a libtorch; empty where there is none."""
    for name in layout.tree.names(".."):
        if name.startswith("torch-") and name.endswith(".dist-info"):
            return layout.tree.text(f"../{name}/METADATA") or ""
    return ""
