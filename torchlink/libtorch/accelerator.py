"""For which accelerator a libtorch was built: its libraries tell; version.py adds the exact version."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import MalformedFileError
from torchlink.libtorch.libraries import elf_library, library_file
from torchlink.libtorch.version import abbreviated

if TYPE_CHECKING:
    from torchlink.libtorch.layout import Layout
    from torchlink.libtorch.version_py import VersionPy

# The library of each accelerator. In 1.0 and 1.1 caffe2_gpu held CUDA's kernels, from 1.2 to 1.4 libtorch
# itself, so that only the small c10_cuda tells.
LIBRARIES = {"cuda": ("torch_cuda",), "rocm": ("torch_hip",), "xpu": ("torch_xpu",)}
MONOLITH = {"cuda": ("caffe2_gpu", "c10_cuda"), "rocm": ("caffe2_hip", "c10_hip")}
# What version.py may say of an accelerator: `12.4`, `6.2.41133-dd7f95766`, `20250101`.
VALUE = re.compile(r"[0-9]{1,8}[A-Za-z0-9._+-]{0,40}")
NAMES = {"cuda": "CUDA", "rocm": "ROCm", "xpu": "XPU"}
# SONAMEs of the runtimes; a wheel may have grafted one in under a name with a hash.
RUNTIME = {"cuda": "libcudart", "rocm": "libamdhip64"}
# Small libraries that NEED the runtime, tried in this order; libtorch_cpu last because it may be packed.
ASKED = {"cuda": ("c10_cuda", "torch_global_deps", "torch_cpu"), "rocm": ("c10_hip", "torch_global_deps")}


class Accelerator(NamedTuple):
    """What runs the kernels beside the CPU."""

    name: str  # see Libtorch.accelerator
    version: str | None
    conflicts: tuple[str, ...]


def read_accelerator(layout: Layout, version_py: VersionPy | None, version: str | None) -> Accelerator:
    """Tell the accelerator from the libraries, its version from version.py, the local tag or the runtime."""
    signs = LIBRARIES if "torch_cpu" in layout.core else MONOLITH
    name = next(
        (name for name, bare in signs.items() if any(library_file(layout, each) for each in bare)), "cpu"
    )
    told = {each: getattr(version_py, each, None) for each in NAMES}
    claims = {each: said if said and VALUE.fullmatch(said) else None for each, said in told.items()}
    claims["rocm"] = short(claims["rocm"]) if claims["rocm"] else None
    conflicts = [
        f"version.py says {NAMES[each]} {abbreviated(said)}, which is no version"
        for each, said in told.items()
        if said and not claims[each]
    ]
    conflicts += [
        f"version.py says {NAMES[other]} {said}, but there is no lib{LIBRARIES[other][0]}"
        for other, said in claims.items()
        if said and other != name
    ]
    if name == "cpu":
        return Accelerator(name, None, tuple(conflicts))
    said = claims[name] or from_tag(name, version)
    runtime = runtime_major(layout, name)
    if said and runtime and said.split(".")[0] != runtime:
        conflicts.append(
            f"version.py says {NAMES[name]} {said}, but the libraries need the runtime of "
            f"{NAMES[name]} {runtime}"
        )
        said = runtime
    if version_py and not told[name]:
        conflicts.append(f"lib{LIBRARIES[name][0]} is there, but version.py names no {NAMES[name]}")
    return Accelerator(name, said or runtime, tuple(conflicts))


def short(version: str) -> str:
    """Major and minor of HIP's long version: `6.2.41133-dd7f95766` is 6.2."""
    return ".".join(version.split(".")[:2])


def from_tag(name: str, version: str | None) -> str | None:
    """The accelerator's version in the local tag of torch's: `2.6.0+cu124` is CUDA 12.4."""
    tag = (version or "").partition("+")[2]
    if name == "cuda" and tag.startswith("cu") and tag[2:].isdigit():
        return f"{tag[2:-1]}.{tag[-1]}"
    if name == "rocm" and tag.startswith("rocm"):
        return short(tag.removeprefix("rocm"))
    return None


def runtime_major(layout: Layout, name: str) -> str | None:
    """The major version in the SONAME of the accelerator's runtime, which the libraries NEED."""
    for bare in ASKED.get(name, ()):
        try:
            library = elf_library(layout, bare)
        except MalformedFileError:
            continue
        for needed in library.dynamic.needed if library else ():
            stem, _, version = needed.partition(".so.")
            major = version.split(".")[0]
            if stem.partition("-")[0] == RUNTIME[name] and major.isascii() and major.isdigit():
                return major
    return None
