"""The flags of a libtorch for macOS: Zig's C++ compiler compiles and links with them; nothing of it runs here."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import installed
from tests.distributions.wheels import fetch
from torchlink.binary.macho import MachOFile, MachOSlice

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

pytestmark = [pytest.mark.matrix, pytest.mark.compile]
WHEEL = "torch-2.13.0-cp311-cp311-macosx_14_0_arm64"
PROGRAM = """
#include <torch/script.h>
#include <iostream>
int main(int, char **argv) {
  torch::jit::Module model = torch::jit::load(argv[1]);
  std::cout << model.forward({torch::ones({1, 4})}).toTensor() << at::show_config() << std::endl;
}
"""
OPERATOR = """
#include <ATen/Version.h>
#include <string>
extern "C" int plugin() { return at::show_config().empty(); }
"""
NEEDED = {"@rpath/libtorch_cpu.dylib", "@rpath/libc10.dylib"}


@pytest.fixture(scope="module")
def libtorch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's, extracted."""
    from torchlink.cli.main import main

    installed("ziglang")
    directory = tmp_path_factory.mktemp("wheel")
    wheel = fetch(WHEEL, directory)
    assert main(["extract", str(wheel), str(directory / "libtorch")]) == 0
    return directory / "libtorch"


@pytest.fixture(scope="module")
def zig(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Runs `zig cc` or `zig c++` for macOS."""
    directory = tmp_path_factory.mktemp("zig")

    def call(driver: str, *words: str | Path) -> None:
        caches = f"ZIG_GLOBAL_CACHE_DIR={directory}", f"ZIG_LOCAL_CACHE_DIR={directory}"
        command = [
            "env",
            *caches,
            sys.executable,
            "-m",
            "ziglang",
            driver,
            "-target",
            "aarch64-macos",
            *words,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]

    return call


@pytest.fixture
def flags(libtorch: Path, torchlink: Callable[..., Result]) -> Callable[..., list[str]]:
    """The flags that `torchlink flags` prints."""

    def call(*options: str | Path) -> list[str]:
        said = torchlink("flags", "--libtorch", libtorch, *options)
        assert said.code == 0, said.err
        assert "built for arm64 macOS" in said.err
        return shlex.split(said.out)

    return call


def read(file: Path) -> MachOSlice:
    with MachOFile.open(file) as opened:
        (only,) = opened.slices
    return only


def test_programs_compile_and_link_with_every_line_of_a_shell(
    libtorch: Path, zig: Callable[..., None], flags: Callable[..., list[str]], tmp_path: Path
) -> None:
    source, main = tmp_path / "main.cpp", tmp_path / "main.o"
    source.write_text(PROGRAM)
    zig("c++", "-g0", "-fno-sanitize=all", "-c", source, "-o", main, *flags("--cxx", "--compile"))

    own = str(libtorch / "lib")
    for driver, options, rpath in (
        ("c++", ("--cxx", "--link"), own),
        ("c++", ("--cxx", "--link", "--rpath", "origin=../lib"), "@loader_path/../lib"),
        ("cc", ("--fortran",), own),  # a linker that no C++ compiler starts: the C++ runtime is in the flags
    ):
        zig(driver, main, "-o", tmp_path / "app", *flags(*options))
        app = read(tmp_path / "app")
        assert (app.arch, app.file_type, app.rpaths) == ("arm64", "exec", (rpath,))
        assert {name for name in app.libraries if not name.startswith("/usr/lib/")} == NEEDED, options


def test_a_plugin_has_its_name_and_refuses_undefined_symbols(
    zig: Callable[..., None], flags: Callable[..., list[str]], tmp_path: Path
) -> None:
    source = tmp_path / "ops.cpp"
    source.write_text(OPERATOR)
    words = flags("--plugin", "--soname", "libops.dylib")
    zig("c++", source, "-o", tmp_path / "libops.dylib", *words)
    plugin = read(tmp_path / "libops.dylib")
    assert (plugin.file_type, plugin.install_name) == ("dylib", "@rpath/libops.dylib")
    assert "@rpath/libtorch_cpu.dylib" in plugin.libraries
    source.write_text(OPERATOR + "int missing(); int use() { return missing(); }\n")
    with pytest.raises(AssertionError, match="undefined symbol"):
        zig("c++", source, "-o", tmp_path / "libops.dylib", *words)
