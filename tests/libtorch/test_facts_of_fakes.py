"""The facts about a libtorch come from its files; where these contradict each other, the libraries win."""

from __future__ import annotations

import platform
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.libtorch.trees import CHECK_FAIL, NEW_STRING, SHOW_CONFIG, Fake, Library, build, make
from torchlink.errors import LibtorchUnusableError
from torchlink.libtorch.inspect import inspect

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.compile
CUDA = replace(
    Fake(),
    version="2.13.0+cu130",
    cuda="13.0",
    libraries=("torch_cpu", "torch", "torch_python", "c10_cuda", "torch_cuda"),
    needed=(("c10_cuda", ("libcudart.so.13",)),),
)


def test_a_plain_libtorch_is_read_whole(tmp_path: Path) -> None:
    found = inspect(make(tmp_path / "torch"), "path")
    assert (found.version, found.version_from) == ("2.13.0+cpu", "version.py")
    assert (found.platform, found.arch) == ("linux", platform.machine())
    assert (found.cxx11_abi, found.cxx11_abi_from) == (1, f"libc10.so defines {CHECK_FAIL[1]}")
    assert (found.cxx_standard_required, found.cxx_standard) == (17, 20)
    assert (found.accelerator, found.accelerator_version) == ("cpu", None)
    assert (found.search_kind, found.search_path) == ("runpath", ("$ORIGIN",))
    assert found.include_dirs == (
        tmp_path / "torch/include",
        tmp_path / "torch/include/torch/csrc/api/include",
    )
    assert found.library_dir == tmp_path / "torch/lib"
    assert found.libraries == (
        "libc10.so",
        "libshm.so",
        "libtorch.so",
        "libtorch_cpu.so",
        "libtorch_python.so",
    )
    assert found.conflicts == ()
    assert found.layout_intact


@pytest.mark.parametrize("abi", [0, 1])
@pytest.mark.parametrize(
    "function",
    [
        "_ZN3c106detail14torchCheckFailEPKcS2_jRK{}",
        "_ZN3c105ErrorC1ENS_14SourceLocationE{}",
        "_ZN3c105ErrorC1ENS_14SourceLocationERK{}",
        "_ZN3c106detail13StripBasenameERK{}",
        "_ZN3c1015SetUsageMessageERK{}",  # a function that torchlink does not list
        "_ZN3c1013setThreadNameE{}",
    ],
)
def test_any_function_with_a_string_shows_the_abi(tmp_path: Path, function: str, abi: int) -> None:
    symbol = function.format((("Ss"), NEW_STRING)[abi])
    templates = ("_ZNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEE6resizeEm", "_ZNSsC1EPKcRKSaIcE")
    fake = replace(Fake(), abi=abi, c10=Library(symbols=(symbol, *templates, "_ZN3c104cuda3fooEi")))
    found = inspect(make(tmp_path, fake), "path")
    assert found.cxx11_abi == abi
    assert found.conflicts == ()


def test_an_abi_that_no_symbol_shows_is_unknown(tmp_path: Path) -> None:
    found = inspect(make(tmp_path, replace(Fake(), c10=Library(symbols=("_ZN3c104testEi",)))), "path")
    assert found.cxx11_abi is None
    assert any("C++ ABI is unknown" in conflict for conflict in found.conflicts)


def test_libcxx_has_no_abi_flag(tmp_path: Path) -> None:
    symbol = (
        "_ZN3c105ErrorC1ENS_14SourceLocationENSt3__112basic_stringIcNS2_11char_traitsIcEENS2_9allocatorIcEEEE"
    )
    found = inspect(make(tmp_path, replace(Fake(), c10=Library(symbols=(symbol,)))), "path")
    assert (found.cxx11_abi, found.cxx11_abi_from, found.conflicts) == (None, None, ())


def test_libraries_of_two_abis_are_a_contradiction(tmp_path: Path) -> None:
    root = make(tmp_path, replace(Fake(), abi=0))
    build(root / "lib/libtorch_cpu.so", Library(symbols=(SHOW_CONFIG[1],)))
    found = inspect(root, "path")
    assert found.cxx11_abi == 0
    assert "libc10.so was built with C++ ABI 0, libtorch_cpu.so with 1" in found.conflicts


def test_libraries_of_two_builds_are_a_contradiction(tmp_path: Path) -> None:
    needed, lost = "_ZN3c105ErrorD1Ev", "_ZN3c1015report_overflowEPKc"
    root = make(tmp_path / "torch", replace(Fake(), c10=Library(symbols=(CHECK_FAIL[1], needed))))
    calls = f".quad {needed}, {lost}, _ZN3c106weaklyEv\n.weak _ZN3c106weaklyEv\n.text\n"
    build(root / "lib/libtorch_cpu.so", Library(symbols=(SHOW_CONFIG[1],), code=f".section .data\n{calls}"))
    found = inspect(root, "path")
    (told,) = found.conflicts
    assert "of different builds" in told
    assert f"needs {lost}, which" in told


def test_a_config_of_the_other_abi_is_a_contradiction_and_the_libraries_win(tmp_path: Path) -> None:
    root = make(tmp_path)
    with (root / "share/cmake/Torch/TorchConfig.cmake").open("a") as config:
        config.write('set(TORCH_CXX_FLAGS "-D_GLIBCXX_USE_CXX11_ABI=0")\n')
    found = inspect(root, "path")
    assert found.cxx11_abi == 1
    assert any("TorchConfig.cmake says C++ ABI 0" in conflict for conflict in found.conflicts)


def test_headers_of_another_version_are_a_contradiction_and_the_libraries_win(tmp_path: Path) -> None:
    found = inspect(
        make(tmp_path, replace(Fake(), version="2.11.0+cpu", built="2.11.0", cmake="2.11.0")), "path"
    )
    assert found.version == "2.11.0+cpu"
    assert found.conflicts == (
        "include/torch/headeronly/version.h says version 2.13.0, libtorch_python.so (PRODUCER_VERSION) says 2.11.0",
    )


def test_an_edited_version_py_is_a_contradiction_and_the_libraries_win(tmp_path: Path) -> None:
    found = inspect(make(tmp_path, replace(Fake(), version="9.9.9")), "path")
    assert (found.version, found.version_from) == ("2.13.0", "include/torch/headeronly/version.h")
    assert any("version.py says version 9.9.9" in conflict for conflict in found.conflicts)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the assembler is x86_64's")
def test_the_version_that_libtorch_cpu_was_built_with_wins_over_libtorch_pythons(tmp_path: Path) -> None:
    root = make(tmp_path)
    function = "aoti_torch_abi_version"
    code = (
        f".globl {function}\n.type {function}, @function\n{function}:\nmovabs $0x020b010000000000, %rax\nret"
    )
    build(root / "lib/libtorch_cpu.so", Library(symbols=(SHOW_CONFIG[1],), code=code))
    found = inspect(root, "path")
    assert found.version == "2.11.1"
    assert found.version_from == "libtorch_cpu.so (aoti_torch_abi_version)"
    assert len(found.conflicts) == 3


@pytest.mark.parametrize(
    "constants",
    [b"metal_copy_\0TORCH_VERSION\x002.6.0\0CXX_COMPILER\0", b"pytorch\0GraphEncoder\x002.6.0\0\0Custom\0"],
)
def test_without_python_the_version_is_in_the_constants_of_libtorch_cpu(
    tmp_path: Path, constants: bytes
) -> None:
    fake = replace(Fake(), version=None, headers="2.5.0", cmake="2.5.0", libraries=("torch_cpu", "torch"))
    root = make(tmp_path, fake)
    build(root / "lib/libtorch_cpu.so", Library(symbols=(SHOW_CONFIG[1],), constants=constants))
    assert inspect(root, "path").version == "2.6.0"


def test_a_zip_has_its_version_in_build_version(tmp_path: Path) -> None:
    root = make(tmp_path, replace(Fake(), version=None))
    (root / "build-version").write_text("2.13.0+cpu\n")
    found = inspect(root, "path")
    assert (found.version, found.version_from, found.layout) == ("2.13.0+cpu", "build-version", "zip")


def test_a_version_that_no_file_states_is_unknown(tmp_path: Path) -> None:
    root = make(tmp_path, replace(Fake(), version=None, declared=None, libraries=("torch_cpu", "torch")))
    (root / "include/torch/headeronly/version.h").unlink()
    assert inspect(root, "path").version is None


def test_cuda_is_recognised_by_the_libraries(tmp_path: Path) -> None:
    found = inspect(make(tmp_path / "all", CUDA), "path")
    assert (found.accelerator, found.accelerator_version, found.version) == ("cuda", "13.0", "2.13.0+cu130")
    found = inspect(make(tmp_path / "zip", replace(CUDA, version=None)), "path")
    assert (found.accelerator, found.accelerator_version) == ("cuda", "13")


def test_cuda_in_one_large_libtorch_is_recognised_by_c10_cuda(tmp_path: Path) -> None:
    fake = replace(Fake(), version="1.4.0", headers="1.4.0", built=None, cmake="1.4.0", cuda="10.1")
    needed = (("c10_cuda", ("libcudart-1b201d85.so.10.1",)),)
    fake = replace(fake, libraries=("torch", "c10_cuda"), needed=needed)
    found = inspect(make(tmp_path, fake), "path")
    assert (found.accelerator, found.accelerator_version, found.conflicts) == ("cuda", "10.1", ())


def test_a_cpu_build_that_claims_cuda_is_a_contradiction(tmp_path: Path) -> None:
    found = inspect(make(tmp_path, replace(Fake(), version="2.13.0+cu130", cuda="13.0")), "path")
    assert (found.accelerator, found.accelerator_version, found.version) == ("cpu", None, "2.13.0")
    assert "version.py says CUDA 13.0, but there is no libtorch_cuda" in found.conflicts


def test_the_runtime_that_the_libraries_need_wins_over_version_py(tmp_path: Path) -> None:
    found = inspect(make(tmp_path, replace(CUDA, version="2.13.0+cu124", cuda="12.4")), "path")
    assert found.accelerator_version == "13"
    assert any("need the runtime of CUDA 13" in conflict for conflict in found.conflicts)


@pytest.mark.parametrize(
    ("library", "name", "said", "version"),
    [
        ("torch_hip", "rocm", "hip: Optional[str] = '7.1.25424-4179531dcd'", "7.1"),
        ("torch_xpu", "xpu", "xpu: Optional[str] = '20250302'", "20250302"),
    ],
)
def test_other_accelerators_are_recognised_by_their_library(
    tmp_path: Path, library: str, name: str, said: str, version: str
) -> None:
    root = make(tmp_path, replace(Fake(), libraries=("torch_cpu", "torch", library)))
    (root / "version.py").write_text(f"__version__ = '2.13.0'\ncuda: Optional[str] = None\n{said}\n")
    found = inspect(root, "path")
    assert (found.accelerator, found.accelerator_version, found.conflicts) == (name, version, ())


def test_old_libtorchs_have_no_libtorch_cpu(tmp_path: Path) -> None:
    found = inspect(
        make(tmp_path, replace(Fake(), libraries=("torch", "caffe2"), guard=None, declared=11)), "path"
    )
    assert found.libraries == ("libc10.so", "libcaffe2.so", "libtorch.so")
    assert (found.cxx_standard_required, found.cxx_standard) == (11, 11)
    assert found.cxx_standard_from == "TorchConfig.cmake; the headers check nothing"


@pytest.mark.parametrize(
    ("gone", "why"),
    [
        ("libc10.so", "incomplete install: libc10 is missing"),
        ("libtorch_cpu.so", "incomplete install: libtorch.so needs libtorch_cpu.so, which is missing"),
    ],
)
def test_an_incomplete_install_is_refused(tmp_path: Path, gone: str, why: str) -> None:
    root = make(tmp_path)
    (root / "lib" / gone).unlink()
    with pytest.raises(LibtorchUnusableError, match=why):
        inspect(root, "path")


def test_a_library_that_is_not_a_library_is_refused(tmp_path: Path) -> None:
    root = make(tmp_path)
    (root / "lib/libc10.so").write_bytes(b"\x7fELF\x02\x01\x01")
    with pytest.raises(LibtorchUnusableError, match=r"libc10\.so"):
        inspect(root, "path")


def test_debians_version_links_are_one_library(tmp_path: Path) -> None:
    library_dir = "lib/x86_64-linux-gnu"
    fake = replace(Fake(), version=None, declared=None, libraries=("torch_cpu", "torch"))
    directory = make(tmp_path / "usr", fake, library_dir) / library_dir
    for name in ("libc10.so", "libtorch_cpu.so", "libtorch.so"):
        (directory / name).rename(directory / f"{name}.1.13.0")
        (directory / f"{name}.1.13").symlink_to(f"{name}.1.13.0")
        (directory / name).symlink_to(f"{name}.1.13")
    (directory / "libtorch_gone.so").symlink_to("libtorch_gone.so.1.13")
    (directory / "libother.so").touch()
    found = inspect(tmp_path, "path")
    assert found.libraries == ("libc10.so", "libtorch.so", "libtorch_cpu.so")
    assert (found.root, found.layout) == (tmp_path / "usr", "system")
    assert found.version == "1.13.0"
    assert found.version_from == "the file name libtorch_cpu.so.1.13.0"


def test_a_conda_prefix_is_read_with_its_package_record(tmp_path: Path) -> None:
    make(tmp_path, replace(Fake(), version=None, built=None))
    (tmp_path / "conda-meta").mkdir()
    (tmp_path / "conda-meta/libtorch-2.13.0-cpu_mkl_h1234_100.json").touch()
    site = tmp_path / "lib/python3.12/site-packages/torch"
    site.mkdir(parents=True)
    (site / "version.py").write_text("__version__ = '2.13.0.post100'\ncuda = None\n")
    (tmp_path / "lib/libz.so.1").touch()
    found = inspect(tmp_path, "path")
    assert (found.layout, found.version) == ("conda", "2.13.0.post100")
    assert "libz.so.1" not in found.libraries
    assert found.conflicts == ()
