"""For which platform and processor a libtorch was built: the first bytes of its libc10 tell."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import MalformedFileError
from torchlink.libtorch.libraries import library_file

if TYPE_CHECKING:
    from torchlink.libtorch.layout import Layout

# Apple's <mach/machine.h> and Microsoft's PE format name processors by these numbers.
MACHO_CPUS = {0x01000007: "x86_64", 0x0100000C: "arm64", 7: "i386"}
PE_MACHINES = {0x8664: "x86_64", 0xAA64: "arm64", 0x014C: "x86"}
MACHO, MACHO_FAT = 0xFEEDFACF, 0xCAFEBABE
HEADER = 4096  # bytes; a PE header begins after a DOS stub of a few hundred


class Machine(NamedTuple):
    """What a library runs on."""

    platform: str  # "linux" | "macos" | "windows"
    arch: str

    def __str__(self) -> str:
        """As messages say it: `aarch64 Linux`."""
        return f"{self.arch} {PLATFORM_NAMES[self.platform]}"


PLATFORM_NAMES = {"linux": "Linux", "macos": "macOS", "windows": "Windows"}


def this_machine() -> Machine:
    """What torchlink runs on."""
    import sys

    platform = {"darwin": "macos", "win32": "windows"}.get(sys.platform, "linux")
    arch = os.uname().machine if hasattr(os, "uname") else os.environ.get("PROCESSOR_ARCHITECTURE", "")
    return Machine(platform, {"amd64": "x86_64", "AMD64": "x86_64", "ARM64": "arm64"}.get(arch, arch))


def machine_of(layout: Layout) -> Machine:
    """The machine that a libtorch's core is for.

    Raises:
        MalformedFileError: libc10 is no library of a known kind.
    """
    name = library_file(layout, "c10")
    if name is None:
        raise MalformedFileError(f"{layout.tree.root} has no libc10.")
    head = layout.tree.head(name, HEADER)
    if head[:4] == b"\x7fELF":
        elf = layout.tree.elf(name)
        if elf is not None:
            return Machine("linux", elf.machine)
    machine = macho_machine(head) or pe_machine(head)
    if machine is None:
        raise MalformedFileError(f"{layout.tree.path(name)} is neither an ELF, a Mach-O nor a PE library.")
    return machine


def macho_machine(head: bytes) -> Machine | None:
    """The machine of a Mach-O library, of the first one in a universal file."""
    if len(head) < 32:
        return None
    if int.from_bytes(head[:4], "little") == MACHO:
        cpu = int.from_bytes(head[4:8], "little")
    elif int.from_bytes(head[:4], "big") == MACHO_FAT:
        cpu = int.from_bytes(head[8:12], "big")
    else:
        return None
    return Machine("macos", MACHO_CPUS.get(cpu, f"cpu-{cpu:#x}"))


def pe_machine(head: bytes) -> Machine | None:
    """The machine of a Windows DLL."""
    if head[:2] != b"MZ" or len(head) < 64:
        return None
    (start,) = struct.unpack_from("<I", head, 0x3C)
    if start + 6 > len(head) or head[start : start + 4] != b"PE\0\0":
        return None
    (number,) = struct.unpack_from("<H", head, start + 4)
    return Machine("windows", PE_MACHINES.get(number, f"machine-{number:#x}"))
