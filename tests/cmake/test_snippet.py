"""The output of `flags --cmake` is enough for a project without find_package()."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cmake.toy import built, compile_flags, configured, dynamic, moved_away, project
from tests.conftest import run_clean
from tests.fake_libtorch import fake_libtorch
from torchlink.emit import emit
from torchlink.errors import InexpressibleError
from torchlink.plan import PlanOptions, make_plan

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch

LISTS = (
    "cmake_minimum_required(VERSION 3.18)\nproject(existing LANGUAGES CXX)\ninclude(torch.cmake)\n"
    "add_executable(app main.cpp)\ntarget_link_libraries(app PRIVATE torchlink::torch)\n"
    "install(TARGETS app DESTINATION bin)\n"
)


def snippet(libtorch: Libtorch, options: PlanOptions | None = None, half: str = "both") -> str:
    """The text for a libtorch."""
    return emit(make_plan(libtorch, options or PlanOptions()), "cmake", half)


@pytest.mark.cmake
@pytest.mark.parametrize("rpath", ["absolute", "none", "origin=../lib"])
def test_the_program_looks_for_libtorch_where_the_option_says(
    toy: Libtorch, tmp_path: Path, rpath: str
) -> None:
    text = snippet(toy, PlanOptions(rpath=rpath))
    configured(project(tmp_path, LISTS, **{"torch.cmake": text}), f"-DCMAKE_INSTALL_PREFIX={tmp_path}/there")
    built(tmp_path, "install")
    entries = {"absolute": [str(toy.library_dir)], "none": [], "origin=../lib": ["$ORIGIN/../lib"]}[rpath]
    for app in ("build/app", "there/bin/app"):
        found = dynamic(tmp_path / app)
        assert [entry for entry in found["RUNPATH"] if entry] == entries
        assert sorted(found["NEEDED"]) == ["libc10.so", "libtorch_cpu.so", "libtorch_cuda.so"]
    if rpath.startswith("origin"):
        (tmp_path / "there/lib").symlink_to(toy.library_dir)
    if rpath != "none":
        assert run_clean(tmp_path / "there/bin/app").returncode == 0


@pytest.mark.cmake
def test_a_moved_libtorch_gets_its_companions_as_rpath(toy: Libtorch, tmp_path: Path) -> None:
    text = snippet(moved_away(toy, tmp_path / "away"))
    configured(project(tmp_path / "p", LISTS, **{"torch.cmake": text}))
    built(tmp_path / "p")
    assert str(tmp_path / "away") in dynamic(tmp_path / "p/build/app")["RPATH"]


@pytest.mark.cmake
def test_headers_may_come_after_the_systems(toy: Libtorch, tmp_path: Path) -> None:
    text = snippet(toy, PlanOptions(headers="after"))
    configured(project(tmp_path, LISTS, **{"torch.cmake": text}))
    built(tmp_path)
    words = compile_flags(tmp_path)["app"]
    assert [words[words.index(str(directory)) - 1] for directory in toy.include_dirs] == ["-idirafter"] * 2
    assert "-std=c++20" in words or "-std=gnu++20" in words


def test_the_phases_share_nothing(tmp_path: Path) -> None:
    libtorch = fake_libtorch(tmp_path)
    compile_half, link_half = (snippet(libtorch, half=half) for half in ("compile", "link"))
    assert "INTERFACE_INCLUDE_DIRECTORIES" in compile_half
    assert "libtorch_cpu" not in compile_half
    assert "INTERFACE_LINK_LIBRARIES" in link_half
    assert "COMPILE" not in link_half
    assert "INCLUDE" not in link_half


@pytest.mark.parametrize("name", ["a;b", "a,b", "a|b", "a\\b", "a[b", "a$<b", "a\nb", "a\udcffb"])
def test_a_path_that_cmake_splits_is_refused(tmp_path: Path, name: str) -> None:
    libtorch = fake_libtorch(tmp_path / name)
    with pytest.raises(InexpressibleError, match="CMake cannot pass"):
        snippet(libtorch)


@pytest.mark.cmake
@pytest.mark.parametrize("headers", ["system", "after"])
def test_odd_letters_in_the_path_survive(toy: Libtorch, tmp_path: Path, headers: str) -> None:
    link = tmp_path / "a \"b\" 'c' $d ${e} #f %g &(h) !i `j` ~k *l ?m <n> @o=p"
    link.symlink_to(toy.root)
    libtorch = toy._replace(
        root=link,
        library_dir=link / "lib",
        include_dirs=tuple(link / directory.relative_to(toy.root) for directory in toy.include_dirs),
    )
    text = snippet(libtorch, PlanOptions(cpu_only=True, headers=headers))
    configured(project(tmp_path / "p", LISTS, **{"torch.cmake": text}))
    built(tmp_path / "p")
    assert run_clean(tmp_path / "p/build/app").returncode == 0
    with pytest.raises(InexpressibleError, match="in a linker flag"):
        snippet(libtorch)  # what must be kept is a flag, which CMake does not quote
