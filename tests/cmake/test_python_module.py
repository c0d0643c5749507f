"""torchlink_add_python_module() with a real CMake: what a module links, where it finds libtorch, and its import."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cmake.toy import build_toy
from tests.conftest import program
from torchlink.binary.elf import ElfFile
from torchlink.compilation.cmake import write_prefix
from torchlink.plan import PlanOptions, make_plan

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.binary.elf_dynamic import Dynamic
    from torchlink.libtorch.facts import Libtorch

pytestmark = pytest.mark.cmake
MODULE = r"""
#include <Python.h>
#include <toy.h>
#ifdef STABLE
static_assert(TORCH_TARGET_VERSION == 0x020a000000000000ULL && Py_LIMITED_API == 0x030a0000);
#endif
static PyObject* value(PyObject*, PyObject*) { return PyLong_FromLong(torch_value("abc")); }
static PyMethodDef methods[] = {{"value", value, METH_NOARGS, nullptr}, {nullptr, nullptr, 0, nullptr}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, NAME, nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};
#define INIT(name) PyInit_##name
#define INITIALIZE(name) INIT(name)
PyMODINIT_FUNC INITIALIZE(MODULE)() { return PyModule_Create(&definition); }
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Libtorch:
    """A CUDA libtorch, as pip installs it, in a directory with a space."""
    site = tmp_path_factory.mktemp("an environment") / "lib" / "python3.11" / "site-packages"
    return build_toy(site / "torch", companion_dirs=())


def install(toy: Libtorch, directory: Path, calls: str, **variables: str) -> Path:
    """Configure, build and install a project; return the directory that stands for site-packages."""
    prefix = write_prefix(make_plan(toy, PlanOptions()), directory / "prefix")
    (directory / "module.cpp").write_text(MODULE)
    (directory / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(modules LANGUAGES CXX)\n"
        f"find_package(Torch REQUIRED)\n{calls}\n"
    )
    site = toy.root.parent
    settings = {
        "CMAKE_PREFIX_PATH": str(prefix),
        "CMAKE_INSTALL_PREFIX": str(site),
        "Python_EXECUTABLE": sys.executable,
        **variables,
    }
    cmake = program("cmake")
    for words in (
        [
            cmake,
            "-S",
            directory,
            "-B",
            directory / "build",
            *(f"-D{name}={value}" for name, value in settings.items()),
        ],
        [cmake, "--build", directory / "build"],
        [cmake, "--install", directory / "build"],
    ):
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        directory.joinpath("log").write_text(done.stdout + done.stderr)
    return site


def definitions(target: str, name: str) -> str:
    return f'target_compile_definitions({target} PRIVATE MODULE={name} NAME="{name}")'


def imported(site: Path, module: str, expression: str) -> str:
    script = f"import sys; sys.path[:0] = sys.argv[1:]; import {module}; print({expression})"
    done = subprocess.run(
        [sys.executable, "-I", "-c", script, site], capture_output=True, text=True, check=False, env={}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def dynamic(file: Path) -> Dynamic:
    with ElfFile.open(file) as binary:
        return binary.dynamic


def needed(file: Path) -> set[str]:
    return {name for name in dynamic(file).needed if "torch" in name or "c10" in name or "python" in name}


def test_modules_find_libtorch_from_where_they_are_and_link_what_they_use(
    toy: Libtorch, tmp_path: Path
) -> None:
    calls = f"""
torchlink_add_python_module(toplevel module.cpp DESTINATION .)
{definitions("toplevel", "toplevel")}
torchlink_add_python_module(_C module.cpp DESTINATION pack/inner)
{definitions("_C", "_C")}
"""
    site = install(toy, tmp_path, calls)
    (top,) = site.glob("toplevel*.so")
    (inner,) = site.glob("pack/inner/_C*.so")
    assert dynamic(top).runpath == "$ORIGIN/torch/lib"
    assert dynamic(inner).runpath == "$ORIGIN/../../torch/lib"
    assert (
        needed(top) == needed(inner) == {"libtorch_cpu.so"}
    )  # neither libc10, unused, nor the CUDA libraries
    assert imported(site, "toplevel", "toplevel.value()") == "4"
    assert imported(site, "pack.inner._C", "pack.inner._C.value()") == "4"


def test_tensors_link_torch_python_where_it_is_used(toy: Libtorch, tmp_path: Path) -> None:
    source = tmp_path / "tensors.cpp"
    source.write_text("int torch_python_value();\nint other = torch_python_value();\n")
    calls = f"""
torchlink_add_python_module(_T module.cpp tensors.cpp DESTINATION tensors TENSORS)
{definitions("_T", "_T")}
"""
    site = install(toy, tmp_path, calls)
    (module,) = site.glob("tensors/_T*.so")
    assert needed(module) == {"libtorch_cpu.so", "libtorch_python.so"}
    assert imported(site, "tensors._T", "tensors._T.value()") == "4"


def test_a_stable_module_is_for_all_later_pythons_and_links_one_library(
    toy: Libtorch, tmp_path: Path
) -> None:
    calls = f"""
torchlink_add_python_module(_S module.cpp DESTINATION stable STABLE_ABI 2.10)
{definitions("_S", "_S")}
target_compile_definitions(_S PRIVATE STABLE)
"""
    site = install(toy, tmp_path, calls)
    module = site / "stable" / "_S.abi3.so"
    assert needed(module) == {"libtorch_cpu.so"}
    assert imported(site, "stable._S", "stable._S.value()") == "4"


def test_the_directory_of_scikit_build_core_is_taken_into_account(toy: Libtorch, tmp_path: Path) -> None:
    calls = f"torchlink_add_python_module(_W module.cpp DESTINATION deep)\n{definitions('_W', '_W')}"
    platlib = tmp_path / "wheel" / "platlib"
    install(
        toy, tmp_path, calls, SKBUILD_PLATLIB_DIR=str(platlib), CMAKE_INSTALL_PREFIX=str(platlib / "package")
    )
    (module,) = platlib.glob("package/deep/_W*.so")
    assert dynamic(module).runpath == "$ORIGIN/../../torch/lib"


def test_a_libtorch_outside_site_packages_is_found_where_it_is(tmp_path: Path) -> None:
    toy = build_toy(tmp_path / "unpacked" / "libtorch", companion_dirs=())
    calls = f"torchlink_add_python_module(_A module.cpp DESTINATION .)\n{definitions('_A', '_A')}"
    site = install(toy, tmp_path, calls)
    (module,) = site.glob("_A*.so")
    assert dynamic(module).runpath == str(toy.library_dir)
    assert imported(site, "_A", "_A.value()") == "4"


def test_condas_libtorch_is_in_the_environments_lib(tmp_path: Path) -> None:
    environment = tmp_path / "an environment"
    (environment / "conda-meta").mkdir(parents=True)
    toy = build_toy(environment, companion_dirs=(), python=environment / "bin" / "python")
    site = environment / "lib" / "python3.11" / "site-packages"
    calls = f"torchlink_add_python_module(_C module.cpp DESTINATION package)\n{definitions('_C', '_C')}"
    install(toy, tmp_path, calls, CMAKE_INSTALL_PREFIX=str(site))
    (module,) = site.glob("package/_C*.so")
    assert dynamic(module).runpath == "$ORIGIN/../../.."
    assert imported(site, "package._C", "package._C.value()") == "4"


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("TENSORS STABLE_ABI 2.10", "cannot be combined"),
        ("STABLE_ABI new", "is not a version of torch"),
        ("STABLE_ABI 2.8", "is not a version of torch"),
    ],
)
def test_what_cannot_be_is_an_error_of_cmake(toy: Libtorch, tmp_path: Path, call: str, reason: str) -> None:
    with pytest.raises(AssertionError, match=reason):
        install(toy, tmp_path, f"torchlink_add_python_module(_E module.cpp {call})")
