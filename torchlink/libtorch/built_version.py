"""The version that was compiled into a libtorch's libraries, which no edited text file can change."""

from __future__ import annotations

import os
import re
import struct
from typing import TYPE_CHECKING

from torchlink.errors import MalformedFileError
from torchlink.libtorch.libraries import elf_library, library_file

if TYPE_CHECKING:
    from torchlink.binary.elf import ElfFile
    from torchlink.libtorch.layout import Layout

NUMBER = rb"(\d+\.\d+\.\d+)[\w.+]*"  # a release, and what else belongs to the version
# In .rodata of libtorch_cpu the version follows the build settings' name of it (to 2.8, for at::show_config)
# and the name of the graph in ONNX models.
BEFORE = (b"TORCH_VERSION\0", b"GraphEncoder\0")
CODE = 32  # bytes; the function is a constant and a return


def built_version(layout: Layout) -> tuple[str, str] | None:
    """Release number (`2.13.0`) and which library told it how, or None where none of them tells.

    The cheap ways come first; the last one reads tens of megabytes of libtorch_cpu.
    """
    try:
        cpu = None if layout.tree.packed else elf_library(layout, "torch_cpu")
        if cpu is not None and (told := from_abi_function(cpu)):
            return told, "libtorch_cpu.so (aoti_torch_abi_version)"
        python = elf_library(layout, "torch_python")
        if python is not None and (told := from_producer(python)):
            return told, "libtorch_python.so (PRODUCER_VERSION)"
        if cpu is not None and (told := from_constants(cpu)):
            return told, "libtorch_cpu.so (a constant)"
    except MalformedFileError:
        return None
    return from_file_name(layout)


def from_abi_function(cpu: ElfFile) -> str | None:
    """From `aoti_torch_abi_version`, which returns major, minor and patch as the top bytes of a constant.

    There since 2.7. The function's code is decoded, not run.
    """
    symbol = cpu.find_symbol("aoti_torch_abi_version")
    if symbol is None:
        return None
    constant = returned_constant(cpu.read(symbol.value, CODE), cpu.machine)
    if not constant or constant >> 56 > 99:
        return None
    return f"{constant >> 56}.{constant >> 48 & 255}.{constant >> 40 & 255}"


def returned_constant(code: bytes, machine: str) -> int | None:
    """The 64-bit constant that a function returns at once, or None where its code is of another shape."""
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
    """From libtorch_python's `_onnx.PRODUCER_VERSION`: its value is the string before its name."""
    around = python.find_in_section(".rodata", b"PRODUCER_VERSION\0", 64, 0)
    match = re.search(NUMBER + rb"\0+PRODUCER_VERSION\0$", around or b"")
    return match[1].decode() if match else None


def from_constants(cpu: ElfFile) -> str | None:
    """From libtorch_cpu's constants, by the string that goes before the version's."""
    for needle in BEFORE:
        around = cpu.find_in_section(".rodata", b"\0" + needle, 0, 64)
        match = re.search(needle + rb"\0*" + NUMBER + rb"\0", around or b"")
        if match:
            return match[1].decode()
    return None


def from_file_name(layout: Layout) -> tuple[str, str] | None:
    """From the file that Debian's development link leads to: `libtorch_cpu.so.1.13.0`."""
    name = library_file(layout, "torch_cpu")
    if name is None or layout.tree.packed:
        return None
    real = os.path.basename(os.path.realpath(layout.tree.path(name)))  # noqa: PTH119 - a name, not a path
    match = re.search(r"\.so\.(\d+\.\d+\.\d+)$", real)
    return (match[1], f"the file name {real}") if match else None
