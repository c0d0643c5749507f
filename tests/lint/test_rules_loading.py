"""Rules about finding the libraries at all: every defect is built, found, and fixed."""

from __future__ import annotations

import itertools
import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import run_clean, unmet
from tests.lint.builder import MAIN, Builder, calls, findings, functions, has, rules, said, subjects
from torchlink.lint.checking import check_binary
from torchlink.lint.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.compile

USE = "int inner(void); int main(void) { return inner(); }\n"
INNER = "int inner(void) { return 1; }\n"


def test_a_library_that_no_search_path_finds(builder: Builder) -> None:
    library = builder.library("lib/libinner.so", INNER)
    (finding,) = said(builder.program("app", USE, library), "library-not-found")
    assert (finding.subject, finding.severity) == ("libinner.so", Severity.ERROR)
    assert "app does not start" in finding.message
    assert "-Wl,-rpath,'$ORIGIN/lib'" in finding.fix  # where it is
    assert not findings(builder.program("app", USE, library, "-Wl,-rpath,$ORIGIN/lib"))


def test_a_library_of_the_other_c_library_is_not_offered(builder: Builder) -> None:
    if not has("musl-gcc"):
        unmet("musl-gcc")
    library = builder.library("a/b/c/lib/libinner.so", INNER, "-lc")
    app = builder.program("a/b/c/app", USE, library, compiler="musl-gcc")
    (finding,) = said(app, "library-not-found")
    assert "nearby" not in finding.fix
    builder.library("a/b/c/lib/libinner.so", INNER)
    (finding,) = said(app, "library-not-found")
    assert "-Wl,-rpath,'$ORIGIN/lib'" in finding.fix


def test_nothing_is_undefined_while_a_library_is_missing(builder: Builder) -> None:
    library = builder.library("lib/libinner.so", INNER + functions("gone"))
    app = builder.program("app", calls("inner", "gone"), library)
    builder.library("lib/libinner.so", INNER)
    assert rules(app) == {"library-not-found"}
    app = builder.program("app", calls("inner"), library)
    assert rules(app) == {"library-not-found"}
    builder.library("lib/libinner.so", functions("gone"))
    assert rules(builder.program("app", calls("gone"), library, "-Wl,-rpath,$ORIGIN/lib")) == set()
    builder.library("lib/libinner.so", INNER)
    assert rules(builder.directory / "app") == {"undefined-symbol"}


def test_libraries_that_one_search_path_would_find_are_one_finding(builder: Builder) -> None:
    lib = builder.torch()
    app = builder.program("app", MAIN, lib / "libtorch_cpu.so", lib / "libc10.so")
    (finding,) = said(app, "library-not-found")
    assert finding.subject == "libtorch_cpu.so + libc10.so"
    assert "'$ORIGIN/torch/lib'" in finding.fix
    moved = builder.path("far/away/from/it/app")
    app.rename(moved)
    (finding,) = said(moved, "library-not-found")
    assert finding.subject == "libtorch_cpu.so + libc10.so"
    assert "torchlink flags --link" in finding.fix


def test_a_file_that_is_not_a_library_in_a_searched_directory(builder: Builder) -> None:
    library = builder.library("libinner.so", INNER)
    app = builder.program("app", USE, library, "-Wl,-rpath,$ORIGIN")
    library.write_text("INPUT(libother.a)\n")
    (finding,) = said(app, "library-not-found")
    assert "is not an ELF file" in finding.message
    assert str(library) in finding.message


def test_a_file_that_is_not_a_library_with_musl(builder: Builder) -> None:
    if not has("musl-gcc"):
        unmet("musl-gcc")
    inner = builder.library("lib/libinner.so", INNER)
    outer = builder.library("lib/libouter.so", calls("inner", main=False), inner)
    app = builder.program("app", calls("use_all"), outer, "-Wl,-rpath,$ORIGIN/lib", compiler="musl-gcc")
    assert not findings(app)
    assert run_clean(app).returncode == 0
    inner.write_text("INPUT(libother.a)\n")
    assert run_clean(app).returncode == 127
    (finding,) = findings(app)
    assert (finding.rule, finding.subject) == ("library-not-found", "libinner.so")
    assert f"{inner} is not an ELF file" in finding.message


def test_a_set_uid_program_lists_what_the_loader_ignores(open_builder: Builder) -> None:
    library = open_builder.library("lib/libinner.so", INNER)
    app = open_builder.program("app", USE, library, "-Wl,-rpath,$ORIGIN/lib")
    assert not findings(app)
    set_user_id(app)
    (finding,) = findings(app, environment={"LD_LIBRARY_PATH": str(library.parent)})
    assert finding.rule == "library-not-found"
    assert "runs set-uid" in finding.message
    assert f"RUNPATH $ORIGIN/lib of {app}" in finding.message
    assert f"LD_LIBRARY_PATH {library.parent}" in finding.message
    assert any("$ORIGIN/lib: ignored" in line for line in finding.evidence)
    assert "-Wl,-rpath,'$ORIGIN" not in finding.fix
    assert "-Wl,-rpath,/usr/local/lib/app" in finding.fix
    assert starts(app) is not True
    # An absolute directory is the way, whatever it is.
    app = open_builder.program("app", USE, library, f"-Wl,-rpath,{library.parent}")
    set_user_id(app)
    assert not said(app, "library-not-found")
    assert starts(app) is not False


def test_a_library_of_a_set_uid_program_may_be_found_from_itself(open_builder: Builder) -> None:
    inner = open_builder.library("lib/libinner.so", INNER)
    outer = open_builder.library("lib/libouter.so", calls("inner", main=False), inner)
    app = open_builder.program("app", calls("use_all"), outer, f"-Wl,-rpath,{outer.parent}")
    set_user_id(app)
    open_builder.library("lib/libouter.so", calls("inner", main=False), inner, "-Wl,-rpath,$ORIGIN")
    assert not said(app, "library-not-found")
    assert starts(app) is not False


def test_musl_drops_the_whole_search_path_of_a_set_uid_program(open_builder: Builder) -> None:
    if not has("musl-gcc"):
        unmet("musl-gcc")
    library = open_builder.library("lib/libinner.so", INNER)
    search = f"-Wl,-rpath,{library.parent}:$ORIGIN/lib"
    app = open_builder.program("app", USE, library, search, compiler="musl-gcc")
    set_user_id(app)
    (finding,) = said(app, "library-not-found")
    assert f"RUNPATH {library.parent} of {app}" in finding.message
    assert starts(app) is not True


@pytest.fixture
def open_builder() -> Iterator[Builder]:
    """A builder in a directory that other users may look into: pytest's own directories are closed to them."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Builder(Path(directory))


def set_user_id(path: Path) -> None:
    """Let a program run as another user, where these tests may do so: for its owner alone nothing changes."""
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    path.chmod(0o4755)


def starts(path: Path) -> bool | None:
    """Whether the live loader finds everything for a set-uid program; None where nobody can see it."""
    if os.geteuid() or os.statvfs(path).f_flag & os.ST_NOSUID:
        return None
    return run_clean(path).returncode != 127


def test_a_missing_interpreter(builder: Builder) -> None:
    app = builder.program("app", MAIN, "-Wl,--dynamic-linker,/lib/ld-nowhere.so.1")
    (finding,) = said(app, "library-not-found")
    assert finding.subject == "/lib/ld-nowhere.so.1"
    assert finding.message == "/lib/ld-nowhere.so.1, needed by app, is not found: app does not start."
    assert finding.severity is Severity.ERROR


LIBRARY_CASES = {
    # Whoever loads a library may have loaded the missing one before it.
    "its own package brings it": ("lib/libinner.so", "package/libuser.so", "inner", Severity.WARNING),
    "nobody knows it": ("libgone.so", "libuser.so", "gone", Severity.ERROR),
    "it comes with the driver": ("libcuda.so.1", "libuser.so", "cuInit", Severity.NOTE),
}


@pytest.mark.parametrize("context", LIBRARY_CASES)
def test_the_severity_of_a_missing_library_depends_on_who_may_load_it(builder: Builder, context: str) -> None:
    missing, user, symbol, severity = LIBRARY_CASES[context]
    library = builder.library(missing, functions("f"))
    path = builder.library(user, calls(symbol, main=False), library)
    if context != "its own package brings it":
        library.unlink()
    (finding,) = said(path, "library-not-found")
    assert finding.severity is severity


def test_an_operator_library_finds_libtorch_in_the_process_that_loads_it(builder: Builder) -> None:
    lib = builder.torch("elsewhere/far/torch/lib")
    operators = calls("_ZN5torch7Library4_defEv", main=False)
    path = builder.library("build/libops.so", operators, lib / "libtorch_cpu.so")
    (finding,) = said(path, "library-not-found")
    assert finding.severity is Severity.WARNING


def test_a_library_that_only_the_environment_finds(builder: Builder) -> None:
    library = builder.library("lib/libinner.so", INNER)
    environment = {"LD_LIBRARY_PATH": str(library.parent)}
    app = builder.program("app", USE, library)
    (finding,) = said(app, "found-through-environment", environment=environment)
    assert finding.subject == str(library.parent)
    assert "does not start" in finding.message
    repaired = builder.program("app", USE, library, "-Wl,-rpath,$ORIGIN/lib")
    assert not findings(repaired, environment=environment)


def test_the_fix_for_a_relative_environment_is_not_a_relative_search_path(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(builder.directory)
    library = builder.library("my lib/libinner.so", INNER)
    app = builder.program("app", USE, library)
    (finding,) = said(app, "found-through-environment", environment={"LD_LIBRARY_PATH": "my lib"})
    assert f"-Wl,-rpath,'{library.parent}'" in finding.fix
    assert "'$ORIGIN/…'" in finding.fix


def test_another_copy_that_the_environment_prefers(builder: Builder) -> None:
    library = builder.library("lib/libinner.so", INNER)
    other = builder.library("other/libinner.so", INNER)
    app = builder.program("app", USE, library, "-Wl,-rpath,$ORIGIN/lib")
    (finding,) = said(app, "found-through-environment", environment={"LD_LIBRARY_PATH": str(other.parent)})
    assert "loads other copies" in finding.message
    assert str(library) in finding.evidence[0]


def chain(builder: Builder, *search: str, outer_search: str = "") -> Path:
    """A program that needs lib/libouter.so, which needs lib/libinner.so."""
    inner = builder.library("lib/libinner.so", INNER)
    source = "int inner(void); int outer(void) { return inner(); }\n"
    words = (f"-Wl,-rpath,{outer_search}",) if outer_search else ()
    outer = builder.library("lib/libouter.so", source, inner, *words)
    return builder.program("app", "int outer(void); int main(void) { return outer(); }\n", outer, *search)


def advised(fix: str, user: str = "app") -> list[str]:
    """The flags that a fix says to link an object with, as a shell reads them."""
    words = fix.partition(f"{user} with ")[2].split()
    flags = itertools.takewhile(lambda word: word.startswith("-Wl,"), words)
    return shlex.split(" ".join(flag.rstrip(".;,") for flag in flags))


def test_the_fix_finds_the_dependencies_of_the_library_too(builder: Builder) -> None:
    app = chain(builder)
    assert run_clean(app).returncode == 127
    (finding,) = findings(app)
    assert (finding.rule, finding.subject) == ("library-not-found", "libouter.so")
    words = advised(finding.fix)
    assert words == ["-Wl,--disable-new-dtags", "-Wl,-rpath,$ORIGIN/lib"]
    app = chain(builder, *words)
    assert run_clean(app).returncode == 1
    assert not findings(app)


def test_the_fix_covers_every_directory_that_dependencies_need(builder: Builder) -> None:
    inner = builder.library("lib2/libinner.so", INNER)
    outer = builder.library("lib/libouter.so", calls("inner", main=False), inner)
    (finding,) = findings(builder.program("app", calls("use_all"), outer))
    app = builder.program("app", calls("use_all"), outer, *advised(finding.fix))
    assert run_clean(app).returncode == 0
    assert not findings(app)


def test_a_library_whose_own_runpath_ends_inheritance_gets_a_search_path_too(builder: Builder) -> None:
    def link(app_words: list[str], outer_words: list[str]) -> Path:
        inner = builder.library("lib/libinner.so", INNER)
        outer = builder.library("lib/libouter.so", calls("inner", main=False), inner, *outer_words)
        return builder.program("app", calls("use_all"), outer, *app_words)

    (finding,) = findings(link([], ["-Wl,-rpath,$ORIGIN/plugins"]))
    theirs = advised(finding.fix, "libouter.so")
    app = link(advised(finding.fix), [*theirs, "-Wl,-rpath,$ORIGIN/plugins"])
    assert run_clean(app).returncode == 0
    assert rules(app) == set()


def test_the_fix_lists_what_is_still_missing(builder: Builder) -> None:
    gone = builder.library("gone.so", INNER)
    outer = builder.library("lib/libouter.so", calls("inner", main=False), gone)
    gone.unlink()
    (finding,) = findings(builder.program("app", calls("use_all"), outer))
    assert "'$ORIGIN/lib'" in finding.fix
    assert "Then gone.so (needed by libouter.so) is still missing" in finding.fix


def test_a_runpath_serves_its_own_object_only(builder: Builder) -> None:
    app = chain(builder, "-Wl,-rpath,$ORIGIN/lib")
    (finding,) = findings(app)
    assert (finding.rule, finding.subject) == ("runpath-not-inherited", "libinner.so")
    assert finding.severity is Severity.ERROR
    assert "libouter.so" in finding.message
    assert not findings(chain(builder, "-Wl,-rpath,$ORIGIN/lib", "-Wl,--disable-new-dtags"))
    assert "-Wl,--disable-new-dtags" in finding.fix
    assert "link it with -Wl,-rpath,'$ORIGIN'" in finding.fix
    assert not findings(chain(builder, "-Wl,-rpath,$ORIGIN/lib", outer_search="$ORIGIN"))
    (finding,) = said(chain(builder, "-Wl,-rpath,$ORIGIN/lib", outer_search="/usr"), "runpath-not-inherited")
    assert "-Wl,--disable-new-dtags" not in finding.fix  # a library with a RUNPATH inherits no RPATH


def test_a_system_library_loaded_instead_of_the_one_in_a_runpath(builder: Builder) -> None:
    image = builder.directory / "image"
    builder.library("image/usr/lib/libinner.so", INNER)
    builder.library("image/opt/lib/libinner.so", INNER)
    builder.library("image/opt/other/libouter.so", "int inner(void); int outer(void) { return inner(); }\n",
                  image / "opt/lib/libinner.so")  # fmt: skip
    source = "int outer(void); int main(void) { return outer(); }\n"
    words = ("-nostdlib", "-Wl,-rpath,$ORIGIN/../lib:$ORIGIN/../other", image / "opt/other/libouter.so")
    app = builder.program("image/opt/bin/app", source, *words)
    (finding,) = said(app, "runpath-not-inherited", root=image)
    assert finding.severity is Severity.WARNING
    assert "/usr/lib/libinner.so" in finding.message
    repaired = builder.program("image/opt/bin/app", source, *words, "-Wl,--disable-new-dtags")
    assert not said(repaired, "runpath-not-inherited", root=image)
    assert subjects(said(app, "library-not-found", root=image)) == ["/lib64/ld-linux-x86-64.so.2"]


def test_libtorchs_own_libraries_find_cuda_in_packages_of_their_own(builder: Builder) -> None:
    lib = builder.torch()
    runtime = builder.library("far/away/from/all/libcudart.so.99", functions("cudaMalloc"))
    words = (lib / "libtorch_cpu.so", runtime, "-Wl,-rpath,$ORIGIN")
    cuda = builder.library("torch/lib/libtorch_cuda.so", calls("cudaMalloc", main=False), *words)
    (finding,) = said(cuda, "library-not-found")
    assert (finding.subject, finding.severity) == ("libcudart.so.99", Severity.WARNING)
    app = builder.program("app", MAIN, cuda, "-Wl,-rpath,$ORIGIN/torch/lib")
    assert [each.severity for each in said(app, "library-not-found")] == [Severity.ERROR]


def test_a_lib_directory_is_suggested_first(builder: Builder) -> None:
    inner = builder.library("lib/libinner.so", functions("inner"))
    builder.library("build/libinner.so", functions("inner"))
    (finding,) = findings(builder.program("app", calls("inner"), inner))
    assert "-Wl,-rpath,'$ORIGIN/lib'" in finding.fix


def test_only_directories_inside_the_image_are_suggested(builder: Builder) -> None:
    image = builder.directory / "image"
    library = builder.library("other/libinner.so", INNER)
    app = builder.program("image/app", USE, library, "-nostdlib")
    (finding,) = said(app, "library-not-found", root=image)[1:]
    assert finding.subject == "libinner.so"
    assert "ORIGIN" not in finding.fix
    assert "$ORIGIN/../other" in said(app, "library-not-found")[0].fix
    builder.library("image/other/libinner.so", INNER)
    assert "$ORIGIN/other" in said(app, "library-not-found", root=image)[1].fix


def test_a_file_outside_the_image_lists_what_it_loads_from_this_machine(builder: Builder) -> None:
    image = builder.directory / "image"
    library = builder.library("build/libinner.so", INNER)
    app = builder.program("build/app", USE, library, "-nostdlib", "-Wl,-rpath,$ORIGIN")
    builder.library("image/usr/lib/libother.so", INNER)
    (sentence,) = check_binary(app, root=image).not_checked
    assert f"is outside the root {image}" in sentence
    assert str(library) in sentence
    assert not check_binary(app).not_checked


def test_an_empty_name_is_the_program_itself(builder: Builder) -> None:
    if not has("patchelf"):
        unmet("patchelf")
    library = builder.library("lib/libinner.so", INNER)
    app = builder.program("app", MAIN, library)
    subprocess.run(["patchelf", "--replace-needed", "libinner.so", "", str(app)], check=True)
    assert run_clean(app).returncode == 0
    assert not findings(app)


def test_the_fix_for_the_environment_finds_indirect_dependencies(builder: Builder) -> None:
    app = chain(builder)
    environment = {"LD_LIBRARY_PATH": str(builder.directory / "lib")}
    (finding,) = findings(app, environment=environment)
    assert finding.rule == "found-through-environment"
    words = finding.fix.removeprefix("Link with ").partition(";")[0]
    app = chain(builder, *shlex.split(words))
    assert run_clean(app).returncode == 1
    assert not said(app, "found-through-environment", environment=environment)


@pytest.mark.parametrize("word", ["-static", "-static-pie"])
def test_a_static_program_has_nothing_to_check(builder: Builder, word: str) -> None:
    (sentence,) = check_binary(builder.build("app", MAIN, word)).not_checked
    assert "statically linked" in sentence
    assert not check_binary(builder.build("app", MAIN)).not_checked


def test_the_suggested_path_is_relative_to_the_file_not_to_a_symlink(builder: Builder) -> None:
    library = builder.library("lib/libinner.so", INNER)
    app = builder.program("bin/app", USE, library)
    link = builder.path("elsewhere/deep/down/app")
    link.symlink_to(app)
    (finding,) = findings(link)
    app = builder.program("bin/app", USE, library, *advised(finding.fix))
    assert run_clean(link).returncode == 1
    assert not findings(link)


# `some/where`: what is nearby is sought two directories up, where the libraries of other tests must not lie.
def test_a_libtorch_that_lacks_a_library_is_not_suggested_for_the_others(builder: Builder) -> None:
    cuda = builder.torch("far/away/from/all/torch/lib", cuda=True)
    libraries = [cuda / name for name in ("libtorch_cuda.so", "libtorch_cpu.so", "libc10.so")]
    app = builder.program("some/where/proj/app", MAIN, *libraries)
    builder.torch("some/where/proj/libtorch-cpu/lib")
    (finding,) = said(app, "library-not-found")
    assert finding.subject == "libtorch_cuda.so + libtorch_cpu.so + libc10.so"
    assert finding.fix.startswith(
        "Link app with the search path that `torchlink flags --link` prints. If `cmake --ins"
    )
    assert "set(CMAKE_INSTALL_RPATH_USE_LINK_PATH TRUE) before add_executable()" in finding.fix
    builder.torch("some/where/proj/libtorch-cuda/lib", cuda=True)
    (finding,) = said(app, "library-not-found")
    assert finding.subject == "libtorch_cuda.so + libtorch_cpu.so + libc10.so"
    assert finding.fix == "It is nearby: link app with -Wl,-rpath,'$ORIGIN/libtorch-cuda/lib'."


def test_libtorchs_libraries_are_not_gathered_from_several_directories(builder: Builder) -> None:
    cuda = builder.torch("far/away/from/all/torch/lib", cuda=True)
    names = ("libtorch_cuda.so", "libtorch_cpu.so", "libc10.so")
    app = builder.program("some/where/proj/app", MAIN, *(cuda / name for name in names))
    for name in names:
        builder.library(f"some/where/proj/only-{name}/lib/{name}", functions("f"))
    (finding,) = said(app, "library-not-found")
    assert "ORIGIN" not in finding.fix
    builder.torch("some/where/proj/libtorch/lib", cuda=True)
    (finding,) = said(app, "library-not-found")
    assert advised(finding.fix) == ["-Wl,-rpath,$ORIGIN/libtorch/lib"]
    assert not said(
        builder.program("some/where/proj/app", MAIN, *(cuda / name for name in names), *advised(finding.fix)),
        "library-not-found",
    )


def test_all_objects_that_need_libtorch_get_the_same_one(builder: Builder) -> None:
    cuda = builder.torch("far/away/from/all/torch/lib", cuda=True)
    mine = builder.library(
        "some/where/proj/mine/lib/libmine.so", functions("mine"), cuda / "libtorch_cuda.so"
    )
    words = (mine, cuda / "libtorch_cpu.so", "-Wl,-rpath,$ORIGIN/mine/lib")
    app = builder.program("some/where/proj/app", calls("mine"), *words)
    builder.torch("some/where/proj/mine/libtorch-cpu/lib")
    (finding,) = said(app, "library-not-found")
    assert set(finding.subject.split(" + ")) == {"libtorch_cpu.so", "libtorch_cuda.so"}
    assert finding.fix.startswith(
        "Link app and libmine.so with the search path that `torchlink flags --link` prints."
    )
    builder.torch("some/where/proj/mine/libtorch-cuda/lib", cuda=True)
    builder.torch("some/where/proj/libtorch/lib", cuda=True)
    fixes = {each.subject: each.fix for each in said(app, "library-not-found")}
    assert "link app with -Wl,-rpath,'$ORIGIN/libtorch/lib'" in fixes["libtorch_cpu.so"]
    assert "link libmine.so with -Wl,-rpath,'$ORIGIN/../../libtorch/lib'" in fixes["libtorch_cuda.so"]


def test_what_a_found_library_needs_of_libtorch_comes_from_one_directory(builder: Builder) -> None:
    cuda = builder.torch("far/away/from/all/torch/lib", cuda=True)
    libraries = [cuda / name for name in ("libtorch_cpu.so", "libtorch_cuda.so", "libc10.so")]
    mine = builder.library("some/where/proj/mine/lib/libmine.so", functions("mine"), *libraries)
    app = builder.program("some/where/proj/mine/app", calls("mine"), mine)
    builder.torch("some/where/proj/a/lib")
    (finding,) = said(app, "library-not-found")
    assert "proj" not in finding.fix
    assert "/a/lib" not in finding.fix
    assert "libtorch_cuda.so (needed by libmine.so)" in finding.fix
    builder.torch("some/where/proj/b/lib", cuda=True)
    (finding,) = said(app, "library-not-found")
    assert "/a/lib" not in finding.fix
    assert "/b/lib" in finding.fix
