"""A libtorch for another machine gets the installed cross compiler, in every command."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import unmet
from tests.cross.conftest import CROSS, OTHER, QEMU, SYSROOT, TRIPLE, shared
from torchlink.libtorch.choose import choose
from torchlink.toolchain.cross import cross_compiler, named_after

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result


def test_every_command_takes_it(foreign: Path, torchlink: Callable[..., Result]) -> None:
    flags = torchlink("flags", "--libtorch", foreign)
    assert flags.code == 0
    assert f"compile with {CROSS}; run the program with {QEMU} -L {SYSROOT} PROGRAM." in flags.err
    shown = torchlink("c++", "--libtorch", foreign, "-show", "main.cpp")
    assert shown.out.startswith(f"{CROSS} main.cpp -D_GLIBCXX_USE_CXX11_ABI=1 ")
    done = torchlink("doctor", "--json", "--libtorch", foreign)
    said = json.loads(done.out)
    (taken,) = [each for each in said["compilers"] if each["taken"]]
    assert taken["names"] == [CROSS]
    assert [fit["compiler"] for fit in said["fits"] if fit["ok"]] == [CROSS]
    assert said["emulator"]["sysroot"] == str(SYSROOT)
    assert (done.code, said["ok"]) == (0, True)


def test_torchlink_as_cxx_does_not_hide_it(
    foreign: Path, torchlink: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "torchlink c++")
    assert torchlink("c++", "--libtorch", foreign, "-show", "main.cpp").out.startswith(CROSS)


def test_what_the_user_names_is_kept(
    foreign: Path, torchlink: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "g++")
    for command in (("c++", "-show", "main.cpp"), ("verify",)):
        done = torchlink(command[0], "--libtorch", foreign, *command[1:])
        assert done.code == 2
        assert "g++" in done.err
        assert OTHER in done.err


def test_without_one_the_error_says_what_to_install(
    foreign: Path, torchlink: Callable[..., Result], only: Callable[..., None]
) -> None:
    only("c++", "g++", "ld", "as")
    for command in (("c++", "-show", "main.cpp"), ("verify",)):
        done = torchlink(command[0], "--libtorch", foreign, *command[1:])
        assert done.code == 2
        assert f"no compiler for {OTHER} Linux is on PATH" in done.err
        assert f"apt install g++-{TRIPLE.replace('_', '-')}" in done.err
    assert torchlink("flags", "--libtorch", foreign).code == 0


@pytest.mark.parametrize(
    "name",
    [f"{TRIPLE}-g++-12", f"{TRIPLE}-c++", f"{OTHER}-conda-linux-gnu-c++", f"{OTHER}-unknown-linux-gnu-g++"],
)
def test_a_cross_compiler_with_another_name(foreign: Path, only: Callable[..., None], name: str) -> None:
    only("c++", f"{name}={CROSS}")
    compiler = cross_compiler(choose(foreign))
    assert compiler is not None
    assert compiler.command == (name,)


def test_of_several_the_plainest_is_used(only: Callable[..., None]) -> None:
    names = [
        f"{TRIPLE}-g++",
        f"{TRIPLE}-g++-12",
        f"{TRIPLE}-g++-9",
        f"{TRIPLE}-clang++",
        f"{OTHER}-conda-linux-gnu-g++",
        f"{TRIPLE}x32-g++",
    ]
    only(*(f"{name}={CROSS}" for name in reversed(names)), f"riscv64-linux-gnu-g++={CROSS}")
    assert list(named_after(OTHER)) == names


def test_clang_alone_works_with_a_target(
    foreign: Path, only: Callable[..., None], torchlink: Callable[..., Result]
) -> None:
    if not shutil.which("clang++"):
        unmet("clang++")
    only("clang++", f"{TRIPLE}-ld")
    done = torchlink("flags", "--libtorch", foreign)
    assert f"compile with clang++ --target={TRIPLE};" in done.err
    shown = torchlink("c++", "--libtorch", foreign, "-show", "main.cpp")
    assert shown.out.startswith(f"clang++ --target={TRIPLE} main.cpp ")


@pytest.mark.parametrize(
    "facts",
    [{"platform": "macos", "arch": "arm64", "cxx11_abi": None}, {"platform": "windows", "cxx11_abi": None}],
)
def test_another_system_stays_one_clear_error(tmp_path: Path, facts: dict[str, Any]) -> None:
    from tests.fake_libtorch import fake_libtorch
    from torchlink.errors import LibtorchUnusableError
    from torchlink.toolchain.cross import compiler_for

    libtorch = fake_libtorch(tmp_path, **facts)
    assert cross_compiler(libtorch) is None
    with pytest.raises(LibtorchUnusableError, match="nothing built against it can run here"):
        compiler_for(libtorch, None)


def test_its_sysroot_is_compared_with_what_libtorch_needs(
    foreign: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    script = tmp_path / "versions.map"
    script.write_text("GLIBC_2.99 { global: of_the_future; };\n")
    options = (f"-Wl,--version-script={script}", "-nostdlib", "-Wl,-soname,libc.so.6")
    library = shared(tmp_path / "libc.so.6", 'extern "C" void of_the_future() {}', *options)
    source = 'extern "C" void of_the_future(); void use() { of_the_future(); }'
    shared(foreign / "lib/libtorch_cpu.so", source, "-nostdlib", library)
    fact = f"{foreign}/lib/libtorch_cpu.so needs GLIBC_2.99, and {SYSROOT}/lib/libc.so.6 has at most GLIBC_2."
    for command, code in (("flags", 0), ("verify", 2), ("doctor", 1)):
        done = torchlink(command, "--libtorch", foreign)
        assert done.code == code
        assert fact in done.out + done.err
        assert f"Nothing that {CROSS} " in done.out + done.err
