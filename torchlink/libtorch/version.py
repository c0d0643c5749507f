"""The version of a libtorch: stated by several files, and compiled into its libraries.

`version.py` and its like can be edited; where files contradict each other, what is in the libraries decides.
"""

from __future__ import annotations

import os
import re
import struct
from typing import TYPE_CHECKING, NamedTuple

from torchlink.bounds import whole_number
from torchlink.errors import MalformedFileError
from torchlink.libtorch.libraries import elf_library, library_file
from torchlink.shown import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.binary.elf import ElfFile
    from torchlink.libtorch.layout import Layout

EXTRACTED = "share/torch/version.py"  # where torchlink extract puts it
# The macros moved from the second file to the first in 2.10.
VERSION_HEADERS = ("torch/headeronly/version.h", "torch/csrc/api/include/torch/version.h")
PARTS = ("MAJOR", "MINOR", "PATCH")
# `2.13.0`, `2.6.0.dev20241112+cu124`, `1.13.0a0+git49444c3`; anything else is rejected, as it could be code in a build
# file.
VERSION = re.compile(r"[0-9]{1,4}(\.[0-9]{1,8}){1,3}[A-Za-z0-9._+-]{0,80}")
SHOWN = 60  # characters of an invalid version in messages
NUMBER = rb"(\d+\.\d+\.\d+)[\w.+]*"  # a release, and the rest of the version
# Strings before the version in .rodata of libtorch_cpu: its name in the build settings (to 2.8, for at::show_config),
# and the producer of ONNX graphs.
BEFORE = (b"TORCH_VERSION\0", b"GraphEncoder\0")
CODE = 32  # bytes; the function is a constant and a return


class Version(NamedTuple):
    """A version with the file it is from, and the files that contradict it."""

    text: str | None
    source: str | None
    conflicts: tuple[str, ...]


def read_version(layout: Layout, version_py: VersionPy | None) -> Version:
    """Compare what the files state; the libraries of an archive are read only where the files disagree."""
    stated = list(claimed_versions(layout, version_py))
    claims = [claim for claim in stated if is_version(claim[0])]
    invalid = tuple(
        f"{visible(file)} has no valid version: {abbreviated(text)}"
        for text, file in stated
        if not is_version(text)
    )
    unanimous = len({release(text) for text, _ in claims}) == 1
    built = None if layout.tree.packed and unanimous else built_version(layout)
    if built is not None:
        agreeing = [claim for claim in claims if release(claim[0]) == release(built[0])]
        text, source = agreeing[0] if agreeing else built
        decisive, decisive_file = built
    elif claims:
        text, source = decisive, decisive_file = claims[0]
    else:
        return Version(None, None, invalid)
    conflicts = tuple(
        f"{file} says version {claimed}, {decisive_file} says {decisive}"
        for claimed, file in claims
        if release(claimed) != release(text)
    )
    return Version(text, source, (*invalid, *conflicts))


def claimed_versions(layout: Layout, version_py: VersionPy | None) -> Iterator[tuple[str, str]]:
    """Yield (version, file) for each file that states one; those with the local tag come first."""
    tree = layout.tree
    if version_py is not None and version_py.version:
        yield version_py.version, version_py.file
    text = (tree.text("build-version") or "").strip()
    if text:
        yield text, "build-version"
    for header in VERSION_HEADERS:
        version = version_in_macros(tree.text(f"{layout.include}/{header}") or "")
        if version:
            yield version, f"{layout.include}/{header}"
            break
    if layout.cmake_dir is not None:
        name = f"{layout.cmake_dir}/TorchConfigVersion.cmake"
        version = (tree.text(name) or "").partition('PACKAGE_VERSION "')[2].partition('"')[0]
        if version:
            yield version, name
    yield from packager_versions(layout)


def is_version(text: str) -> bool:
    """Whether a text is a valid version."""
    return VERSION.fullmatch(text) is not None


def abbreviated(text: str) -> str:
    """Return the beginning of an invalid text, safe to show."""
    return visible(text[:SHOWN]) + ("…" if len(text) > SHOWN else "")


def version_in_macros(text: str) -> str | None:
    """Return the version in a header's TORCH_VERSION_MAJOR, _MINOR and _PATCH."""
    macros = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == "#define" and words[1].startswith("TORCH_VERSION_"):
            macros[words[1].removeprefix("TORCH_VERSION_")] = words[2]
    return ".".join(macros[part] for part in PARTS) if macros.keys() >= set(PARTS) else None


def packager_versions(layout: Layout) -> Iterator[tuple[str, str]]:
    """Yield the versions in pip's or conda's records of the package."""
    if layout.kind in {"pip", "wheel"}:
        for name in layout.tree.names(".."):
            stem, _, suffix = name.rpartition(".")
            if name.startswith("torch-") and suffix in {"dist-info", "egg-info"}:
                yield stem.split("-")[1], f"../{name}"
    elif layout.kind == "conda":
        for name in layout.tree.names("conda-meta"):
            package, _, rest = name.partition("-")
            if package in {"libtorch", "pytorch"} and release(rest):
                yield rest.partition("-")[0], f"conda-meta/{name}"


def release(text: str) -> tuple[int, ...] | None:
    """Return major, minor and patch of a version: (1, 13, 0) for `1.13.0a0+git`."""
    numbers: list[int] = []
    for part in text.strip().split(".")[:3]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(whole_number(digits))
        if digits != part:
            break
    return (*numbers, 0)[:3] if len(numbers) >= 2 else None


class VersionPy(NamedTuple):
    """The fields of version.py; None if they are None or absent."""

    file: str  # its name in the tree
    version: str | None
    cuda: str | None
    rocm: str | None
    xpu: str | None


def read_version_py(layout: Layout) -> VersionPy | None:
    """Read the version.py that belongs to a libtorch; None if there is none."""
    for file in candidates(layout):
        text = layout.tree.text(file)
        if text is not None:
            return parse_version_py(text, file)
    return None


def candidates(layout: Layout) -> list[str]:
    """Return where version.py may be: in the root, where extract puts it, or in the Python package of a prefix."""
    found = ["version.py"]
    if layout.kind == "zip":
        found.append(EXTRACTED)
    if layout.kind in {"conda", "system", "unknown"}:
        for python in layout.tree.names("lib"):
            if python.startswith("python3"):
                sites = (f"lib/{python}/site-packages", f"lib/{python}/dist-packages")
                found += [f"{site}/torch/version.py" for site in sites]
    return found


def parse_version_py(text: str, file: str = "version.py") -> VersionPy:
    """Parse the string assignments of version.py; nothing is executed.

    They are `cuda = '12.1'` up to 2.1 and `cuda: Optional[str] = '12.4'` from 2.2 on.
    """
    fields: dict[str, str] = {}
    for line in text.splitlines():
        target, _, value = line.partition("=")
        quoted = value.partition("#")[0].strip()
        if len(quoted) > 2 and quoted[0] in "'\"" and quoted[-1] == quoted[0]:
            fields[target.partition(":")[0].strip()] = quoted[1:-1]
    return VersionPy(
        file=file,
        version=fields.get("__version__"),
        cuda=fields.get("cuda"),
        rocm=fields.get("rocm") or fields.get("hip"),
        xpu=fields.get("xpu"),
    )


def built_version(layout: Layout) -> tuple[str, str] | None:
    """Return the release number (`2.13.0`) that is compiled into the libraries, and where it is; None if nowhere.

    The cheap ways come first; the last one reads tens of megabytes of libtorch_cpu.
    """
    try:
        cpu = None if layout.tree.packed else elf_library(layout, "torch_cpu")
        if cpu is not None and (found := from_abi_function(cpu)):
            return found, "libtorch_cpu.so (aoti_torch_abi_version)"
        python = elf_library(layout, "torch_python")
        if python is not None and (found := from_producer(python)):
            return found, "libtorch_python.so (PRODUCER_VERSION)"
        if cpu is not None and (found := from_constants(cpu)):
            return found, "libtorch_cpu.so (a constant)"
    except MalformedFileError:
        return None
    return from_file_name(layout)


def from_abi_function(cpu: ElfFile) -> str | None:
    """Read what `aoti_torch_abi_version` (since 2.7) returns: major, minor and patch in the top bytes of a constant.

    The function's code is decoded, not run.
    """
    symbol = cpu.find_symbol("aoti_torch_abi_version")
    if symbol is None:
        return None
    constant = returned_constant(cpu.read(symbol.value, CODE), cpu.machine)
    if not constant or constant >> 56 > 99:
        return None
    return f"{constant >> 56}.{constant >> 48 & 255}.{constant >> 40 & 255}"


def returned_constant(code: bytes, machine: str) -> int | None:
    """Return the 64-bit constant that a function's code returns; None for any other code."""
    if machine == "x86_64":
        code = code.removeprefix(b"\xf3\x0f\x1e\xfa")  # endbr64
        if code[:2] == b"\x48\xb8" and code[10:11] == b"\xc3":  # movabs $…,%rax; ret
            return int.from_bytes(code[2:10], "little")
        return None
    if machine != "aarch64":
        return None
    value: int | None = None
    for (word,) in struct.iter_unpack("<I", code[: len(code) // 4 * 4]):
        if word == 0xD503245F:  # bti c
            continue
        if word == 0xD65F03C0:  # ret
            return value
        shift, part = (word >> 21 & 3) * 16, word >> 5 & 0xFFFF
        if word & 0xFF80001F == 0xD2800000:  # mov x0, #…, lsl #…
            value = part << shift
        elif word & 0xFF80001F == 0xF2800000 and value is not None:  # movk x0, #…, lsl #…
            value = value & ~(0xFFFF << shift) | part << shift
        else:
            return None
    return None


def from_producer(python: ElfFile) -> str | None:
    """Read libtorch_python's `_onnx.PRODUCER_VERSION`, whose value is the string before its name."""
    around = python.find_in_section(".rodata", b"PRODUCER_VERSION\0", 64, 0)
    match = re.search(NUMBER + rb"\0+PRODUCER_VERSION\0$", around or b"")
    return match[1].decode() if match else None


def from_constants(cpu: ElfFile) -> str | None:
    """Find the version among libtorch_cpu's constants, after one of the strings `BEFORE`."""
    for needle in BEFORE:
        around = cpu.find_in_section(".rodata", b"\0" + needle, 0, 64)
        match = re.search(needle + rb"\0*" + NUMBER + rb"\0", around or b"")
        if match:
            return match[1].decode()
    return None


def from_file_name(layout: Layout) -> tuple[str, str] | None:
    """Read the version from the target of Debian's development link: `libtorch_cpu.so.1.13.0`."""
    name = library_file(layout, "torch_cpu")
    if name is None or layout.tree.packed:
        return None
    real = os.path.basename(os.path.realpath(layout.tree.path(name)))  # noqa: PTH119 - a name, not a path
    match = re.search(r"\.so\.(\d+\.\d+\.\d+)$", real)
    return (match[1], f"the file name {real}") if match else None
