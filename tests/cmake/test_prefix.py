"""An existing project finds torchlink's prefix as it would find upstream's, and gets what libtorch needs."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cmake.toy import built, compile_flags, configure, configured, dynamic, moved_away, project
from tests.conftest import run_clean, unmet
from torchlink.compilation.cmake import write_prefix
from torchlink.libtorch.inspect import inspect
from torchlink.plan import PlanOptions, make_plan
from torchlink.toolchain.tools import read_version

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch

pytestmark = pytest.mark.cmake

HEAD = "cmake_minimum_required(VERSION 3.18)\nproject(existing LANGUAGES CXX)\n"
FIND = "find_package(Torch REQUIRED)\n"
APP = "add_executable(app main.cpp)\ntarget_link_libraries(app ${TORCH_LIBRARIES})\n"


def prefix_of(libtorch: Libtorch, options: PlanOptions | None = None) -> str:
    """The argument that makes a project use this libtorch."""
    return f"-DCMAKE_PREFIX_PATH={write_prefix(make_plan(libtorch, options or PlanOptions()))}"


def test_a_program_builds_and_runs(toy: Libtorch, tmp_path: Path) -> None:
    configured(project(tmp_path, HEAD + FIND + APP), prefix_of(toy))
    built(tmp_path)
    assert run_clean(tmp_path / "build/app").returncode == 0
    found = dynamic(tmp_path / "build/app")
    assert sorted(found["NEEDED"]) == ["libc10.so", "libtorch_cpu.so", "libtorch_cuda.so"]
    assert found["RPATH"] == []
    assert found["RUNPATH"] == [str(toy.library_dir)]


def test_a_cpu_program_links_no_accelerator_library(toy: Libtorch, tmp_path: Path) -> None:
    configured(project(tmp_path, HEAD + FIND + APP), prefix_of(toy, PlanOptions(cpu_only=True)))
    built(tmp_path)
    assert sorted(dynamic(tmp_path / "build/app")["NEEDED"]) == ["libc10.so", "libtorch_cpu.so"]


def test_an_aoti_program_keeps_the_stub_that_packages_ask_for(toy: Libtorch, tmp_path: Path) -> None:
    configured(project(tmp_path, HEAD + FIND + APP), prefix_of(toy, PlanOptions(aoti=True, cpu_only=True)))
    built(tmp_path)
    assert "libtorch.so" in dynamic(tmp_path / "build/app")["NEEDED"]


def test_the_required_library_passes_through_a_static_library(toy: Libtorch, tmp_path: Path) -> None:
    lists = (
        f"{HEAD}{FIND}add_library(part STATIC part.cpp)\ntarget_link_libraries(part PRIVATE torch)\n"
        "add_executable(app whole.cpp)\ntarget_link_libraries(app PRIVATE part)\n"
    )
    part = '#include <toy.h>\nint part() { return torch_value(""); }\n'
    whole = "int part();\nint main() { return part() - 1; }\n"
    configured(project(tmp_path, lists, **{"part.cpp": part, "whole.cpp": whole}), prefix_of(toy))
    built(tmp_path)
    assert "libtorch_cuda.so" in dynamic(tmp_path / "build/app")["NEEDED"]
    assert run_clean(tmp_path / "build/app").returncode == 0


def test_companions_of_a_moved_libtorch_are_reached_by_an_rpath(toy: Libtorch, tmp_path: Path) -> None:
    away = tmp_path / "away companions"
    configured(project(tmp_path / "p", HEAD + FIND + APP), prefix_of(moved_away(toy, away)))
    built(tmp_path / "p")
    found = dynamic(tmp_path / "p/build/app")
    assert found["RUNPATH"] == []
    assert set(found["RPATH"]) == {str(toy.library_dir), str(away)}


def test_upstreams_variables_and_targets_are_there(toy: Libtorch, tmp_path: Path) -> None:
    names = ("torch", "torch_library", "torch_cpu", "torch_cpu_library", "c10", "torch_python")
    cuda = ("torch_cuda", "torch_cuda_library", "c10_cuda")
    lists = (
        f"{HEAD}{FIND}foreach(name {' '.join((*names, *cuda))})\n  if(NOT TARGET ${{name}})\n"
        '    message(FATAL_ERROR "no ${name}")\n  endif()\nendforeach()\n'
        "foreach(name TORCH_FOUND Torch_FOUND TORCH_INSTALL_PREFIX TORCH_INCLUDE_DIRS TORCH_CXX_FLAGS Torch_VERSION\n"
        "    TORCH_LIBRARIES TORCH_LIBRARY C10_LIBRARY C10_CUDA_LIBRARY TORCH_CUDA_LIBRARIES)\n"
        '  message(STATUS "${name}=${${name}}")\nendforeach()\n'
        'get_target_property(location torch IMPORTED_LOCATION)\nmessage(STATUS "location=${location}")\n'
        'get_target_property(dirs torch INTERFACE_INCLUDE_DIRECTORIES)\nmessage(STATUS "dirs=${dirs}")\n'
        'append_torchlib_if_found(torch_python)\nmessage(STATUS "last=${TORCH_LIBRARIES}")\n'
    )
    out = configured(project(tmp_path, lists), prefix_of(toy))
    said = dict(line[3:].split("=", 1) for line in out.splitlines() if line.startswith("-- ") and "=" in line)
    dirs = ";".join(map(str, toy.include_dirs))
    assert said == {
        "TORCH_FOUND": "TRUE",
        "Torch_FOUND": "1",
        "TORCH_INSTALL_PREFIX": str(toy.root),
        "TORCH_INCLUDE_DIRS": dirs,
        "TORCH_CXX_FLAGS": "-D_GLIBCXX_USE_CXX11_ABI=1",
        "Torch_VERSION": "2.13.0",
        "TORCH_LIBRARIES": "torch;torch_library;c10",
        "TORCH_LIBRARY": str(toy.library_dir / "libtorch_cpu.so"),
        "C10_LIBRARY": str(toy.library_dir / "libc10.so"),
        "C10_CUDA_LIBRARY": str(toy.library_dir / "libc10_cuda.so"),
        "TORCH_CUDA_LIBRARIES": "torch_cuda;c10_cuda",
        "location": str(toy.library_dir / "libtorch_cpu.so"),
        "dirs": dirs,
        "last": f"torch;torch_library;c10;{toy.library_dir / 'libtorch_python.so'}",
    }


VERSIONS = {
    "": True,
    "1.8": True,
    "2.13.0": True,
    "2.13.0 EXACT": True,
    "2.12 EXACT": False,
    "2.14": False,
    "1.8...2.99": True,
    "2.0...2.13.0": True,
    "2.0...<2.13": False,
    "2.14...3": False,
}


def test_version_requests_are_answered_as_by_upstream(toy: Libtorch, tmp_path: Path) -> None:
    asks = (
        f'find_package(Torch {asked} QUIET)\nmessage(STATUS "[{asked}] ${{Torch_FOUND}}")\n'
        for asked in VERSIONS
    )
    out = configured(project(tmp_path, HEAD + "".join(asks)), prefix_of(toy))
    for asked, served in VERSIONS.items():
        assert f"[{asked}] {int(served)}" in out


STANDARDS = (
    f"{HEAD}set(CMAKE_CXX_FLAGS ${{EARLY}})\n{FIND}"
    "foreach(name plain property option flag20 apart)\n  add_executable(${name} main.cpp)\nendforeach()\n"
    "foreach(name plain property option flag20)\n  target_link_libraries(${name} PRIVATE torch)\nendforeach()\n"
    "set_target_properties(property PROPERTIES CXX_STANDARD 11)\n"
    "target_compile_options(option PRIVATE -std=gnu++1y)\n"
    "target_compile_options(flag20 PRIVATE -std=c++20)\n"
)


def standard_of(words: list[str]) -> str | None:
    """The last -std on a command line."""
    return next((word for word in reversed(words) if word.startswith("-std=")), None)


def test_a_lower_standard_is_raised_wherever_it_is_set(toy: Libtorch, tmp_path: Path) -> None:
    out = configured(project(tmp_path, STANDARDS), prefix_of(toy), "-DEARLY=-std=c++14")
    standards = {name: standard_of(words) for name, words in compile_flags(tmp_path).items()}
    assert standards.pop("property") in {"-std=c++17", "-std=gnu++17"}
    assert standards == {
        "plain": "-std=c++17",
        "option": "-std=gnu++17",
        "flag20": "-std=c++20",
        "apart": "-std=c++14",
    }
    assert "set a C++ standard below 17" in out
    built(tmp_path, "plain", "property", "option", "flag20")


def test_a_higher_standard_is_left_alone(toy: Libtorch, tmp_path: Path) -> None:
    out = configured(project(tmp_path, STANDARDS), prefix_of(toy), "-DEARLY=-std=c++20")
    words = compile_flags(tmp_path)
    assert standard_of(words["plain"]) == standard_of(words["flag20"]) == "-std=c++20"
    assert "option, " not in out


CLASH = {
    "among the flags": 'set(CMAKE_CXX_FLAGS "-D_GLIBCXX_USE_CXX11_ABI=0 -Werror")\n' + FIND + APP,
    "in the directory": FIND + "add_definitions(-D_GLIBCXX_USE_CXX11_ABI=0)\n" + APP,
    "at the target": FIND + APP + "target_compile_definitions(app PRIVATE _GLIBCXX_USE_CXX11_ABI=0)\n",
}


@pytest.mark.parametrize("where", CLASH)
def test_another_abi_is_overridden_and_reported(toy: Libtorch, tmp_path: Path, where: str) -> None:
    done = configure(project(tmp_path, HEAD + CLASH[where]), prefix_of(toy))
    assert "The flags of app set another _GLIBCXX_USE_CXX11_ABI than 1" in done.stderr
    built(tmp_path)  # torch_value(std::string) has another name in ABI 0


def test_the_abi_of_an_old_libtorch_reaches_the_program(toy: Libtorch, tmp_path: Path) -> None:
    configured(project(tmp_path, HEAD + FIND + APP), prefix_of(toy._replace(cxx11_abi=0)))
    assert "-D_GLIBCXX_USE_CXX11_ABI=0" in compile_flags(tmp_path)["app"]


def test_libcxx_is_refused_before_anything_is_linked(toy: Libtorch, tmp_path: Path) -> None:
    lists = f"{HEAD}add_compile_options(-stdlib=libc++)\n{FIND}{APP}"
    done = configure(project(tmp_path, lists), prefix_of(toy))
    assert done.returncode != 0
    assert "This project is compiled with libc++" in " ".join(done.stderr.split())


def test_headers_are_the_systems_or_come_after_them(toy: Libtorch, tmp_path: Path) -> None:
    configured(project(tmp_path / "a", HEAD + FIND + APP), prefix_of(toy))
    configured(project(tmp_path / "b", HEAD + FIND + APP), prefix_of(toy, PlanOptions(headers="after")))
    first, second = (compile_flags(tmp_path / name)["app"] for name in "ab")
    for directory in map(str, toy.include_dirs):
        assert first[first.index(directory) - 1] == "-isystem"
        assert second[second.index(directory) - 1] == "-idirafter"
    built(tmp_path / "b")


def test_torch_may_be_found_twice_and_in_sibling_directories(toy: Libtorch, tmp_path: Path) -> None:
    lists = f"{HEAD}add_subdirectory(one)\nadd_subdirectory(two)\n"
    sub = "{}{}add_executable({} ../main.cpp)\ntarget_link_libraries({} torch)\n"
    files = {f"{name}/CMakeLists.txt": sub.format(FIND, FIND, name, name) for name in ("one", "two")}
    configured(project(tmp_path, lists, **files), prefix_of(toy))
    built(tmp_path)
    for name in ("one", "two"):
        assert run_clean(tmp_path / "build" / name / name).returncode == 0


def test_a_libtorch_that_was_removed_or_replaced_is_reported(toy: Libtorch, tmp_path: Path) -> None:
    library = tmp_path / "torch/lib/libtorch_cpu.so"
    moving = toy._replace(root=tmp_path / "torch", library_dir=library.parent)
    library.parent.mkdir(parents=True)
    for file in toy.library_dir.iterdir():
        (library.parent / file.name).write_bytes(file.read_bytes())
    prefix = prefix_of(moving)
    library.write_bytes(library.read_bytes() + b"\0")
    said = configure(project(tmp_path / "p", HEAD + FIND + APP), prefix).stderr
    assert "has changed since torchlink wrote" in " ".join(said.split())
    library.unlink()
    done = configure(tmp_path / "p", prefix)
    assert done.returncode != 0
    assert f"{library} does not exist any more" in " ".join(done.stderr.split()).replace("- ", "-")


def test_upstreams_definitions_are_carried_over(toy: Libtorch, tmp_path: Path) -> None:
    targets = toy.root / "share/cmake/Caffe2/Caffe2Targets.cmake"
    targets.parent.mkdir(parents=True, exist_ok=True)
    block = 'set_target_properties({} PROPERTIES\n  INTERFACE_COMPILE_DEFINITIONS "{}"\n)\n'
    try:
        targets.write_text(
            "\n"
            + block.format("torch_cpu", "USE_DISTRIBUTED;USE_C10D_GLOO")
            + block.format(
                "torch_cpu_library", r"\$<TARGET_PROPERTY:torch_cpu,INTERFACE_COMPILE_DEFINITIONS>"
            )
            + block.format("torch_cuda", "USE_C10D_NCCL")
        )
        both, cpu = prefix_of(toy), prefix_of(toy, PlanOptions(cpu_only=True))
    finally:
        targets.unlink()
    configured(project(tmp_path / "a", HEAD + FIND + APP), both)
    configured(project(tmp_path / "b", HEAD + FIND + APP), cpu)
    first, second = (compile_flags(tmp_path / name)["app"] for name in "ab")
    assert {"-DUSE_DISTRIBUTED", "-DUSE_C10D_GLOO", "-DUSE_C10D_NCCL"} <= set(first)
    assert {"-DUSE_DISTRIBUTED", "-DUSE_C10D_GLOO"} <= set(second)
    assert "-DUSE_C10D_NCCL" not in second


@pytest.mark.compile
def test_a_real_torch_works_for_a_project_with_old_flags(torch_root: Path, tmp_path: Path) -> None:
    source = (
        "#include <ATen/Version.h>\n#include <cstdio>\nint main() { std::puts(at::show_config().c_str()); }\n"
    )
    lists = (
        f"{HEAD}{FIND}"
        'set(CMAKE_CXX_FLAGS "${CMAKE_CXX_FLAGS} ${TORCH_CXX_FLAGS} -std=c++11")\n'
        "add_executable(app main.cpp)\ntarget_link_libraries(app ${TORCH_LIBRARIES})\n"
        "set_property(TARGET app PROPERTY CXX_STANDARD 14)\n"
    )
    configured(
        project(tmp_path, lists, **{"main.cpp": source}), prefix_of(inspect(torch_root, found_by="test"))
    )
    built(tmp_path)
    assert run_clean(tmp_path / "build/app").stdout.startswith("PyTorch built with")


def cmake_3() -> str:
    """A CMake before 4, which refuses projects this old; the first on PATH may be a newer one from PyPI."""
    programs = (shutil.which("cmake", path=directory) for directory in os.get_exec_path())
    old = next((each for each in programs if each and read_version(text_of(each, "--version")) < (4,)), None)
    return old or unmet("CMake 3: a newer one refuses such a project")


def text_of(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


@pytest.mark.parametrize("least", ["2.8.12", "3.2"])
def test_a_project_may_ask_for_the_policies_of_an_old_cmake(
    toy: Libtorch, tmp_path: Path, least: str
) -> None:
    cmake = cmake_3()
    lists = (
        f"cmake_minimum_required(VERSION {least})\nproject(existing CXX)\n{FIND}"
        "append_torchlib_if_found(torch_python)\n"
        'add_definitions(-D_GLIBCXX_USE_CXX11_ABI=0)\nset(CMAKE_CXX_FLAGS "-std=c++14")\n'
        # CMP0057, which what torchlink wrote needs, is still the project's own affair.
        f'cmake_policy(GET CMP0057 own)\nmessage(STATUS "own policy: <${{own}}>")\n{APP}'
    )
    done = configure(project(tmp_path, lists), prefix_of(toy), cmake=cmake)
    assert done.returncode == 0, done.stderr
    assert "own policy: <>" in done.stdout
    assert "The flags of app set another _GLIBCXX_USE_CXX11_ABI" in done.stderr
    assert standard_of(compile_flags(tmp_path)["app"]) == "-std=c++17"
    built(tmp_path, cmake=cmake)


RPATHS = {
    "": True,
    "set(CMAKE_INSTALL_RPATH_USE_LINK_PATH FALSE)\n": False,
    "set(CMAKE_INSTALL_RPATH $ORIGIN/../lib)\nset(CMAKE_INSTALL_RPATH_USE_LINK_PATH OFF)\n": False,
}


@pytest.mark.parametrize("own", RPATHS)
def test_an_installed_program_finds_libtorch_unless_the_project_says_otherwise(
    toy: Libtorch, tmp_path: Path, own: str
) -> None:
    lists = f"{HEAD}{own}{FIND}{APP}install(TARGETS app RUNTIME DESTINATION bin)\n"
    configured(project(tmp_path, lists), prefix_of(toy))
    built(tmp_path)
    install = ("cmake", "--install", str(tmp_path / "build"), "--prefix", str(tmp_path / "there"))
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    starts = run_clean(tmp_path / "there/bin/app").returncode == 0
    assert starts == RPATHS[own]


def test_a_project_for_another_machine_is_refused_before_anything_is_linked(
    toy: Libtorch, tmp_path: Path
) -> None:
    other = "aarch64" if toy.arch == "x86_64" else "x86_64"
    done = configure(
        project(tmp_path, HEAD + FIND + APP),
        prefix_of(toy),
        "-DCMAKE_SYSTEM_NAME=Linux",
        f"-DCMAKE_SYSTEM_PROCESSOR={other}",
    )
    assert done.returncode != 0
    said = " ".join(done.stderr.split())
    assert f"is built for {toy.arch}, and this project is compiled for {other}" in said
