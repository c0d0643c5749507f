"""Packages in site directories: where `import torch` leads, and which PyPI package contains a library."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.bounds import LONGEST_JSON, load_json, whole_number
from torchlink.libtorch.disk import absolute, is_dir, is_file, names_in, read_bytes, read_text
from torchlink.libtorch.names import NVIDIA_PACKAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.libtorch.layout import Layout


# From CUDA 13 on the packages of the toolkit's parts have no suffix; those with releases of their own keep it.
KEEP_SUFFIX = {"cudnn", "cusparselt", "nccl", "nvshmem"}
# From CUDA 13 on torch requires the toolkit's parts as extras of one package. EXTRAS: where the names differ.
TOOLKIT = "cuda-toolkit"
EXTRAS = {"cuda-runtime": "cudart", "cuda-cupti": "cupti", "cuda-nvrtc": "nvrtc"}
# Beginnings of the SONAMEs that XPU and ROCm builds need, longer ones first → package (Intel's as of 2026).
OTHERS = {
    "libmkl_sycl_": "onemkl-sycl-",  # one package per part
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


def directories_in(path: Path) -> Iterator[Path]:
    """Yield the directories that a `.pth` or `.egg-link` file names; import lines are not run.

    Relative names start at the file's own directory. An `.egg-link`, an old format of setuptools, names one directory,
    in its first line.
    """
    lines = read_text(path).splitlines()
    for line in lines[:1] if path.suffix == ".egg-link" else lines:
        entry = line.strip()
        if entry and not entry.startswith(("#", "import ", "import\t")) and is_dir(path.parent / entry):
            yield absolute(path.parent / entry)


def added_sites(site: Path) -> Iterator[Path]:
    """Yield the directories that the `.pth` files in a site directory add to sys.path, in Python's order."""
    for name in names_in(site):
        if name.endswith(".pth") and not name.startswith("."):
            yield from directories_in(site / name)


def torch_in(site: Path) -> Iterator[Path]:
    """Yield the torch directories that an entry of sys.path leads to, in Python's order."""
    if is_dir(site / "torch"):
        yield site / "torch"
        if is_file(site / "torch" / "__init__.py"):
            return
    for name in names_in(site):
        if name.endswith((".pth", ".egg-link")):
            yield from (path / "torch" for path in directories_in(site / name) if is_dir(path / "torch"))
        elif name.startswith(("__editable___torch_", "_torch_editable")) and name.endswith(".py"):
            yield from from_finder(site / name)
        elif name.startswith("torch-") and name.endswith(".dist-info"):
            yield from from_direct_url(site / name / "direct_url.json")


def from_finder(path: Path) -> Iterator[Path]:
    """Yield the directory to which the finder of an editable install maps torch."""
    # setuptools maps packages to directories in a dict literal, scikit-build-core to __init__.py files.
    for match in re.finditer(r"""['"]torch['"]\s*:\s*['"]([^'"\n]+)['"]""", read_text(path)):
        directory = Path(match[1])
        directory = directory.parent if directory.suffix == ".py" else directory
        if is_dir(directory):
            yield directory
            return


def from_direct_url(path: Path) -> Iterator[Path]:
    """Yield the source tree that pip recorded for an editable install (PEP 610)."""
    from urllib.parse import unquote, urlparse

    try:
        record = load_json(read_bytes(path, LONGEST_JSON + 1) or b"{}")
    except ValueError:
        return
    if (
        isinstance(record, dict)
        and isinstance(record.get("dir_info"), dict)
        and record["dir_info"].get("editable")
    ):
        source = Path(unquote(urlparse(str(record.get("url", ""))).path)) / "torch"
        if is_dir(source):
            yield source


def unread(site: Path) -> str | None:
    """Report the record of an editable install in a site directory that is too large to read."""
    for name in names_in(site):
        if name.startswith("torch-") and name.endswith(".dist-info"):
            path = site / name / "direct_url.json"
            if len(read_bytes(path, LONGEST_JSON + 1)) > LONGEST_JSON:
                return f"{path} is larger than {LONGEST_JSON >> 20} MB and is not read"
    return None


def package_of(library: str, cuda: str | None, requires: str = "") -> str | None:
    """Return the PyPI package that contains a library; None if unknown.

    Args:
        library: SONAME, such as `libcupti.so.13`.
        cuda: torch's CUDA version, such as `13.2`.
        requires: text of torch's METADATA; a name for the package in it takes precedence.
    """
    match = re.match(r"([\w+-]+?)(?:[_.]\d[\w.]*)?\.so(?:\.|$)", library)
    stem = match[1] if match else library
    parts = (NVIDIA_PACKAGES[known] for known in NVIDIA_PACKAGES if stem.startswith(f"{known}_"))
    part = NVIDIA_PACKAGES.get(stem) or next(parts, None)
    if part is None:
        prefix = next((known for known in OTHERS if stem.startswith(known)), "")
        if not prefix.endswith("sycl_"):
            return OTHERS.get(prefix)
        rest = stem[len(prefix) :]
        return OTHERS[prefix] + rest if re.fullmatch(r"[a-z0-9_]+", rest) else None
    named = re.search(rf"^Requires-Dist:\s*(nvidia-{part}(?:-cu\d+)?)(?![\w-])", requires, re.MULTILINE)
    if named:
        return named[1]
    major = (cuda or "").split(".")[0]
    if not major or (major.isdigit() and whole_number(major) >= 13 and part not in KEEP_SUFFIX):
        return f"nvidia-{part}"
    return f"nvidia-{part}-cu{major}"


def pinned(package: str, requires: str) -> str | None:
    """Return torch's requirement for a package, from its METADATA, without the marker.

    Args:
        package: its name, such as `nvidia-cudnn-cu13`; the extras of `cuda-toolkit` are searched as well.
        requires: text of METADATA.

    Returns:
        `nvidia-cudnn-cu13==9.26.0.51` or `cuda-toolkit[cublas]==13.2.2`; None if torch does not require it.
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


def _with_version(package: str, declared: str) -> str:
    """Add the versions from METADATA to a package's name, if they are valid (PEP 440)."""
    versions = re.sub(r"[\s()]", "", declared)
    return package + versions if not versions or VERSIONS.fullmatch(versions) else package


def metadata(layout: Layout) -> str:
    """Return the METADATA of the torch distribution that a libtorch belongs to; empty if there is none."""
    for name in layout.tree.names(".."):
        if name.startswith("torch-") and name.endswith(".dist-info"):
            return layout.tree.text(f"../{name}/METADATA") or ""
    return ""
