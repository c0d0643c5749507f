"""The flags of a compiler's command line, as text."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import pytest

from tests.fake_libtorch import CUDA, companion, fake_libtorch
from torchlink.emit import PHASES, TARGETS, cxx, emit
from torchlink.errors import InexpressibleError, UsageError
from torchlink.plan import PlanOptions, make_plan

if TYPE_CHECKING:
    from pathlib import Path

ODD_NAMES = (
    "with space", "sq'uote", 'dq"uote', "dol$lar", "$$", "${x}", "$(id)", "ha#sh", "# hash", "semi;colon",
    "per%cent", "back\\slash", "trailing\\", "ünïcödé", "-dash", "--", "amp&", "(paren)", "tick`x",
    "star*", "~til", "{a,b}", "com,ma", "@at", "ex!cl", "a=b", "pi|pe", "[br]", "two  spaces",
    "^caret", "<lt>", " edge ",
)  # fmt: skip


def test_the_flags_of_a_cpu_program(tmp_path: Path) -> None:
    assert cxx.flags(make_plan(fake_libtorch(tmp_path))) == (
        "-D_GLIBCXX_USE_CXX11_ABI=1",
        "-isystem",
        f"{tmp_path}/include",
        "-isystem",
        f"{tmp_path}/include/torch/csrc/api/include",
        "-std=c++20",
        f"-L{tmp_path}/lib",
        f"-Wl,-rpath,{tmp_path}/lib",
        "-ltorch_cpu",
        "-lc10",
    )


def test_a_required_library_is_kept_by_one_flag(tmp_path: Path) -> None:
    assert cxx.flags(make_plan(fake_libtorch(tmp_path, CUDA), PlanOptions(rpath="none")), "link") == (
        f"-L{tmp_path}/lib",
        "-Wl,--push-state,--no-as-needed,-ltorch_cuda,--pop-state",
        "-lc10_cuda",
        "-ltorch_cpu",
        "-lc10",
    )


@pytest.mark.parametrize(
    "options", [PlanOptions(), PlanOptions(headers="after", cxx_standard=23, rpath="origin=lib")]
)
def test_both_phases_make_the_whole_and_the_standard_comes_last(tmp_path: Path, options: PlanOptions) -> None:
    plan = make_plan(fake_libtorch(tmp_path), options)
    assert cxx.flags(plan, "compile") + cxx.flags(plan, "link") == cxx.flags(plan)
    assert cxx.flags(plan, "compile")[-1] == f"-std=c++{plan.cxx_standard}"


def test_headers_may_come_after_those_of_the_system(tmp_path: Path) -> None:
    words = cxx.flags(make_plan(fake_libtorch(tmp_path), PlanOptions(headers="after")), "compile")
    assert "-idirafter" in words
    assert "-isystem" not in words


def test_a_moved_layout_is_written_as_rpath(tmp_path: Path) -> None:
    beside = companion(tmp_path / "cudnn/lib", "libcudnn.so.9")
    plan = make_plan(fake_libtorch(tmp_path / "torch", CUDA, search_kind="rpath", companion_dirs=(beside,)))
    words = cxx.flags(plan, "link")
    assert words[1:4] == (
        "-Wl,--disable-new-dtags",
        f"-Wl,-rpath,{tmp_path}/torch/lib",
        f"-Wl,-rpath,{beside.path}",
    )
    assert f"-Wl,-rpath-link,{beside.path}" in words


def test_macos_flags(tmp_path: Path) -> None:
    libraries = ("libc10.dylib", "libtorch_cpu.dylib", "libtorch.dylib")
    libtorch = fake_libtorch(tmp_path, libraries, platform="macos", arch="arm64", cxx11_abi=None)
    assert cxx.flags(make_plan(libtorch, PlanOptions(rpath="origin=../lib")))[4:] == (
        "-std=c++20",
        f"-L{tmp_path}/lib",
        "-Wl,-rpath,@loader_path/../lib",
        "-ltorch_cpu",
        "-lc10",
    )


def test_windows_flags(tmp_path: Path) -> None:
    libraries = ("c10.lib", "torch_cpu.lib", "torch_cuda.lib", "c10_cuda.lib", "c10.dll")
    libtorch = fake_libtorch(tmp_path / "with space", libraries, platform="windows", cxx11_abi=None)
    plan = make_plan(libtorch)
    root = libtorch.root
    assert cxx.flags(plan) == (
        "/MD",
        "/EHsc",
        "/I",
        f"{root}/include",
        "/I",
        f"{root}/include/torch/csrc/api/include",
        "/std:c++20",
        "/link",
        f"/LIBPATH:{root}/lib",
        "torch_cuda.lib",
        "c10_cuda.lib",
        "torch_cpu.lib",
        "c10.lib",
        "/INCLUDE:?warp_size@cuda@at@@YAHXZ",
    )
    assert "/link" not in cxx.flags(plan, "link")
    assert f'"/LIBPATH:{root}/lib"' in cxx.emit(plan)
    assert f'"/LIBPATH:{root}/lib"\n' in cxx.response_file(plan)


def test_windows_cannot_quote_a_percent_sign(tmp_path: Path) -> None:
    libtorch = fake_libtorch(
        tmp_path / "a%b", ("c10.lib", "torch_cpu.lib"), platform="windows", cxx11_abi=None
    )
    with pytest.raises(InexpressibleError, match="percent"):
        cxx.emit(make_plan(libtorch))


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_shell_reads_the_flags_back(tmp_path: Path, name: str) -> None:
    plan = make_plan(fake_libtorch(tmp_path / name))
    assert tuple(shlex.split(cxx.emit(plan))) == cxx.flags(plan)


def test_a_library_without_its_development_name_is_linked_by_path(tmp_path: Path) -> None:
    plan = make_plan(fake_libtorch(tmp_path, ("libtorch_cpu.so.1.13", "libc10.so.1.13")))
    assert cxx.flags(plan, "link")[-2:] == (
        f"{tmp_path}/lib/libtorch_cpu.so.1.13",
        f"{tmp_path}/lib/libc10.so.1.13",
    )


def test_json_has_the_whole_plan_with_its_flags(tmp_path: Path) -> None:
    plan = make_plan(fake_libtorch(tmp_path, CUDA))
    told = json.loads(emit(plan, "json"))
    assert told["schema"] == 1
    assert told["libtorch"]["root"] == str(tmp_path)
    assert told["compile"]["flags"] + told["link"]["flags"] == list(cxx.flags(plan))
    assert told["compile"]["defines"] == {"_GLIBCXX_USE_CXX11_ABI": "1"}
    assert told["link"]["libraries"][0] == {
        "name": "torch_cuda",
        "file": f"{tmp_path}/lib/libtorch_cuda.so",
        "keep": True,
    }
    assert "link" not in json.loads(emit(plan, "json", "compile"))
    assert "compile" not in json.loads(emit(plan, "json", "link"))


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("target", TARGETS)
def test_every_target_writes_every_phase(tmp_path: Path, target: str, phase: str) -> None:
    text = emit(make_plan(fake_libtorch(tmp_path, CUDA)), target, phase)
    has_headers = target not in {"d", "fortran", "crystal", "swift"} and phase != "link"
    assert bool(text) == (has_headers or phase != "compile")
    assert not text.endswith("\n")
    in_text = ('"include"' if target == "bazel" else str(tmp_path / "include")) in text
    assert in_text == has_headers
    assert ("torch_cuda" in text) == (phase != "compile")


def test_an_unknown_target_is_a_usage_error(tmp_path: Path) -> None:
    plan = make_plan(fake_libtorch(tmp_path))
    with pytest.raises(UsageError, match="No such target"):
        emit(plan, "cobol")
    with pytest.raises(UsageError, match="No such target"):
        emit(plan, "cxx", "third")
