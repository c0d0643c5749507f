"""The output of compilers is read correctly, also for compilers that are not on this machine."""

from __future__ import annotations

import pytest

from torchlink.toolchain.compiler import first_version, implemented
from torchlink.toolchain.fit import machine
from torchlink.toolchain.probe import Probe, read_probe


def macros(**defined: int) -> str:
    return "".join(f"#define {name} {value}\n" for name, value in {"unrelated": 1, **defined}.items())


def talk(target: str, *include_dirs: str) -> str:
    lines = "".join(f" {directory}\n" for directory in include_dirs)
    return (
        f"Using built-in specs.\nTarget: {target}\nThread model: posix\n"
        f"#include <...> search starts here:\n{lines}End of search list.\n"
    )


# (macros, talk) as the compilers print them, cut to what is read.
GCC_12 = (
    macros(__GNUC__=12, __GNUC_MINOR__=2, __GNUC_PATCHLEVEL__=0, __GLIBCXX__=20220819, _GLIBCXX_RELEASE=12,
           _GLIBCXX_USE_CXX11_ABI=1, _GLIBCXX_USE_DUAL_ABI=1, __x86_64__=1),
    talk("x86_64-linux-gnu", "/usr/include/c++/12", "/usr/include"),
)  # fmt: skip
GCC_4_8 = (
    macros(__GNUC__=4, __GNUC_MINOR__=8, __GNUC_PATCHLEVEL__=5, __GLIBCXX__=20150623, __x86_64__=1),
    talk("x86_64-redhat-linux"),
)
DEVTOOLSET_9 = (
    macros(__GNUC__=9, __GNUC_MINOR__=3, __GNUC_PATCHLEVEL__=1, __GLIBCXX__=20200408, _GLIBCXX_RELEASE=9,
           _GLIBCXX_USE_CXX11_ABI=0, _GLIBCXX_USE_DUAL_ABI=0, __x86_64__=1),
    talk("x86_64-redhat-linux"),
)  # fmt: skip
CLANG_ON_OLD_LIBSTDCXX = (
    macros(__GNUC__=4, __clang_major__=17, __clang_minor__=0, __clang_patchlevel__=6, __GLIBCXX__=20210601,
           _GLIBCXX_RELEASE=9, _GLIBCXX_USE_CXX11_ABI=1, _GLIBCXX_USE_DUAL_ABI=1),
    talk("aarch64-unknown-linux-gnu"),
)  # fmt: skip
CLANG_LIBCXX = (
    macros(__GNUC__=4, __clang_major__=14, __clang_minor__=0, __clang_patchlevel__=6, _LIBCPP_VERSION=14000),
    talk("x86_64-pc-linux-gnu"),
)
APPLE = (
    macros(__GNUC__=4, __clang_major__=15, __clang_minor__=0, __clang_patchlevel__=0, _LIBCPP_VERSION=160000,
           __apple_build_version__=15000309),
    talk("arm64-apple-darwin23.4.0", "/opt/include", "/Library/Frameworks (framework directory)"),
)  # fmt: skip
GCC_M32 = (
    macros(__GNUC__=12, __GLIBCXX__=1, _GLIBCXX_RELEASE=12, _GLIBCXX_USE_CXX11_ABI=1, _GLIBCXX_USE_DUAL_ABI=1,
           __i386__=1),
    talk("x86_64-linux-gnu"),
)  # fmt: skip


def read(said: tuple[str, str]) -> Probe:
    probe = read_probe(*said)
    assert probe is not None
    return probe


@pytest.mark.parametrize(
    ("said", "kind", "version", "standards"),
    [
        (GCC_12, "gcc", (12, 2, 0), (11, 14, 17, 20)),
        (GCC_4_8, "gcc", (4, 8, 5), (11,)),
        (DEVTOOLSET_9, "gcc", (9, 3, 1), (11, 14, 17)),
        (CLANG_ON_OLD_LIBSTDCXX, "clang", (17, 0, 6), (11, 14, 17)),
        (CLANG_LIBCXX, "clang", (14, 0, 6), (11, 14, 17, 20)),
        (APPLE, "apple-clang", (15, 0, 0), (11, 14, 17, 20)),
    ],
)
def test_kind_version_and_standards_are_read(
    said: tuple[str, str], kind: str, version: tuple[int, ...], standards: tuple[int, ...]
) -> None:
    probe = read(said)
    assert (probe.kind, probe.version) == (kind, version)
    assert implemented(probe.kind, probe.version, probe.libstdcxx) == standards


@pytest.mark.parametrize(
    ("said", "library", "default", "dual"),
    [
        (GCC_12, "libstdc++", 1, True),
        (GCC_4_8, "libstdc++", 0, False),
        (DEVTOOLSET_9, "libstdc++", 0, False),
        (CLANG_LIBCXX, "libc++", None, False),
        (APPLE, "libc++", None, False),
    ],
)
def test_the_cxx_abi_is_read(said: tuple[str, str], library: str, default: int | None, dual: bool) -> None:
    probe = read(said)
    assert (probe.standard_library, probe.default_cxx11_abi, probe.dual_abi) == (library, default, dual)


def test_the_target_follows_m32_although_gcc_names_its_default() -> None:
    assert read(GCC_M32).target == "i686-linux-gnu"


def test_include_dirs_are_those_of_the_search_list_without_frameworks() -> None:
    assert read(GCC_12).include_dirs == ("/usr/include/c++/12", "/usr/include")
    assert read(APPLE).include_dirs == ("/opt/include",)


@pytest.mark.parametrize("text", ["", "cmake version 3.25\n", "#define __STDC__ 1\n"])
def test_what_is_not_a_compiler_is_recognised(text: str) -> None:
    assert read_probe(text, "") is None


def test_compilers_that_imitate_gcc_are_not_taken_for_it() -> None:
    probe = read(
        (macros(__GNUC__=11, __NVCOMPILER=1, __GLIBCXX__=1, _GLIBCXX_RELEASE=11), talk("x86_64-linux-gnu"))
    )
    assert probe.kind == "unknown"
    assert 20 in implemented(probe.kind, probe.version, probe.libstdcxx)


def test_messages_can_name_the_version_that_a_standard_needs() -> None:
    assert first_version("gcc", 20) == "11"
    assert first_version("clang", 17) == "9"
    assert first_version("unknown", 17) == ""


@pytest.mark.parametrize(
    ("arch", "name"), [("arm64", "aarch64"), ("AMD64", "x86_64"), ("riscv64", "riscv64")]
)
def test_a_machine_has_one_name(arch: str, name: str) -> None:
    assert machine(arch) == name
