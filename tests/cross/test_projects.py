"""The next steps printed for a libtorch for another machine are run as printed, and so is the program."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.conftest import unmet
from tests.cross.conftest import CROSS, OTHER, QEMU, SYSROOT, cross
from torchlink.binary.elf import ElfFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

MAIN = """
#include <cstdio>
int c10_value();
int main(int argc, char**) { return std::printf("%d of %d\\n", c10_value(), argc) < 0; }
"""
NIM = """
{.emit: "/*INCLUDESECTION*/ int c10_value();".}
proc value(): cint {.importcpp: "c10_value()".}
echo value(), " of 2"
"""


def follow(done: Result, directory: Path) -> str:
    """Run what a command printed as the next step, in a shell; returns its output."""
    (line,) = [line for line in done.err.splitlines() if line.startswith("torchlink: next: ")]
    ran = subprocess.run(
        ["sh", "-ec", line.removeprefix("torchlink: next: ")],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, f"{line}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def machine_of(program: Path) -> str:
    with ElfFile.open(program) as elf:
        return elf.machine


COMPILERS = (CROSS, f"clang++ --target={OTHER}-linux-gnu")  # the first is taken by itself


def choose_compiler(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program, _, options = command.partition(" ")
    if not shutil.which(program):
        unmet(program)
    if options:
        monkeypatch.setenv("CXX", command)


@pytest.mark.cmake
@pytest.mark.parametrize("compiler", COMPILERS)
def test_cmake(
    foreign: Path,
    tmp_path: Path,
    torchlink: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    compiler: str,
) -> None:
    choose_compiler(compiler, monkeypatch)
    monkeypatch.chdir(tmp_path)
    done = torchlink("cmake", "init", "my app", "--libtorch", foreign)
    assert done.code == 0, done.err
    (tmp_path / "my app/main.cpp").write_text(MAIN)
    assert follow(done, tmp_path).endswith("1 of 2\n")
    assert machine_of(tmp_path / "my app/build/app") == OTHER


@pytest.mark.cmake
def test_cmake_configure_sets_the_machine(
    foreign: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "main.cpp").write_text(MAIN)
    (source / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(app CXX)\nfind_package(Torch REQUIRED)\n"
        "add_executable(app main.cpp)\ntarget_link_libraries(app ${TORCH_LIBRARIES})\n"
    )
    words = ("--libtorch", foreign, "-S", source, "-B", tmp_path / "build")
    assert torchlink("cmake", "configure", *words).code == 0
    subprocess.run(["cmake", "--build", tmp_path / "build"], check=True, capture_output=True)
    assert machine_of(tmp_path / "build/app") == OTHER
    # A project that says itself what it is compiled for is let be.
    own = (*words[:-1], tmp_path / "own", "-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=riscv64")
    done = torchlink("cmake", "configure", *own)
    assert done.code == 1
    assert "compiled for" in " ".join(done.err.split())


@pytest.mark.nim
@pytest.mark.parametrize("compiler", COMPILERS)
def test_nim(
    foreign: Path,
    tmp_path: Path,
    torchlink: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    compiler: str,
) -> None:
    choose_compiler(compiler, monkeypatch)
    done = torchlink("nim", "init", tmp_path / "app", "--libtorch", foreign)
    assert done.code == 0, done.err
    (tmp_path / "app/main.nim").write_text(NIM)
    assert follow(done, tmp_path).endswith("1 of 2\n")
    assert machine_of(tmp_path / "app/main") == OTHER


def test_without_a_compiler_the_next_steps_name_the_usual_one(
    foreign: Path, tmp_path: Path, torchlink: Callable[..., Result], only: Callable[..., None]
) -> None:
    only()
    done = torchlink("cmake", "init", tmp_path / "c", "--libtorch", foreign)
    assert f"-DCMAKE_SYSTEM_PROCESSOR={OTHER} -DCMAKE_CXX_COMPILER={CROSS} " in done.err
    done = torchlink("nim", "init", tmp_path / "n", "--libtorch", foreign)
    assert f".linux.gcc.cpp.exe:{CROSS} " in done.err


def test_a_bundle_takes_the_sysroots_libraries_and_lints_clean(
    foreign: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    source = "#include <iostream>\nint c10_value();\nint main() { std::cout << c10_value() << std::endl; }\n"
    words = (f"-L{foreign}/lib", "-lc10", f"-Wl,-rpath,{foreign}/lib")
    program = cross(tmp_path / "app", source, *words)
    refused = torchlink("bundle", program, tmp_path / "refused")
    assert refused.code == 1
    assert "--sysroot DIR" in refused.err
    done = torchlink("bundle", program, tmp_path / "bundle", "--sysroot", SYSROOT)
    assert done.code == 0, done.out + done.err
    assert "lint: clean" in done.out
    (tmp_path / "other torch").rename(tmp_path / "gone")
    command: list[str | Path] = [shutil.which(QEMU) or QEMU, "-L", SYSROOT, tmp_path / "bundle/app"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env={})
    assert (ran.returncode, ran.stdout) == (0, "1\n"), ran.stderr
    linted = torchlink("lint", "--json", "--root", SYSROOT, tmp_path / "bundle")
    assert linted.code == 0, linted.out
    assert not [each["findings"] for each in json.loads(linted.out)["files"] if each["findings"]]


def test_a_sysroot_that_is_not_there(foreign: Path, tmp_path: Path, torchlink: Callable[..., Result]) -> None:
    done = torchlink("bundle", foreign / "lib/libc10.so", tmp_path / "b", "--sysroot", tmp_path / "none")
    assert done.code == 2
    assert "no such directory" in done.err
