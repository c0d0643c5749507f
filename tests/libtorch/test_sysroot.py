"""A libtorch in an unpacked system (Debian's packages) gets the directories of that system's libraries."""

from __future__ import annotations

import platform
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.libtorch.trees import CHECK_FAIL, Fake, Library, build, make, write_headers
from torchlink.emit.cxx import flags
from torchlink.libtorch.floor import glibc_conflict, newest, release_in, shortfall
from torchlink.libtorch.inspect import inspect
from torchlink.plan import make_plan
from torchlink.remedies.notes import notes_on

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.compile,
    pytest.mark.skipif(
        sys.platform != "linux" or platform.machine() not in {"x86_64", "aarch64"},
        reason="glibc's directories",
    ),
]
TRIPLE = f"{platform.machine()}-linux-gnu"
NEEDED = ("libbeside_x.so.1", "libblas_x.so.3", "libchosen_x.so.3", "libplain_x.so.0", "libc.so.6")
DEBIAN = replace(Fake(), version=None, declared=None, search_path="", needed=(("torch_cpu", NEEDED),))


def library(path: Path, *needed: str) -> None:
    """A library without a search path."""
    build(path, Library(needed=needed))


@pytest.fixture
def usr(tmp_path: Path) -> Path:
    """What `dpkg -x` makes of Debian's packages: nobody has chosen an alternative, `/lib` is not `/usr/lib`."""
    usr = make(tmp_path / "sys/usr", DEBIAN, library_dir=f"lib/{TRIPLE}")
    home = usr / "lib" / TRIPLE
    library(home / "libbeside_x.so.1", "libdeep_x.so.1")
    library(home / "blas_x/libblas_x.so.3")
    library(home / "alternative_x/libchosen_x.so.3")
    library(usr / "lib/libplain_x.so.0")
    library(usr.parent / "lib" / TRIPLE / "libdeep_x.so.1", "libbeside_x.so.1")
    return usr


def test_all_directories_of_the_unpacked_system_are_found(usr: Path) -> None:
    home = usr / "lib" / TRIPLE
    found = inspect(usr, "path")
    assert found.missing_libraries == ()
    assert {each.path: each.in_place for each in found.companion_dirs} == dict.fromkeys(
        (home, home / "blas_x", home / "alternative_x", usr / "lib", usr.parent / "lib" / TRIPLE), False
    )
    plan = make_plan(found)
    assert set(plan.runtime_dirs) == {str(each.path) for each in found.companion_dirs}
    assert plan.runtime_as_rpath


def test_a_chosen_alternative_is_followed_as_inside_the_system(usr: Path) -> None:
    link = usr / "lib" / TRIPLE / "libchosen_x.so.3"
    link.symlink_to("/etc/alternatives/libchosen_x")
    (usr.parent / "etc/alternatives").mkdir(parents=True)
    better = usr / "lib" / TRIPLE / "a-better-one_x"
    library(better / "libchosen_x.so.3")
    (usr.parent / "etc/alternatives/libchosen_x").symlink_to(
        f"/usr/lib/{TRIPLE}/{better.name}/libchosen_x.so.3"
    )
    assert better in {each.path for each in inspect(usr, "path").companion_dirs}


def test_what_a_dependency_lacks_is_missing_too(usr: Path) -> None:
    (usr.parent / "lib" / TRIPLE / "libdeep_x.so.1").unlink()
    found = inspect(usr, "path")
    assert [each.name for each in found.missing_libraries] == ["libdeep_x.so.1"]
    (note,) = notes_on(make_plan(found))
    assert "libtorch has missing dependencies: libdeep_x.so.1" in note
    assert "`apt install libtorch-dev`" in note


def test_headers_of_a_c_library_go_after_the_compilers_own(usr: Path) -> None:
    assert "-isystem" in flags(make_plan(inspect(usr, "path")))
    (usr / "include/features.h").touch()
    behind = flags(make_plan(inspect(usr, "path")))
    assert "-isystem" not in behind
    assert behind[behind.index("-idirafter") + 1] == str(usr / "include")


def test_links_of_debians_python_package_lead_to_the_system_that_has_the_libraries(usr: Path) -> None:
    torch = usr / "lib/python3/dist-packages/torch"
    (torch / "lib").mkdir(parents=True)
    (torch / "version.py").write_text("__version__ = '2.13.0+debian'\n")
    write_headers(torch / "include", "2.13.0", 17)
    for name in ("libc10.so", "libtorch_cpu.so"):
        (torch / "lib" / name).symlink_to(f"../../../../{TRIPLE}/{name}")
    for named in (torch, torch.parent, torch / "lib", usr):
        found = inspect(named, "path")
        assert (found.root, found.library_dir) == (usr, usr / "lib" / TRIPLE)
        assert found.version == "2.13.0+debian"
        assert found.version_from == "lib/python3/dist-packages/torch/version.py"


def c_library(directory: Path, release: str) -> None:
    """A C library that defines one function of one release."""
    directory.mkdir(parents=True, exist_ok=True)
    script = directory / "versions.map"
    script.write_text(f"GLIBC_2.2 {{ }};\nGLIBC_{release} {{ global: strlcpy_x; }} GLIBC_2.2;\n")
    link(directory / "libc.so.6", "strlcpy_x: .byte 0\n", f"-Wl,--version-script={script}")


def link(out: Path, source: str, *options: str) -> None:
    text = f".text\n.globl strlcpy_x\n{source}"
    command = ["c++", "-shared", "-nostdlib", f"-Wl,-soname,{out.name}", "-x", "assembler", "-", "-x", "none"]
    subprocess.run([*command, *options, "-o", out], input=text, text=True, check=True)


def test_a_c_library_of_another_release_next_to_the_companions_is_reported(usr: Path) -> None:
    home = usr / "lib" / TRIPLE
    assert glibc_conflict(inspect(usr, "path")) is None
    c_library(home, "2.9")
    assert release_in(home) == (2, 9)
    conflict = glibc_conflict(inspect(usr, "path"))
    assert conflict
    assert f"{home} holds glibc 2.9 and this system has 2." in str(conflict)
    assert str(conflict) in notes_on(make_plan(inspect(usr, "path")))


def test_a_libtorch_linked_against_a_newer_glibc_is_reported(usr: Path, tmp_path: Path) -> None:
    home = usr / "lib" / TRIPLE
    c_library(tmp_path / "newer", "2.999")
    link(
        home / "libc10.so",
        f".globl {CHECK_FAIL[1]}\n{CHECK_FAIL[1]}: .quad strlcpy_x\n",
        str(tmp_path / "newer/libc.so.6"),
    )
    (home / "libtorch_cpu.so").unlink()
    (home / "libtorch_cpu.so").symlink_to("libc10.so")
    short = shortfall(inspect(usr, "path"))
    assert short
    assert "needs GLIBC_2.999, and " in short.message
    assert f"{short.message} {short.hint}" in notes_on(make_plan(inspect(usr, "path")))


def test_releases_are_compared_as_numbers() -> None:
    assert newest(["GLIBC_2.9", "GLIBC_2.38", "GLIBC_2.2.5", "GLIBC_PRIVATE", "GLIBCXX_3.4"]) == (2, 38)
    assert newest([]) == ()
