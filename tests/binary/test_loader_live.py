"""The model of the loader agrees with the live loader on the machine's own programs and libraries."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.binary.live import LOADERS, elf_files, modelled, trace
from tests.conftest import unmet
from torchlink.binary.elf import ElfFile
from torchlink.binary.loader import OpenFiles, resolve
from torchlink.binary.system import system_for

SAMPLE = 300  # files compared by default; TORCHLINK_TEST_ALL_ELF=1 takes every one (some 20 s)


@pytest.fixture(scope="module")
def system_files() -> list[Path]:
    """Every k-th ELF file of the system."""
    if not os.path.exists(LOADERS["x86_64"]):  # noqa: PTH110
        unmet("glibc on x86_64")
    files = list(elf_files("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib32"))
    return (
        files if os.environ.get("TORCHLINK_TEST_ALL_ELF") == "1" else files[:: max(1, len(files) // SAMPLE)]
    )


def test_the_closure_equals_the_live_loaders_order_included(system_files: list[Path]) -> None:
    different: list[object] = []
    opened = OpenFiles()
    for file in system_files:
        closure = resolve(file, secure=False, files=opened)
        elf = closure.subject.elf
        if not elf.dynamic.present or not os.path.exists(LOADERS.get(elf.machine, "/nowhere")):  # noqa: PTH110
            continue
        live = trace(file, elf.machine)
        mine = modelled(closure)
        if (mine.objects, mine.missing) != (live.objects, live.missing):
            different.append((str(file), live, mine))
    assert different == []


@pytest.mark.parametrize("path", [path for path in LOADERS.values() if Path(path).exists()])
def test_facts_read_from_the_loaders_file_match_its_own_diagnostics(path: str) -> None:
    done = subprocess.run([path, "--list-diagnostics"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        unmet("glibc 2.33 or later")
    lines = (line.partition("=") for line in done.stdout.splitlines())
    told = {key: value.strip('"') for key, _, value in lines}
    dirs = [told[key].rstrip("/") for key in told if key.startswith("path.system_dirs")]
    with ElfFile.open(Path(path)) as elf:
        system = system_for(elf)
    assert list(system.default_dirs) == dirs
    assert system.lib == told["dl_dst_lib"]
    assert system.platform == told["dl_platform"]
    assert ".".join(map(str, system.release)) == told["version.version"]
    mask = int(told["dl_hwcaps_subdirs_active"], 16)
    names = told["dl_hwcaps_subdirs"].split(":")
    assert list(system.hwcaps()) == [name for number, name in enumerate(names) if mask >> number & 1]
