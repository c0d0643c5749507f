"""Whether a compiler fits a libtorch is decided before anything is compiled."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.fake_libtorch import fake_compiler, fake_libtorch
from torchlink.errors import ToolUnfitError, UsageError
from torchlink.toolchain.compiler import find_compiler
from torchlink.toolchain.cross import default_compiler
from torchlink.toolchain.fit import check_compiler, cxx_standard

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.toolchain.types import Compiler

LIBCXX = {"kind": "clang", "standard_library": "libc++", "default_cxx11_abi": None, "dual_abi": False}
DEVTOOLSET = {"version": (9, 3, 1), "standards": (11, 14, 17), "default_cxx11_abi": 0, "dual_abi": False}


@pytest.mark.parametrize(
    ("libtorch", "compiler"),
    [
        ({}, {}),
        ({"cxx11_abi": 0}, {}),
        ({"cxx11_abi": 0}, DEVTOOLSET),
        ({"arch": "aarch64"}, {"target": "aarch64-linux-gnu"}),
        (
            {"platform": "macos", "arch": "arm64", "cxx11_abi": None},
            {**LIBCXX, "target": "arm64-apple-darwin23"},
        ),
        ({"platform": "windows", "cxx11_abi": None}, {**LIBCXX, "target": "x86_64-pc-windows-msvc"}),
    ],
)
def test_compilers_that_fit_are_accepted(
    tmp_path: Path, libtorch: dict[str, Any], compiler: dict[str, Any]
) -> None:
    check_compiler(fake_libtorch(tmp_path, **libtorch), fake_compiler(**compiler))


@pytest.mark.parametrize(
    ("libtorch", "compiler", "reason"),
    [
        ({}, LIBCXX, "libc++"),
        ({}, DEVTOOLSET, "has only C++ ABI 0"),
        ({"arch": "aarch64"}, {}, "built for linux aarch64"),
        ({}, {"target": "i686-linux-gnu"}, "compiles for i686"),
        ({"platform": "macos", "arch": "x86_64", "cxx11_abi": None}, {}, "built for macos"),
        ({"platform": "windows", "cxx11_abi": None}, {"target": "x86_64-w64-mingw32"}, "MSVC"),
    ],
)
def test_compilers_that_do_not_fit_are_refused(
    tmp_path: Path, libtorch: dict[str, Any], compiler: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ToolUnfitError) as caught:
        check_compiler(fake_libtorch(tmp_path, **libtorch), fake_compiler(**compiler))
    assert reason in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("required", "preferred", "standards", "taken"),
    [
        (17, 20, (11, 14, 17, 20), 20),
        (17, 20, (11, 14, 17), 17),
        (14, 14, (11, 14, 17, 20), 14),
        (14, 20, (11, 14, 17), 17),
        (20, 20, (11, 14, 17, 20, 23), 20),
    ],
)
def test_the_preferred_standard_falls_back_as_far_as_the_headers_allow(
    tmp_path: Path, required: int, preferred: int, standards: tuple[int, ...], taken: int
) -> None:
    libtorch = fake_libtorch(tmp_path, cxx_standard_required=required, cxx_standard=preferred)
    assert cxx_standard(libtorch, fake_compiler(standards=standards)) == taken
    assert cxx_standard(libtorch, None) == preferred


def test_a_compiler_that_is_too_old_is_named_with_the_version_needed(tmp_path: Path) -> None:
    libtorch = fake_libtorch(tmp_path, cxx_standard_required=20)
    with pytest.raises(ToolUnfitError) as caught:
        cxx_standard(libtorch, fake_compiler(version=(9, 4, 0), standards=(11, 14, 17)))
    assert "g++ 9.4.0 has no working C++20" in caught.value.message
    assert "gcc 11 or newer" in caught.value.hint


def test_a_standard_library_too_old_is_named_rather_than_the_compiler(tmp_path: Path) -> None:
    libtorch = fake_libtorch(tmp_path, cxx_standard_required=20)
    clang = fake_compiler(kind="clang", version=(13, 0, 1), libstdcxx=10, standards=(11, 14, 17))
    with pytest.raises(ToolUnfitError) as caught:
        cxx_standard(libtorch, clang)
    assert "uses libstdc++ 10, which has no working C++20" in caught.value.message
    assert "apt install libstdc++-11-dev" in caught.value.hint


def test_a_wanted_standard_is_used_where_both_sides_have_it(tmp_path: Path) -> None:
    libtorch = fake_libtorch(tmp_path)
    assert cxx_standard(libtorch, fake_compiler(), 17) == 17
    assert cxx_standard(libtorch, None, 23) == 23
    with pytest.raises(UsageError, match=r"C\+\+14 is too low"):
        cxx_standard(libtorch, fake_compiler(), 14)
    with pytest.raises(ToolUnfitError, match=r"does not accept -std=c\+\+26"):
        cxx_standard(libtorch, fake_compiler(), 26)


@pytest.mark.parametrize("compiler", [None, fake_compiler()])
def test_a_standard_that_was_never_published_is_refused(compiler: Compiler | None, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"No such C\+\+ standard: C\+\+15") as caught:
        cxx_standard(fake_libtorch(tmp_path), compiler, 15)
    assert "17, 20, 23" in caught.value.hint
    with pytest.raises(UsageError, match="too low"):
        cxx_standard(fake_libtorch(tmp_path), compiler, 98)


@pytest.mark.compile
def test_the_default_compiler_is_none_for_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    assert default_compiler(fake_libtorch(tmp_path, platform="windows", cxx11_abi=None)) is None
    assert default_compiler(fake_libtorch(tmp_path, arch="s390x")) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert default_compiler(fake_libtorch(tmp_path)) is None


@pytest.mark.compile
def test_a_requested_standard_is_used_where_the_compiler_accepts_its_option(tmp_path: Path) -> None:
    compiler = find_compiler()
    known = [standard for standard in (17, 20, 23, 26, 29) if takes(compiler.path, standard)]
    assert known
    libtorch = fake_libtorch(tmp_path, cxx_standard_required=17)
    unfinished = compiler._replace(standards=())
    for standard in known:
        assert cxx_standard(libtorch, unfinished, standard) == standard
    with pytest.raises(UsageError, match=r"No such C\+\+ standard: C\+\+97"):
        cxx_standard(fake_libtorch(tmp_path / "old", cxx_standard_required=11), compiler, 97)


def takes(compiler: Path, standard: int) -> bool:
    """What the compiler itself says of `-std=c++N`."""
    words = [str(compiler), f"-std=c++{standard}", "-fsyntax-only", "-x", "c++", "/dev/null"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0
