"""The platform and processor that a libtorch was built for, read from the headers of its libc10."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import MalformedFileError
from torchlink.libtorch.libraries import library_file

if TYPE_CHECKING:
    from torchlink.binary.macho import MachOFile
    from torchlink.libtorch.facts import Libtorch
    from torchlink.libtorch.layout import Layout

PLATFORM_NAMES = {"linux": "Linux", "macos": "macOS", "windows": "Windows"}
# Processors as operating systems name them → as `ElfFile.machine` and the other readers do.
KERNEL_NAMES = {
    "amd64": "x86_64",
    "AMD64": "x86_64",
    "ARM64": "arm64",
    "i386": "x86",
    "i686": "x86",
    "armv6l": "arm",
    "armv7l": "arm",
}
HEADER = 1 << 16  # bytes; Mach-O's load commands and PE's headers are at the start of the file


class Machine(NamedTuple):
    """A platform and processor."""

    platform: str  # "linux" | "macos" | "windows"
    arch: str

    def __str__(self) -> str:
        """As in messages: `aarch64 Linux`."""
        return f"{self.arch} {PLATFORM_NAMES[self.platform]}"


def this_machine() -> Machine:
    """Return the machine that torchlink runs on."""
    platform = {"darwin": "macos", "win32": "windows"}.get(sys.platform, "linux")
    arch = os.uname().machine if hasattr(os, "uname") else os.environ.get("PROCESSOR_ARCHITECTURE", "")
    return Machine(platform, KERNEL_NAMES.get(arch, arch))


def is_foreign(libtorch: Libtorch) -> bool:
    """Whether a libtorch is built for another platform or processor than this machine's."""
    return this_machine() != Machine(libtorch.platform, libtorch.arch)


def machine_of(layout: Layout) -> Machine:
    """Return the machine that a libtorch's libc10 is for.

    Raises:
        MalformedFileError: libc10 is not a library of a known kind.
    """
    name = library_file(layout, "c10") or ""
    if ".so" in name:
        elf = layout.tree.elf(name)
        if elf is not None:
            return Machine("linux", elf.machine)
    if name.endswith(".dylib"):
        architectures = macho(layout, name).architectures
        own = this_machine().arch
        return Machine("macos", own if own in architectures else architectures[0])
    if name.endswith(".dll"):
        from torchlink.binary.pe import PeFile

        return Machine("windows", PeFile.from_buffer(layout.tree.head(name, HEADER), name).machine)
    raise MalformedFileError(f"{layout.tree.root} has no libc10 that can be read.")


def macho(layout: Layout, name: str) -> MachOFile:
    """Read the load commands of a macOS library.

    Raises:
        MalformedFileError: it is not a Mach-O file.
    """
    from torchlink.binary.macho import MachOFile

    if layout.tree.packed:
        return MachOFile.from_buffer(layout.tree.head(name, HEADER), name)
    with MachOFile.open(layout.tree.path(name)) as file:
        return file
