"""A small libtorch for another machine, built with a real cross compiler; every test here needs that and QEMU."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import unmet
from tests.libtorch.trees import CHECK_FAIL, SHOW_CONFIG, make

if TYPE_CHECKING:
    from collections.abc import Callable

OTHER = "x86_64" if platform.machine() == "aarch64" else "aarch64"
TRIPLE = f"{OTHER}-linux-gnu"
CROSS = f"{TRIPLE}-g++"
SYSROOT = Path("/usr") / TRIPLE  # Debian's and Ubuntu's
QEMU = next(filter(shutil.which, (f"qemu-{OTHER}", f"qemu-{OTHER}-static")), f"qemu-{OTHER}")
MISSING = "libelsewhere.so.7"
C10 = f"""
int c10_value() {{ return 1; }}
extern "C" void c10_check() __asm__("{CHECK_FAIL[1]}");
extern "C" void c10_check() {{}}
"""
TORCH_CPU = f"""
int c10_value();
extern "C" void torch_config() __asm__("{SHOW_CONFIG[1]}");
extern "C" void torch_config() {{ c10_value(); }}
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is here: all of it compiles."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.compile)


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cross compiler and QEMU, and no choice of whoever runs the tests."""
    if sys.platform != "linux":
        pytest.skip("QEMU's user mode is for Linux")
    for program in (CROSS, QEMU):
        if not shutil.which(program):
            unmet(program)
    for name in ("CXX", "QEMU_LD_PREFIX"):
        monkeypatch.delenv(name, raising=False)


def cross(out: Path, source: str, *options: str | Path) -> Path:
    """Compile and link with the cross compiler."""
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [CROSS, "-x", "c++", "-", "-x", "none", "-o", out, *options]
    subprocess.run(command, input=source, text=True, check=True, capture_output=True)
    return out


def shared(out: Path, source: str, *options: str | Path) -> Path:
    """A shared library of the other machine."""
    return cross(out, source, "-shared", "-fPIC", f"-Wl,-soname,{out.name}", "-Wl,--no-as-needed", *options)


@pytest.fixture(scope="session")
def _built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make(tmp_path_factory.mktemp("cross") / "torch")
    for file in (root / "lib").iterdir():
        file.unlink()
    shared(root / "lib/libc10.so", C10)
    options = ("-Wl,-rpath,$ORIGIN", f"-L{root}/lib", "-lc10")
    shared(root / "lib/libtorch_cpu.so", TORCH_CPU, *options)
    return root


@pytest.fixture
def foreign(_built: Path, tmp_path: Path) -> Path:
    """The root of a libtorch of the other machine, the test's own."""
    return Path(shutil.copytree(_built, tmp_path / "other torch"))


@pytest.fixture
def lacking(foreign: Path, tmp_path: Path) -> tuple[Path, Path]:
    """One whose libtorch_cpu needs a library that is in no sysroot, and the directory that holds it."""
    library = shared(tmp_path / "elsewhere" / MISSING, "int elsewhere() { return 7; }")
    options = ("-Wl,-rpath,$ORIGIN", f"-L{foreign}/lib", "-lc10", library)
    shared(foreign / "lib/libtorch_cpu.so", TORCH_CPU, *options)
    return foreign, library.parent


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Leaves these programs on PATH, NAME or NAME=PROGRAM, and no others."""

    def call(*programs: str) -> None:
        directory = tmp_path / "bin"
        directory.mkdir()
        for program in programs:
            name, _, target = program.partition("=")
            (directory / name).symlink_to(shutil.which(target or name) or os.devnull)
        monkeypatch.setenv("PATH", str(directory))

    return call
