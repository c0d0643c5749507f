"""Put every fact about a libtorch together from its own files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import FileError, LibtorchUnusableError, MalformedFileError
from torchlink.libtorch.abi import read_abi
from torchlink.libtorch.companions import read_companions
from torchlink.libtorch.environment import environment_around, known_sites
from torchlink.libtorch.facts import Libtorch
from torchlink.libtorch.layout import NO_HEADERS, Layout, NoLibtorch
from torchlink.libtorch.libraries import elf_library, incomplete, library_file, library_names, odd_names
from torchlink.libtorch.machine import machine_of
from torchlink.libtorch.resolve import resolve
from torchlink.libtorch.standard import read_standard
from torchlink.libtorch.version import abbreviated, read_version, read_version_py

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torchlink.libtorch.version import VersionPy

NAME_ANOTHER = (
    "Name a directory with include/ and lib/, a wheel or a zip; `torchlink find --all` lists what is here."
)
EXTRA_INCLUDE = "torch/csrc/api/include"  # torch/torch.h and the rest of the C++ frontend

C10 = (b"_ZN3c10", b"_ZNK3c10")  # functions of namespace c10, which only libc10 provides
# The library of each accelerator. In 1.0 and 1.1 caffe2_gpu held CUDA's kernels, from 1.2 to 1.4 libtorch itself,
# where only the small c10_cuda shows that it has any.
LIBRARIES = {"cuda": ("torch_cuda",), "rocm": ("torch_hip",), "xpu": ("torch_xpu",)}
MONOLITH = {"cuda": ("caffe2_gpu", "c10_cuda"), "rocm": ("caffe2_hip", "c10_hip")}
# A version of an accelerator in version.py: `12.4`, `6.2.41133-dd7f95766`, `20250101`.
VALUE = re.compile(r"[0-9]{1,8}[A-Za-z0-9._+-]{0,40}")
NAMES = {"cuda": "CUDA", "rocm": "ROCm", "xpu": "XPU"}
# SONAMEs of the runtimes; auditwheel may have added a hash.
RUNTIME = {"cuda": "libcudart", "rocm": "libamdhip64"}
# Libraries that NEED the runtime, small ones first; libtorch_cpu may be too large to unpack.
RUNTIME_USERS = {
    "cuda": ("c10_cuda", "torch_global_deps", "torch_cpu"),
    "rocm": ("c10_hip", "torch_global_deps"),
}


def inspect(path: Path, found_by: str, *, alone: bool = False) -> Libtorch:
    """Read what the libtorch at `path` is; it may be for another machine.

    Args:
        path: anything that `resolve` accepts: a root, its lib, a directory around it, a wheel or zip.
        found_by: how it was found, for the report.
        alone: ignore what this machine has besides it, because it is meant for another one.

    Raises:
        LibtorchUnusableError: there is no libtorch, or it is incomplete or damaged.
    """
    found = resolve(path)
    if isinstance(found, NoLibtorch):
        raise LibtorchUnusableError(
            f"{path} is not a usable libtorch: {found.reason}.",
            hint=NAME_ANOTHER,
        )
    return inspect_layout(found, found_by, alone=alone)


def inspect_layout(layout: Layout, found_by: str, *, alone: bool = False) -> Libtorch:
    """Read what the libtorch with this layout is.

    Raises:
        LibtorchUnusableError: it is incomplete, or its core is damaged.
    """
    root = layout.tree.root
    try:
        lacking = incomplete(layout)
        if lacking:
            raise LibtorchUnusableError(f"{root} is not a usable libtorch: {lacking}.", hint="Reinstall it.")
        return read_facts(layout, found_by, alone=alone)
    except (FileError, MalformedFileError) as error:
        raise LibtorchUnusableError(
            f"{root} is not a usable libtorch: {error.message}", hint="Reinstall it."
        ) from error


def read_facts(layout: Layout, found_by: str, *, alone: bool = False) -> Libtorch:
    """Call the reader of each fact."""
    tree = layout.tree
    machine = machine_of(layout)
    version_py = read_version_py(layout)
    version = read_version(layout, version_py)
    accelerator = read_accelerator(layout, version_py, version.text)
    abi = read_abi(layout, machine.platform)
    standard = read_standard(layout, version.text)
    libraries = library_names(layout)
    environment = None if tree.packed else environment_around(tree.root)

    def sites() -> Iterable[Path]:
        return known_sites(environment)

    cuda = accelerator.version if accelerator.name == "cuda" else None
    companions = read_companions(layout, libraries, cuda, sites, alone=alone)
    extra = f"{layout.include}/{EXTRA_INCLUDE}"
    has_headers = tree.is_dir(layout.include)
    lacking = () if has_headers else (f"{NO_HEADERS}, so programs can be linked but not compiled",)
    libtorch = Libtorch(
        root=tree.root,
        packed=tree.packed,
        layout=layout.kind,
        found_by=found_by,
        version=version.text,
        version_from=version.source,
        platform=machine.platform,
        arch=machine.arch,
        cxx11_abi=abi.value,
        cxx11_abi_from=abi.evidence,
        cxx_standard_required=standard.required,
        cxx_standard=standard.preferred,
        cxx_standard_from=standard.evidence,
        include_dirs=tuple(tree.path(name) for name in (layout.include, extra) if tree.is_dir(name)),
        library_dir=tree.path(layout.library_dir),
        libraries=libraries,
        accelerator=accelerator.name,
        accelerator_version=accelerator.version,
        search_kind=companions.search_kind,
        search_path=companions.search_path,
        companion_dirs=companions.dirs,
        missing_libraries=companions.missing,
        python=environment.python if environment else None,
        conflicts=(
            *lacking,
            *odd_names(layout),
            *version.conflicts,
            *accelerator.conflicts,
            *abi.conflicts,
            *mixed_builds(layout),
            *companions.conflicts,
        ),
    )
    if accelerator.conflicts and libtorch.version and "+" in libtorch.version:
        # The local tag is from the file that is wrong about the accelerator.
        libtorch = libtorch._replace(version=libtorch.version.partition("+")[0])
    return libtorch


class Accelerator(NamedTuple):
    """What runs the kernels other than the CPU."""

    name: str  # see Libtorch.accelerator
    version: str | None
    conflicts: tuple[str, ...]


def read_accelerator(layout: Layout, version_py: VersionPy | None, version: str | None) -> Accelerator:
    """Read the accelerator from the libraries, its version from version.py, the local tag or the runtime."""
    signs = LIBRARIES if "torch_cpu" in layout.core else MONOLITH
    name = next(
        (name for name, bare in signs.items() if any(library_file(layout, each) for each in bare)), "cpu"
    )
    raw = {each: getattr(version_py, each, None) for each in NAMES}
    claims = {each: said if said and VALUE.fullmatch(said) else None for each, said in raw.items()}
    claims["rocm"] = short(claims["rocm"]) if claims["rocm"] else None
    conflicts = [
        f"version.py says {NAMES[each]} {abbreviated(said)}, which is not a version"
        for each, said in raw.items()
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
    if version_py and not raw[name]:
        conflicts.append(f"there is a lib{LIBRARIES[name][0]}, but version.py names no {NAMES[name]}")
    return Accelerator(name, said or runtime, tuple(conflicts))


def short(version: str) -> str:
    """Return major and minor of HIP's long version: 6.2 for `6.2.41133-dd7f95766`."""
    return ".".join(version.split(".")[:2])


def from_tag(name: str, version: str | None) -> str | None:
    """Return the accelerator's version from torch's local tag: CUDA 12.4 for `2.6.0+cu124`."""
    tag = (version or "").partition("+")[2]
    if name == "cuda" and tag.startswith("cu") and tag[2:].isdigit():
        return f"{tag[2:-1]}.{tag[-1]}"
    if name == "rocm" and tag.startswith("rocm"):
        return short(tag.removeprefix("rocm"))
    return None


def runtime_major(layout: Layout, name: str) -> str | None:
    """Return the major version in the SONAME of the accelerator's runtime that the libraries NEED."""
    for bare in RUNTIME_USERS.get(name, ()):
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


def mixed_builds(layout: Layout) -> list[str]:
    """Report a libtorch_cpu that needs functions of libc10 that the libc10 next to it does not have.

    Libraries of mixed builds load and crash, or do not even link. Releases with the same functions, as patch releases
    may have, go unnoticed.
    """
    try:
        c10, cpu = (
            None if layout.tree.packed else elf_library(layout, bare) for bare in ("c10", "torch_cpu")
        )
        if c10 is None or cpu is None:
            return []
        exports = c10.exports()
        lost = {name for name in cpu.undefined_names() if name.startswith(C10) and name not in exports}
        # Ten times slower, so only now: it leaves out weak references, and definitions that some tables mix in.
        needed = lost and [
            each.name for each in cpu.references(relocated=False) if each.name in lost and not each.weak
        ]
    except MalformedFileError:
        return []  # reported by `abi`, which reads the same files
    if not needed:
        return []
    more = f" and {len(needed) - 1} more" if len(needed) > 1 else ""
    lost_names = f"{needed[0].decode(errors='replace')}{more}"
    mixed = "libtorch_cpu.so and libc10.so are of different builds"
    return [f"{mixed}: the first needs {lost_names}, which the second does not define"]
