"""A compiler that is a script with a C++ ABI of its own: the flags override it, in every syntax."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cmake.toy import MAIN, built, configured, project
from tests.conftest import run_clean, unmet
from torchlink.compilation.cmake import write_prefix
from torchlink.emit import emit
from torchlink.emit.cxx import flags
from torchlink.plan import PlanOptions, make_plan
from torchlink.toolchain.compiler import find_compiler

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch
    from torchlink.plan import LinkPlan

pytestmark = [pytest.mark.cmake, pytest.mark.compile]
TAKEN_BACK = "-U_GLIBCXX_USE_CXX11_ABI -D_GLIBCXX_USE_CXX11_ABI=1"
LISTS = (
    "cmake_minimum_required(VERSION 3.18)\nproject(existing LANGUAGES CXX)\nadd_compile_options(-Werror)\n"
)
APP = "add_executable(app main.cpp)\ntarget_link_libraries(app PRIVATE {})\n"


@pytest.fixture
def wrapper(tmp_path: Path) -> Path:
    """A compiler that defines the old ABI."""
    script = tmp_path / "old-c++"
    script.write_text('#!/bin/sh\nexec c++ -D_GLIBCXX_USE_CXX11_ABI=0 "$@"\n')
    script.chmod(0o755)
    return script


def plan_of(libtorch: Libtorch, compiler: Path | str, headers: str = "system") -> LinkPlan:
    return make_plan(libtorch, PlanOptions(headers=headers), find_compiler(str(compiler)))


def test_only_a_clash_is_taken_back(toy: Libtorch, wrapper: Path) -> None:
    assert plan_of(toy, wrapper).undefines == ("_GLIBCXX_USE_CXX11_ABI",)
    assert plan_of(toy, "c++").undefines == ()
    assert plan_of(toy._replace(cxx11_abi=0), wrapper).undefines == ()


def test_a_command_line_compiles_without_a_warning(toy: Libtorch, wrapper: Path, tmp_path: Path) -> None:
    (tmp_path / "main.cpp").write_text(MAIN)
    command = [str(wrapper), "-Werror", "main.cpp", "-o", "app", *flags(plan_of(toy, wrapper))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert run_clean(tmp_path / "app").returncode == 0


def test_nim_and_pkg_config_keep_the_order(toy: Libtorch, wrapper: Path, tmp_path: Path) -> None:
    plan = plan_of(toy, wrapper)
    assert f'--passC:"{TAKEN_BACK} ' in emit(plan, "nim")
    if not shutil.which("pkg-config"):
        unmet("pkg-config")
    (tmp_path / "torch.pc").write_text(emit(plan, "pkg-config"))
    environment = {**os.environ, "PKG_CONFIG_PATH": str(tmp_path)}
    said = subprocess.run(
        ["pkg-config", "--cflags", "torch"],
        env=environment, capture_output=True, check=True, text=True, errors="replace",  # it escapes single bytes,
        timeout=300,
    ).stdout  # fmt: skip
    assert [word for word in shlex.split(said) if "ABI" in word] == TAKEN_BACK.split()


@pytest.mark.parametrize("headers", ["system", "after"])
def test_the_cmake_snippet_compiles_without_a_warning(
    toy: Libtorch, wrapper: Path, tmp_path: Path, headers: str
) -> None:
    snippet = emit(plan_of(toy, wrapper, headers), "cmake")
    lists = f"{LISTS}include(torch.cmake)\n{APP.format('torchlink::torch')}"
    configured(project(tmp_path, lists, **{"torch.cmake": snippet}), f"-DCMAKE_CXX_COMPILER={wrapper}")
    built(tmp_path)
    assert run_clean(tmp_path / "build/app").returncode == 0


def test_the_cmake_prefix_detects_it(toy: Libtorch, wrapper: Path, tmp_path: Path) -> None:
    lists = f"{LISTS}find_package(Torch REQUIRED)\n{APP.format('torch')}"
    prefix = f"-DCMAKE_PREFIX_PATH={write_prefix(make_plan(toy))}"
    said = configured(project(tmp_path, lists), f"-DCMAKE_CXX_COMPILER={wrapper}", prefix)
    assert f"{wrapper} defines _GLIBCXX_USE_CXX11_ABI=0 by itself; targets that link libtorch get 1" in said
    built(tmp_path)
    assert run_clean(tmp_path / "build/app").returncode == 0
