"""`torchlink doctor` as a function: it examines this machine, compiles nothing and changes nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.doctor.compilers import default_for, find_compilers, with_cross_compilers
from torchlink.doctor.driver import accelerator_fit, read_driver
from torchlink.doctor.environment import find_installer, variables
from torchlink.doctor.problems import find_problems, fit
from torchlink.doctor.report import DoctorReport
from torchlink.errors import ResourcesError, TorchlinkError
from torchlink.libtorch.choose import failure, search
from torchlink.libtorch.floor import shortfall
from torchlink.libtorch.machine import this_machine
from torchlink.status import not_about_the_file
from torchlink.toolchain.cuda import find_toolkits
from torchlink.toolchain.emulator import emulator_for
from torchlink.toolchain.fit import compiles_for
from torchlink.toolchain.tools import find_tool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchlink.doctor.report import FoundCompiler
    from torchlink.libtorch.facts import Libtorch
    from torchlink.toolchain.emulator import Emulator
    from torchlink.toolchain.types import Tool


TOOLS = ("cmake", "ninja", "nim", "pkg-config", "ccache")
LINKERS = ("ld", "ld.bfd", "ld.gold", "lld", "mold")
OS_RELEASE = Path("/etc/os-release")


def examine(libtorch: Sequence[Path] = (), python: str | None = None) -> DoctorReport:
    """Examine this machine.

    Args:
        libtorch: check only these; all on the machine where empty.
        python: check only the torch of this interpreter.

    Raises:
        ToolMissingError: there is no such interpreter.
        LibtorchUnusableError: none of those in `libtorch` is usable.
    """
    found = search(libtorch, python, everything=True)
    if libtorch and found.chosen is None:
        raise failure(found)
    usable = [candidate.libtorch for candidate in found.candidates if candidate.libtorch]
    broken: list[TorchlinkError] = []

    def tool(name: str) -> Tool | None:
        """Return a program, or None if it is missing or does not run."""
        try:
            return find_tool(name)
        except ResourcesError:
            raise
        except TorchlinkError as error:
            broken.append(error)
            return None

    compilers = with_cross_compilers(find_compilers(), usable)
    default = default_for(found.chosen, compilers)
    emulator, no_emulator = emulation(found.chosen, default)
    driver = read_driver()
    accelerators = (accelerator_fit(each, driver) for each in usable)
    checked = [(each, shortfall(each, thorough=True)) for each in usable]
    report = DoctorReport(
        machine=this_machine(),
        system=system_name(),
        installer=find_installer(),
        search=found,
        compilers=compilers,
        default_compiler=default,
        tools={name: tool(name) for name in TOOLS},
        linkers={name: tool(name) for name in LINKERS},
        driver=driver,
        toolkit=next(find_toolkits(), None),
        nvcc=tool("nvcc"),
        broken=tuple(broken),
        fits=tuple(fit(each, compiler, short) for each, short in checked for compiler in compilers),
        accelerators=tuple(each for each in accelerators if each),
        emulator=emulator,
        no_emulator=no_emulator,
        variables=variables(os.environ, found.chosen),
        problems=(),
    )
    return replace(report, problems=find_problems(report))


def emulation(
    libtorch: Libtorch | None, found: FoundCompiler | None
) -> tuple[Emulator | None, TorchlinkError | None]:
    """Return the emulator for the programs of a libtorch of another machine, or why there is none."""
    compiler = found.compiler if found else None
    if libtorch is None or compiler is None or not compiles_for(libtorch, compiler):
        return None, None
    try:
        return emulator_for(libtorch, compiler), None
    except TorchlinkError as error:
        return None, error


def system_name(os_release: Path = OS_RELEASE) -> str:
    """Return the system's name: PRETTY_NAME of os-release, else the kernel's name and release."""
    try:
        for line in os_release.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition("=")
            if key == "PRETTY_NAME":
                return value.strip().strip("\"'")
    except OSError as error:
        not_about_the_file(os_release, error)
    import platform

    return f"{platform.system()} {platform.mac_ver()[0] or platform.release()}"
