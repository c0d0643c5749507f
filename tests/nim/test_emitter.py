"""`torchlink flags --nim`: the flags reach the compiler and the linker, whatever is in a path."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import REPOSITORY, run_clean, unmet
from tests.nim.conftest import Nim
from torchlink.emit import nim
from torchlink.plan import PlanLibrary, make_plan

if TYPE_CHECKING:
    from torchlink.plan import LinkPlan

pytestmark = pytest.mark.nim

PROGRAM = """
{.passC: "-std=c++14".}  # too low, as in many a project
proc answer(): clong {.importcpp: "probe_answer()", header: "probe.h".}
echo answer()
"""
ODD_NAMES = {
    "everything": "a b'c\"d$e $HOME ${f}#g;h%i\\j`k&(l)[m]<n>|o!p*q?r~s{t}=u@v^w+é日😀",
    "leading dash": "-L",
    "comma": "with, a comma",
    "end of a comment": "stars /**/ inside*",
    "not printable": "tab\tline\nbreak\rbell\a",
    "not UTF-8": os.fsdecode(b"latin-1 \xe9\xff"),
    "looks like an escape": '\\x41\\n\\"$1',
}


@pytest.fixture(scope="module")
def plan(torch_root: Path) -> LinkPlan:
    """A real plan, to be pointed at a small library."""
    from torchlink.libtorch.choose import choose

    return make_plan(choose(libtorch=torch_root))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prefix with a header and a shared library."""
    prefix = tmp_path_factory.mktemp("probe")
    (prefix / "include").mkdir()
    (prefix / "lib").mkdir()
    (prefix / "include" / "probe.h").write_text(
        "long probe_link();\n#define probe_answer() (probe_link() + __cplusplus)\n"
    )
    (prefix / "probe.cpp").write_text("long probe_link() { return 0; }\n")
    subprocess.run(["g++", "-shared", "-fPIC", "-o", "lib/libprobe.so", "probe.cpp"], cwd=prefix, check=True)
    return prefix


def pointed_at(plan: LinkPlan, prefix: Path) -> LinkPlan:
    return plan._replace(
        include_dirs=(prefix / "include",),
        library_dirs=(prefix / "lib",),
        libraries=(PlanLibrary("probe", prefix / "lib" / "libprobe.so", keep=False),),
        runtime_dirs=(str(prefix / "lib"),),
    )


def built_and_run(nim_project: Nim, *options: str) -> int:
    """The value of `__cplusplus` that the program was compiled with."""
    built = nim_project.build("probe", *options)
    assert built.returncode == 0, built.stderr
    done = run_clean(nim_project.directory / "probe")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES)
def test_odd_paths_survive_nim_cfg_and_config_nims(
    plan: LinkPlan, library: Path, tmp_path: Path, name: str
) -> None:
    prefix = tmp_path / "odd" / name
    shutil.copytree(library, prefix)
    there = pointed_at(plan, prefix)
    (tmp_path / "probe.nim").write_text(PROGRAM)
    (tmp_path / "nim.cfg").write_text(f"{nim.emit(there)}\n", encoding="utf-8")
    here = Nim(tmp_path, dict(os.environ))
    expected = {14: 201402, 17: 201703, 20: 202002}[plan.cxx_standard]
    assert built_and_run(here) == expected

    # The same lines from a command that config.nims calls.
    (tmp_path / "probe").unlink()
    (tmp_path / "nim.cfg").rename(tmp_path / "words")
    shutil.copy(REPOSITORY / "templates" / "nim" / "config.nims", tmp_path)
    script = tmp_path / "torchlink"
    script.write_text(f'#!/bin/sh\necho "torchlink: note: one" >&2\ncat "{tmp_path}/words"\n')
    script.chmod(0o755)
    asking = Nim(tmp_path, {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert built_and_run(asking) == expected


def test_clang_accepts_the_flags_too(plan: LinkPlan, library: Path, tmp_path: Path) -> None:
    if shutil.which("clang++") is None:
        unmet("clang++")
    (tmp_path / "probe.nim").write_text(PROGRAM)
    (tmp_path / "nim.cfg").write_text(f"{nim.emit(pointed_at(plan._replace(cxx_standard=17), library))}\n")
    assert built_and_run(Nim(tmp_path, dict(os.environ)), "--cc:clang") == 201703


def test_a_phase_has_its_lines_of_the_whole(plan: LinkPlan) -> None:
    both = nim.emit(plan).splitlines()
    assert [*nim.emit(plan, "compile").splitlines(), nim.emit(plan, "link")] == both
    assert [line.split(":")[0] for line in both] == ["--backend", "--passC", "--passL"]


def test_the_standard_is_the_last_compile_flag(plan: LinkPlan) -> None:
    assert nim.emit(plan, "compile").endswith(f' -std=c++{plan.cxx_standard}"')


def test_windows_gets_its_own_compiler_and_flags(plan: LinkPlan) -> None:
    lines = nim.emit(plan._replace(platform="windows", include_dirs=(Path("C:/a b/include"),))).splitlines()
    assert lines[0] == "--cc:vcc"
    assert '/I \\"C:/a b/include\\"' in lines[2]
    assert lines[3].startswith('--passL:"/link /LIBPATH:')
