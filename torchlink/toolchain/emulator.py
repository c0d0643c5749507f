"""Running programs for another machine: QEMU's user mode, with the C library that the cross compiler links with."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torchlink.binary.elf import ElfFile
from torchlink.binary.loader import resolve
from torchlink.binary.platforms import PLATFORMS, UNKNOWN
from torchlink.binary.system import system_for
from torchlink.binary.tree import Overlay
from torchlink.errors import FileError, MalformedFileError, ToolMissingError
from torchlink.libtorch.floor import core
from torchlink.libtorch.machine import is_foreign, this_machine
from torchlink.libtorch.names import DEBIAN_PACKAGES
from torchlink.process import which
from torchlink.toolchain.compiler import library_of, runtime_libraries
from torchlink.toolchain.cross import QEMU_PREFIX, triple_of

if TYPE_CHECKING:
    from torchlink.binary.tree import Root
    from torchlink.libtorch.facts import Libtorch
    from torchlink.toolchain.types import Compiler

# ELF's names of machines → QEMU's, where they differ.
NAMES = {"x86": "i386"}
# Machines whose programs a kernel runs besides its own.
COMPATIBLE = {"x86_64": ("x86", "x32"), "aarch64": ("arm",)}
# ELF's names of machines → Debian's, where they differ.
DEBIAN_ARCH = {"aarch64": "arm64", "x86_64": "amd64", "x86": "i386", "arm": "armhf", "ppc64le": "ppc64el"}
REGISTERED = Path("/proc/sys/fs/binfmt_misc")


class Emulator(NamedTuple):
    """A program that runs programs for another machine."""

    program: Path  # qemu-aarch64, qemu-aarch64-static
    machine: str  # the emulated machine: "aarch64"
    # For -L: the directory that is `/` for that machine, with its loader in `lib/`; None if its libraries are
    # installed next to this machine's own
    sysroot: Path | None
    library_dirs: tuple[str, ...] = ()  # with dependencies of libtorch that only the compiler finds

    @property
    def command(self) -> tuple[str, ...]:
        """The command to put before a program and its arguments."""
        root = ("-L", str(self.sysroot)) if self.sysroot else ()
        dirs = ("-E", f"LD_LIBRARY_PATH={':'.join(self.library_dirs)}") if self.library_dirs else ()
        return (str(self.program), *root, *dirs)

    @property
    def tree(self) -> Root:
        """The file system as seen by a program in this emulator."""
        return Overlay(self.sysroot)

    def to_json(self) -> dict[str, object]:
        """The object in reports."""
        return {
            "program": str(self.program),
            "machine": self.machine,
            "sysroot": str(self.sysroot) if self.sysroot else None,
            "library_dirs": list(self.library_dirs),
        }

    @property
    def environment(self) -> dict[str, str]:
        """The variables that change the loader's search."""
        return {"LD_LIBRARY_PATH": ":".join(self.library_dirs)} if self.library_dirs else {}


def is_registered(machine: str) -> bool:
    """Whether the kernel starts programs for a machine through a registered emulator."""
    return (REGISTERED / f"qemu-{NAMES.get(machine, machine)}").is_file()


def find_emulator(machine: str) -> Path | None:
    """Return QEMU's user mode emulator for a machine, if it is on PATH."""
    name = f"qemu-{NAMES.get(machine, machine)}"
    found = which(name) or which(f"{name}-static")
    return Path(found) if found else None


def emulator_for(libtorch: Libtorch, compiler: Compiler) -> Emulator | None:
    """Return the emulator for programs built against a libtorch; None if they need none.

    Raises:
        ToolMissingError: there is no emulator, or a library of that machine is missing.
    """
    if not is_foreign(libtorch) or libtorch.platform != "linux":
        return None
    machine = libtorch.arch
    if machine in COMPATIBLE.get(this_machine().arch, ()):
        return None
    program = find_emulator(machine)
    if program is None:
        if is_registered(machine):
            return None
        name = f"qemu-{NAMES.get(machine, machine)}"
        raise ToolMissingError(
            f"The libtorch of {libtorch.root} is for {machine} Linux, and this machine is {this_machine()}: neither "
            f"{name} nor {name}-static, which would run its programs, is on PATH.",
            hint=f"Install {name} (Debian, Ubuntu: apt install qemu-user; Fedora: dnf install qemu-user), or verify on "
            "such a machine.",
        )
    emulator = Emulator(program, machine, sysroot_of(machine, compiler))
    check_loader(emulator, compiler)
    return with_library_dirs(emulator, libtorch, compiler)


def command_for(machine: str, compiler: Compiler) -> str | None:
    """Return the shell command that runs a compiler's program here when put before it; None if there is none."""
    if machine in COMPATIBLE.get(this_machine().arch, ()):
        return None
    program = find_emulator(machine)
    if program is None:
        return None
    return shlex.join(Emulator(Path(program.name), machine, sysroot_of(machine, compiler)).command)


def sysroot_of(machine: str, compiler: Compiler) -> Path | None:
    """Return the root directory with the loader of a machine's programs, /lib/ld-linux-aarch64.so.1.

    It is QEMU_LD_PREFIX, or a parent of the C library that the compiler links with.
    """
    named = os.environ.get(QEMU_PREFIX, "").strip()
    if named:
        return Path(named).absolute()
    loaders = PLATFORMS.get(machine, UNKNOWN).loaders
    library = runtime_libraries(compiler).get("libc.so.6")
    for directory in Path(library).parents if library else ():
        if any(os.path.lexists(f"{directory}{loader}") for loader in loaders):
            return None if directory == Path("/") else directory
    return None


def check_loader(emulator: Emulator, compiler: Compiler) -> None:
    """Check that programs of the emulated machine find their dynamic loader.

    Raises:
        ToolMissingError: they do not.
    """
    names = PLATFORMS.get(emulator.machine, UNKNOWN).loaders
    if not names or any(os.path.exists(emulator.tree.on_host(name)) for name in names):  # noqa: PTH110 - plain strings
        return
    named = os.environ.get(QEMU_PREFIX, "").strip()
    where = f"{QEMU_PREFIX} is {named}, which" if named else f"The sysroot of {compiler.name}"
    raise ToolMissingError(
        f"{where} does not contain {names[0]}: no program for {emulator.machine} starts in {emulator.program.name}.",
        hint=f"Name the root directory of a system for that machine with {QEMU_PREFIX}=DIR.",
    )


def with_library_dirs(emulator: Emulator, libtorch: Libtorch, compiler: Compiler) -> Emulator:
    """Add the directories of libraries that only the compiler finds.

    Raises:
        ToolMissingError: a library is missing.
    """
    lacking = missing_in(emulator, libtorch)
    dirs = dict.fromkeys(
        file.rpartition("/")[0]
        for name in lacking
        if (file := library_of(compiler, name)) is not None and is_for(Path(file), emulator.machine)
    )
    if dirs:
        emulator = emulator._replace(library_dirs=tuple(dirs))
        lacking = missing_in(emulator, libtorch)
    if not lacking:
        return emulator
    names = tuple(dict.fromkeys(lacking))
    sysroot = emulator.sysroot or Path("/")
    raise ToolMissingError(
        f"The libtorch of {libtorch.root} needs {', '.join(names)} for {emulator.machine}, neither in {sysroot} nor "
        f"where {compiler.name} looks: no program starts in {emulator.program.name}.",
        hint=f"Install it for {emulator.machine}{packages(names, emulator.machine)}, put it into "
        f"{sysroot / 'lib' / triple_of(emulator.machine)}, or name a system for that machine with {QEMU_PREFIX}=DIR.",
    )


def is_for(library: Path, machine: str) -> bool:
    """Whether a library is for a machine; linkers and loaders skip those that are not."""
    try:
        with ElfFile.open(library) as elf:
            return elf.machine == machine
    except (FileError, MalformedFileError):
        return False


def packages(names: tuple[str, ...], machine: str) -> str:
    """Return how to install libraries on Debian and Ubuntu; empty if a package is unknown."""
    arch = DEBIAN_ARCH.get(machine, machine)
    known = [DEBIAN_PACKAGES.get(name) for name in names]
    if not all(known):
        return ""
    wanted = " ".join(f"{name}:{arch}" for name in known)
    return f" (Debian, Ubuntu: dpkg --add-architecture {arch} && apt update && apt install {wanted})"


def missing_in(emulator: Emulator, libtorch: Libtorch) -> list[str]:
    """Return the dependencies of libtorch_cpu that the emulated machine's loader does not find."""
    paths = core(libtorch)
    entry = next((path for path in paths if path.name.startswith("libtorch_cpu.")), next(iter(paths), None))
    if entry is None:
        return []
    try:
        with ElfFile.open(entry) as elf:
            system = system_for(elf, tree=emulator.tree)
        closure = resolve(entry, system=system, environment=emulator.environment)
    except (FileError, MalformedFileError):  # the linker reports them
        return []
    known = {library.name for library in libtorch.missing_libraries}  # reported in the plan's notes
    return [edge.name for edge in closure.missing if edge.name not in known and "/" not in edge.name]
