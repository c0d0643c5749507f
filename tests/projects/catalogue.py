"""The ways in which existing projects use libtorch, with one small project for each.

Every project prints what `at::show_config()` returns: a `std::string` out of libtorch_cpu, so a wrong C++ ABI
does not link; and its header needs C++17.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MAIN = """\
#include <ATen/Version.h>
#include <c10/util/Exception.h>
#include <iostream>

int main() {
  TORCH_CHECK(!at::show_config().empty(), "no configuration");
  std::cout << "config: " << at::show_config().size() << std::endl;
}
"""
HEAD = "cmake_minimum_required(VERSION 3.18)\nproject(existing LANGUAGES CXX)\n"
APP = "add_executable(app main.cpp)\n"
LINK = 'target_link_libraries(app "${TORCH_LIBRARIES}")\n'


@dataclass(frozen=True)
class Project:
    """One existing project."""

    name: str
    files: dict[str, str]
    way: str = "prefix"  # how it is told: "prefix" | "dir" | "configure" | "compiler" | "c++" | "LIBTORCH" | "pkg-config"
    program: str = "build/app"
    arguments: tuple[str, ...] = field(default=())


def cmake(name: str, lists: str, way: str = "prefix", **more: str) -> Project:
    """A CMake project whose CMakeLists.txt is `lists` behind the usual two first lines."""
    return Project(name, {"CMakeLists.txt": HEAD + lists, "main.cpp": MAIN, **more}, way)


CMAKE_PROJECTS = (
    cmake("the tutorial's words", f"find_package(Torch REQUIRED)\n{APP}{LINK}set_property(TARGET app PROPERTY CXX_STANDARD 17)\n"),
    cmake("torch's own flags", f'find_package(Torch REQUIRED)\nset(CMAKE_CXX_FLAGS "${{CMAKE_CXX_FLAGS}} ${{TORCH_CXX_FLAGS}}")\n{APP}{LINK}'),
    cmake("the property asks for C++11", f"find_package(Torch REQUIRED)\n{APP}{LINK}set_property(TARGET app PROPERTY CXX_STANDARD 11)\n"),
    cmake("the variable asks for C++14", f"set(CMAKE_CXX_STANDARD 14)\nset(CMAKE_CXX_STANDARD_REQUIRED ON)\nfind_package(Torch REQUIRED)\n{APP}{LINK}"),
    cmake("-std=c++14 among the flags", f'set(CMAKE_CXX_FLAGS "${{CMAKE_CXX_FLAGS}} -std=c++14 -O1")\nfind_package(Torch REQUIRED)\n{APP}{LINK}'),
    cmake("a hard-coded prefix", f"set(CMAKE_PREFIX_PATH /opt/libtorch)\nfind_package(Torch REQUIRED)\n{APP}{LINK}", "dir"),
    cmake("a hard-coded ABI", f"find_package(Torch REQUIRED)\nadd_definitions(-D_GLIBCXX_USE_CXX11_ABI=0)\n{APP}{LINK}"),
    cmake("a hard-coded ABI among the flags", f'set(CMAKE_CXX_FLAGS "${{CMAKE_CXX_FLAGS}} -D_GLIBCXX_USE_CXX11_ABI=0")\nfind_package(Torch REQUIRED)\n{APP}{LINK}'),
    cmake(
        "Torch_DIR as a root in the environment",
        f"list(APPEND CMAKE_PREFIX_PATH $ENV{{Torch_DIR}}/share/cmake/Torch)\nfind_package(Torch REQUIRED)\n{APP}{LINK}",
        "configure",
    ),
    cmake("./libtorch", f'set(CMAKE_PREFIX_PATH "${{CMAKE_SOURCE_DIR}}/libtorch")\nfind_package(Torch REQUIRED)\n{APP}{LINK}', "configure"),
    cmake("a version", f"find_package(Torch 1.13 REQUIRED)\n{APP}{LINK}"),
    cmake("a version range", f"find_package(Torch 1.8...99 REQUIRED)\n{APP}{LINK}"),
    cmake(
        "torch_python beside it",
        f'find_package(Torch REQUIRED)\nfind_library(TORCH_PYTHON_LIBRARY torch_python PATHS "${{TORCH_INSTALL_PREFIX}}/lib")\n'
        f'if(NOT TORCH_PYTHON_LIBRARY)\n  message(FATAL_ERROR "no torch_python")\nendif()\n{APP}{LINK}',
    ),
    cmake(
        "FetchContent",
        "include(FetchContent)\nFetchContent_Declare(libtorch URL https://libtorch.invalid/libtorch.zip)\n"
        "FetchContent_MakeAvailable(libtorch)\n"
        f"find_package(Torch REQUIRED HINTS ${{libtorch_SOURCE_DIR}})\n{APP}{LINK}",
        "configure",
    ),
    cmake(
        "Python is asked",
        "find_package(Python3 COMPONENTS Interpreter REQUIRED)\n"
        'execute_process(COMMAND ${Python3_EXECUTABLE} -c "import torch; print(torch.utils.cmake_prefix_path)"\n'
        "  OUTPUT_VARIABLE ASKED OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)\n"
        f"list(APPEND CMAKE_PREFIX_PATH ${{ASKED}})\nfind_package(Torch REQUIRED)\n{APP}{LINK}",
        "configure",
    ),
    cmake("targets by name", f"find_package(Torch REQUIRED)\n{APP}target_link_libraries(app PRIVATE torch c10)\n"),
    cmake("torch_library by name", f"find_package(Torch REQUIRED)\n{APP}target_link_libraries(app PRIVATE torch_library c10)\n"),
    cmake(
        "directories and bare names",
        "set(CMAKE_CXX_STANDARD 17)\nfind_package(Torch REQUIRED)\ninclude_directories(${TORCH_INCLUDE_DIRS})\n"
        f'link_directories("${{TORCH_INSTALL_PREFIX}}/lib")\n{APP}target_link_libraries(app torch c10)\n',
    ),
    cmake(
        "a library and a program in subdirectories",
        "find_package(Torch REQUIRED)\nadd_subdirectory(core)\nadd_subdirectory(tool)\n",
        **{
            "core/CMakeLists.txt": "find_package(Torch REQUIRED)\nadd_library(core SHARED core.cpp)\n"
            "target_link_libraries(core PUBLIC ${TORCH_LIBRARIES})\n",
            "core/core.cpp": "#include <ATen/Version.h>\nstd::string config() { return at::show_config(); }\n",
            "tool/CMakeLists.txt": "add_executable(app ../main.cpp)\ntarget_link_libraries(app PRIVATE core)\n"
            'set_property(TARGET app PROPERTY RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}")\n',
        },
    ),
    cmake(
        "no find_package, but directories of another machine",
        "set(CMAKE_CXX_STANDARD 14)\ninclude_directories(/opt/libtorch/include /opt/libtorch/include/torch/csrc/api/include)\n"
        f"link_directories(/opt/libtorch/lib)\n{APP}target_link_libraries(app torch torch_cpu c10)\n",
        "compiler",
    ),
    cmake(
        "an installed program",
        f"find_package(Torch REQUIRED)\n{APP}{LINK}install(TARGETS app DESTINATION bin)\n"
        'set(CMAKE_INSTALL_RPATH "${TORCH_INSTALL_PREFIX}/lib")\n',
    ),
)  # fmt: skip

MAKEFILE = """\
LIBTORCH ?= /opt/libtorch
CXXFLAGS += -O1 -std=c++14 -I$(LIBTORCH)/include -I$(LIBTORCH)/include/torch/csrc/api/include
LDFLAGS += -L$(LIBTORCH)/lib -Wl,-rpath,$(LIBTORCH)/lib
LDLIBS += -ltorch -ltorch_cpu -lc10

app: main.o
\t$(CXX) $(LDFLAGS) -o $@ $^ $(LDLIBS)
"""
MAKEFILE_PKG_CONFIG = """\
CXXFLAGS += $(shell pkg-config --cflags torch)
LDLIBS += $(shell pkg-config --libs torch)

app: main.cpp
\t$(CXX) $(CXXFLAGS) -o $@ $< $(LDLIBS)
"""
MAKE_PROJECTS = (
    Project("a plain Makefile with /opt/libtorch", {"Makefile": MAKEFILE, "main.cpp": MAIN}, "c++", "app"),
    Project(
        "a plain Makefile that takes LIBTORCH", {"Makefile": MAKEFILE, "main.cpp": MAIN}, "LIBTORCH", "app"
    ),
    Project(
        "a Makefile with pkg-config", {"Makefile": MAKEFILE_PKG_CONFIG, "main.cpp": MAIN}, "pkg-config", "app"
    ),
)

MESON_PROJECT = Project(
    "meson with pkg-config",
    {
        # Every target says which standard it means to be compiled with; 0: whatever the compiler takes by itself.
        "meson.build": "project('existing', 'cpp', default_options: ['cpp_std=c++17'])\n"
        "torch = dependency('torch')\n"
        "executable('app', 'main.cpp', dependencies: torch)\n"
        "foreach name, standard : {'none': 0, 'c++17': 201703, 'c++20': 202002}\n"
        "  library('in_' + name, 'standard.cpp', dependencies: torch, cpp_args: f'-DEXPECTED=@standard@',\n"
        "    override_options: ['cpp_std=' + name])\n"
        "endforeach\n"
        # The headers of libtorch need C++17: torch's own #error says so.
        "library('in_c++14', 'lowered.cpp', dependencies: torch, build_by_default: false,\n"
        "  cpp_args: '-Wfatal-errors', override_options: ['cpp_std=c++14'])\n",
        "lowered.cpp": "#include <ATen/ATen.h>\n",
        "main.cpp": MAIN,
        "standard.cpp": "#include <c10/util/Exception.h>\n"
        'static_assert(!EXPECTED || __cplusplus == EXPECTED, "another standard");\n',
    },
    "pkg-config",
)
SETUP_PY = """\
from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CppExtension

old = ["-std=c++14", "-D_GLIBCXX_USE_CXX11_ABI=0"]
setup(
    name="existing",
    ext_modules=[CppExtension("existing", ["existing.cpp"], extra_compile_args=old)],
    cmdclass={"build_ext": BuildExtension},
)
"""
EXTENSION = """\
#include <ATen/ATen.h>
#include <torch/csrc/utils/pybind.h>

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("config", [] { return at::show_config(); });
  m.def("twice", [](const at::Tensor& x) { return x * 2; });
}
"""
SETUP_PROJECT = Project(
    "setup.py with cpp_extension", {"setup.py": SETUP_PY, "existing.cpp": EXTENSION}, "compiler"
)

# What no setting redirects: a library named by its path.
GONE = "/opt/no-such-libtorch/lib/libtorch.so"
CMAKE_WITH_A_PATH = cmake(
    "a library by its path", f"find_package(Torch REQUIRED)\n{APP}target_link_libraries(app {GONE})\n"
)
MAKE_WITH_A_PATH = Project(
    "a library by its path",
    {"Makefile": f"app: main.cpp\n\t$(CXX) -o $@ $< {GONE}\n", "main.cpp": MAIN},
    "c++",
    "app",
)
