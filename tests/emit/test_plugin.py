"""Plugins that a program opens with dlopen, and static libraries of which every object is linked."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import program, run_clean
from tests.fake_libtorch import fake_libtorch
from torchlink.emit import TARGETS, cxx, emit
from torchlink.emit.cxx import flags
from torchlink.errors import InexpressibleError
from torchlink.libtorch.inspect import inspect
from torchlink.plan import PlanOptions, make_plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result
    from torchlink.libtorch.facts import Libtorch

# One function of libtorch, declared here: including a header of torch would take seconds.
PLUGIN = """
#include <string>
namespace at { std::string show_config(); }
extern "C" int answer() { return at::show_config().empty() ? 0 : 42; }
"""
UNDEFINED = 'int missing();\nextern "C" int answer() { return missing(); }\n'
REGISTERS = """
#include <cstdio>
static const int registered = std::puts("registered");
"""
LINKERS = {"bfd": "ld.bfd", "gold": "ld.gold", "lld": "ld.lld", "mold": "mold"}


@pytest.fixture(scope="module")
def libtorch(torch_root: Path) -> Libtorch:
    return inspect(torch_root, found_by="test")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sources, and a static library in a directory with a space and a comma."""
    directory = tmp_path_factory.mktemp("plugin")
    (directory / "ops.cpp").write_text(PLUGIN)
    (directory / "undefined.cpp").write_text(UNDEFINED)
    (directory / "registers.cpp").write_text(REGISTERS)
    (directory / "main.cpp").write_text("int main() {}\n")
    for name in ("plain", "with space", "with, comma"):
        (directory / name).mkdir()
        ran("c++", "-fPIC", "-c", "registers.cpp", "-o", "registers.o", cwd=directory)
        ran("ar", "rc", f"{name}/libregisters.a", "registers.o", cwd=directory)
    return directory


def ran(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> None:
    done = called(*command, cwd=cwd, env=env)
    assert done.returncode == 0, f"{shlex.join(map(str, command))}\n{done.stdout}{done.stderr}"


def called(
    *command: str | Path, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def opened(library: Path) -> str:
    """What a process prints that opens a library and calls its `answer`."""
    script = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).answer())"
    done = run_clean(sys.executable, "-c", script, library)
    assert done.returncode == 0, done.stderr
    return done.stdout


def soname(library: Path) -> str:
    done = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True, timeout=60)
    return next((line.partition("[")[2][:-1] for line in done.stdout.splitlines() if "(SONAME)" in line), "")


@pytest.mark.compile
@pytest.mark.parametrize("linker", LINKERS)
def test_a_plugin_is_opened_and_one_with_an_undefined_symbol_is_refused(
    libtorch: Libtorch, place: Path, linker: str
) -> None:
    program(LINKERS[linker])
    options = PlanOptions(plugin=True, soname="libops.so", whole_archive=(place / "plain/libregisters.a",))
    words = flags(make_plan(libtorch, options))
    library = place / f"libops-{linker}.so"
    ran("c++", f"-fuse-ld={linker}", "ops.cpp", "-o", library, *words, cwd=place)
    assert sorted(opened(library).split()) == ["42", "registered"]
    assert soname(library) == "libops.so"
    refused = called("c++", f"-fuse-ld={linker}", "undefined.cpp", "-o", "libno.so", *words, cwd=place)
    assert refused.returncode != 0
    assert "missing" in refused.stderr
    assert not (place / "libno.so").exists()


@pytest.mark.compile
@pytest.mark.parametrize(
    ("linker", "directory"),
    [
        ("bfd", "plain"),
        ("gold", "plain"),
        ("lld", "with space"),
        ("mold", "with, comma"),
        ("bfd", "with, comma"),
    ],
)
def test_an_object_that_nothing_references_stays(
    libtorch: Libtorch, place: Path, linker: str, directory: str
) -> None:
    """And what comes after it on the command line is linked as usual: its own copy there adds nothing."""
    program(LINKERS[linker])
    archive = place / directory / "libregisters.a"
    app = place / "app"
    command = ("c++", f"-fuse-ld={linker}", "main.cpp", "-o", app)
    ran(*command, archive, *flags(make_plan(libtorch)), cwd=place)
    assert run_clean(app).stdout == ""
    plan = make_plan(libtorch, PlanOptions(whole_archive=(archive,)))
    ran("sh", "-c", f"{shlex.join(map(str, command))} {cxx.emit(plan)} '{archive}'", cwd=place)
    assert run_clean(app).stdout == "registered\n"
    (place / "words.rsp").write_text(cxx.response_file(plan))
    ran(*command, "@words.rsp", cwd=place)
    assert run_clean(app).stdout == "registered\n"


@pytest.mark.compile
def test_the_command_line_of_flags_and_of_the_compiler(
    torch_root: Path,
    place: Path,
    torchlink: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    named = ("--libtorch", torch_root)
    bare = torchlink("flags", "--plugin", *named)
    assert "add --soname" in bare.err
    assert "add --soname" not in torchlink("flags", "--plugin", "--compile", *named).err
    said = torchlink("flags", "--plugin", "--soname", "libops.so.1", *named)
    assert (said.code, said.err) == (0, "")
    ran("c++", "ops.cpp", "-o", "libops.so", *shlex.split(said.out), cwd=place)
    assert (opened(place / "libops.so"), soname(place / "libops.so")) == ("42\n", "libops.so.1")
    # `torchlink c++` takes the soname from the command line.
    for name, words in {
        "libjoined.so": ["-o./libjoined.so"],
        "libtwo.so": ["-o", "plain/../libtwo.so"],
    }.items():
        done = torchlink("c++", *named, "--plugin", "ops.cpp", *words)
        assert done.code == 0, done.err
        assert (opened(place / name), soname(place / name)) == ("42\n", name)
    # A compile step does not need the archive, which may not be built yet.
    later = ("--whole-archive", "plain/later.a")
    assert torchlink("c++", *named, *later, "-c", "ops.cpp", "-o", "ops.o").code == 0
    assert torchlink("flags", *named, *later, "--compile").code == 0
    told = json.loads(
        torchlink("flags", *named, "--json", "--whole-archive", "plain/libregisters.a", "--link").out
    )
    assert told["options"]["whole_archive"] == [str(place / "plain/libregisters.a")]


@pytest.mark.parametrize(
    ("words", "fact"),
    [
        (("--whole-archive", "nope.a"), "no such static library: nope.a"),
        (("--whole-archive", "."), "not a regular file"),
        (("--whole-archive", "some.so"), "a shared library is always loaded whole"),
        (("--whole-archive", "some.txt"), "some.txt: not a static library."),
        (("--soname", "libx.so"), "a program has no soname"),
        (("--plugin", "--soname", "lib/x.so"), "a soname is a file name"),
        (("--plugin", "--soname", "a,b"), "a soname is a file name"),
    ],
)
def test_what_cannot_be_is_one_error(
    torch_root: Path,
    tmp_path: Path,
    torchlink: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    fact: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(torch_root / "lib/libshm.so", "some.so")
    Path("some.txt").write_text("text")
    done = torchlink("flags", *words, "--libtorch", torch_root)
    assert (done.code, done.out) == (2, "")
    assert fact in done.err


OF_PLUGINS = ("cxx", "cmake", "json", "nim", "pkg-config")


@pytest.mark.parametrize("target", sorted(set(TARGETS) - set(OF_PLUGINS)))
def test_a_target_for_programs_refuses_a_plugin(tmp_path: Path, target: str) -> None:
    plan = make_plan(fake_libtorch(tmp_path / "torch"), PlanOptions(plugin=True))
    with pytest.raises(InexpressibleError, match="has flags for programs"):
        emit(plan, target, "link")


@pytest.mark.parametrize("target", OF_PLUGINS)
def test_every_target_of_plugins_writes_both(tmp_path: Path, target: str) -> None:
    archive = tmp_path / "it's an archive.a"
    archive.write_bytes(b"!<arch>\n")
    options = PlanOptions(plugin=True, soname="libops.so", whole_archive=(archive,))
    libtorch = fake_libtorch(tmp_path / "torch")
    text = emit(make_plan(libtorch, options), target, "link")
    for part in ("-z,defs", "libops.so", "--whole-archive"):
        assert part in text
    assert "whole" not in emit(make_plan(libtorch, options), target, "compile").replace("whole_archive", "")
    other = fake_libtorch(
        tmp_path / "mac", ("libc10.dylib", "libtorch_cpu.dylib"), platform="macos", cxx11_abi=None
    )
    there = emit(make_plan(other, options), target, "link")
    assert "-force_load," in there
    assert "defs" not in there
    windows = fake_libtorch(
        tmp_path / "win", ("c10.lib", "torch_cpu.lib"), platform="windows", cxx11_abi=None
    )
    if target != "pkg-config":
        assert "WHOLEARCHIVE:" in emit(make_plan(windows, options), target, "link")


def test_a_comma_is_refused_where_a_syntax_cannot_express_it(tmp_path: Path) -> None:
    archive = tmp_path / "a,b.a"
    archive.write_bytes(b"!<thin>\n")
    plan = make_plan(fake_libtorch(tmp_path / "torch"), PlanOptions(whole_archive=(archive,)))
    for target in ("pkg-config", "cmake"):
        with pytest.raises(InexpressibleError, match="comma"):
            emit(plan, target)


@pytest.mark.compile
def test_through_pkg_config(libtorch: Libtorch, place: Path) -> None:
    archive = place / "with space/libregisters.a"
    options = PlanOptions(plugin=True, soname="libops.so", whole_archive=(archive,))
    (place / "torch.pc").write_text(emit(make_plan(libtorch, options), "pkg-config") + "\n")
    line = f"{program('pkg-config')} --cflags --libs torch | xargs c++ ops.cpp -o libpc.so"
    ran("sh", "-c", line, cwd=place, env={**os.environ, "PKG_CONFIG_PATH": str(place)})
    assert sorted(opened(place / "libpc.so").split()) == ["42", "registered"]
    assert soname(place / "libpc.so") == "libops.so"


@pytest.mark.nim
def test_a_plugin_in_nim(libtorch: Libtorch, place: Path, tmp_path: Path) -> None:
    archive = place / "with, comma/libregisters.a"
    options = PlanOptions(plugin=True, soname="libplug.so", whole_archive=(archive,))
    (tmp_path / "plug.nim").write_text(
        'proc answer(): cint {.exportc, dynlib, codegenDecl: "extern \\"C\\" $# $# $#".} = 42\n'
    )
    (tmp_path / "nim.cfg").write_text(emit(make_plan(libtorch, options), "nim") + "\n")
    ran("nim", "cpp", "--hints:off", f"--nimcache:{tmp_path}/nimcache", "plug.nim", cwd=tmp_path)
    assert sorted(opened(tmp_path / "libplug.so").split()) == ["42", "registered"]
    assert soname(tmp_path / "libplug.so") == "libplug.so"


PROJECT = """
cmake_minimum_required(VERSION 3.18)
project(plugins LANGUAGES CXX)
find_package(Torch REQUIRED)
add_library(registers STATIC registers.cpp)
set_target_properties(registers PROPERTIES POSITION_INDEPENDENT_CODE ON)
torchlink_add_plugin(ops ops.cpp WHOLE_ARCHIVE registers)
torchlink_add_plugin(by_file ops.cpp WHOLE_ARCHIVE "with space/libregisters.a")
torchlink_add_plugin(undefined undefined.cpp)
set_target_properties(undefined PROPERTIES EXCLUDE_FROM_ALL TRUE)
include(torch.cmake)
add_library(snippet SHARED ops.cpp)
target_link_libraries(snippet PRIVATE torchlink::torch)
"""


@pytest.mark.cmake
@pytest.mark.compile
@pytest.mark.parametrize("generator", ["Ninja", "Unix Makefiles"])
def test_the_function_of_the_prefix_and_the_snippet(
    libtorch: Libtorch, place: Path, tmp_path: Path, torchlink: Callable[..., Result], generator: str
) -> None:
    for name in ("ops.cpp", "undefined.cpp", "registers.cpp"):
        shutil.copy(place / name, tmp_path)
    shutil.copytree(place / "with space", tmp_path / "with space")
    archive = tmp_path / "with space/libregisters.a"
    options = PlanOptions(plugin=True, soname="libsnippet.so.1", whole_archive=(archive,))
    (tmp_path / "torch.cmake").write_text(emit(make_plan(libtorch, options), "cmake") + "\n")
    (tmp_path / "CMakeLists.txt").write_text(PROJECT)
    prefix = torchlink("cmake", "prefix", "--libtorch", libtorch.root).out.strip()
    ran("cmake", "-G", generator, "-B", "build", f"-DCMAKE_PREFIX_PATH={prefix}", cwd=tmp_path)
    ran("cmake", "--build", "build", cwd=tmp_path)
    for name, own in (("ops", "libops.so"), ("by_file", "libby_file.so"), ("snippet", "libsnippet.so.1")):
        library = tmp_path / f"build/lib{name}.so"
        assert sorted(opened(library).split()) == ["42", "registered"], name
        assert soname(library) == own
    refused = called("cmake", "--build", "build", "--target", "undefined", cwd=tmp_path)
    assert refused.returncode != 0
    assert "missing" in refused.stdout + refused.stderr


@pytest.mark.cmake
@pytest.mark.parametrize(
    ("call", "fact"),
    [
        ("torchlink_add_plugin(ops)", "no sources"),
        ("torchlink_add_plugin(ops ops.cpp WHOLE_ARCHIVE shared)", "only a static library"),
    ],
)
def test_a_wrong_call_of_the_function_is_reported(
    torch_root: Path, place: Path, tmp_path: Path, torchlink: Callable[..., Result], call: str, fact: str
) -> None:
    shutil.copy(place / "ops.cpp", tmp_path)
    start = "cmake_minimum_required(VERSION 3.18)\nproject(p LANGUAGES CXX)\nfind_package(Torch REQUIRED)\n"
    (tmp_path / "CMakeLists.txt").write_text(f"{start}add_library(shared SHARED ops.cpp)\n{call}\n")
    prefix = torchlink("cmake", "prefix", "--libtorch", torch_root).out.strip()
    done = called("cmake", "-B", "build", f"-DCMAKE_PREFIX_PATH={prefix}", cwd=tmp_path)
    assert done.returncode != 0
    assert fact in done.stderr
