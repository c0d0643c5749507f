"""Headers that libtorch and the system both have: CMake names the targets that link libtorch and use them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cmake.toy import built, configure, project
from tests.conftest import unmet

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result

pytestmark = [pytest.mark.cmake, pytest.mark.compile]

PROJECT = """\
cmake_minimum_required(VERSION 3.18)
project(existing LANGUAGES CXX)
{before}
find_package(Torch REQUIRED)
{after}
add_library(log INTERFACE)
target_link_libraries(log INTERFACE spdlog::spdlog)
add_library(linked STATIC part.cpp)
target_link_libraries(linked PRIVATE log torch)
add_library(included STATIC direct.cpp)
target_compile_definitions(included PRIVATE SPDLOG_FMT_EXTERNAL SPDLOG_COMPILED_LIB)
target_link_libraries(included PRIVATE ${{TORCH_LIBRARIES}})
add_library(no_torch STATIC part.cpp)
target_link_libraries(no_torch PRIVATE log)
add_library(no_spdlog STATIC plain.cpp)
target_link_libraries(no_spdlog PRIVATE ${{TORCH_LIBRARIES}})
"""
FILES = {
    "part.cpp": '#include "between.h"\n',
    "between.h": "#include <spdlog/spdlog.h>\n",
    "direct.cpp": "#include <c10/util/Exception.h>\n#include <spdlog/spdlog.h>\n",
    "plain.cpp": "#include <c10/macros/Macros.h>\n",
}
FIND = "find_package(spdlog REQUIRED)"
# The include path of every target in the directory, as many projects for upstream's TorchConfig.cmake set it.
BY_VARIABLE = """\
cmake_minimum_required(VERSION 3.18)
project(existing LANGUAGES CXX)
find_package(Torch REQUIRED)
include_directories(${TORCH_INCLUDE_DIRS})
add_library(fmt STATIC fmt.cpp)
target_include_directories(fmt PUBLIC own)
add_library(app STATIC app.cpp)
target_link_libraries(app PRIVATE fmt ${TORCH_LIBRARIES})
"""
OWN_FMT = {
    "own/fmt/format.h": "constexpr int own_fmt = 1;\n",
    "fmt.cpp": "#include <fmt/format.h>\nint f() { return own_fmt; }\n",
    "app.cpp": "#include <c10/macros/Macros.h>\n#include <fmt/format.h>\nint g() { return own_fmt; }\n",
}


@pytest.fixture
def spdlog() -> None:
    if not Path("/usr/include/spdlog/spdlog.h").is_file() or not Path("/usr/include/fmt").is_dir():
        unmet("the system's spdlog with its fmt (libspdlog-dev)")


@pytest.mark.usefixtures("spdlog")
@pytest.mark.parametrize("first", [True, False])
def test_targets_that_use_spdlog_and_libtorch_are_named_and_headers_after_builds_them(
    first: bool, torch_root: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    lists = PROJECT.format(before=FIND if first else "", after="" if first else FIND)
    prefix = torchlink("cmake", "prefix", "--libtorch", torch_root).out.strip()
    done = configure(project(tmp_path / "p", lists, **FILES), f"-DCMAKE_PREFIX_PATH={prefix}")
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if "--headers after" in line]
    assert [line.split()[2] for line in told] == ["linked", "included"]
    assert all(f"fmt in {torch_root}/include" in line and "/usr/include" in line for line in told)
    if not first:
        return
    prefix = torchlink("cmake", "prefix", "--headers", "after", "--libtorch", torch_root).out.strip()
    done = configure(project(tmp_path / "after", lists, **FILES), f"-DCMAKE_PREFIX_PATH={prefix}")
    assert "--headers after" not in done.stdout
    built(tmp_path / "after")


def test_headers_after_also_holds_for_projects_that_use_torch_include_dirs(
    torch_root: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    prefix = torchlink("cmake", "prefix", "--headers", "after", "--libtorch", torch_root).out.strip()
    done = configure(project(tmp_path / "p", BY_VARIABLE, **OWN_FMT), f"-DCMAKE_PREFIX_PATH={prefix}")
    assert done.returncode == 0, done.stderr
    built(tmp_path / "p")
