"""`torchlink c++`: the compiler with libtorch's flags added to the steps that need them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import makes_programs, run_clean, unmet
from tests.libtorch.trees import Fake, make, make_venv

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result

    Torchlink = Callable[..., Result]


pytestmark = pytest.mark.compile
SOURCE = """
#include <c10/macros/Macros.h>
#include <string>
namespace at { C10_API std::string show_config(); }
int main() { return at::show_config().empty(); }
"""


@pytest.fixture(autouse=True)
def here(torch_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a source file; the libtorch is selected by the environment."""
    place = tmp_path / "with space"
    place.mkdir()
    (place / "main.cpp").write_text(SOURCE)
    monkeypatch.chdir(place)
    monkeypatch.setenv("TORCHLINK_LIBTORCH", str(torch_root))
    monkeypatch.delenv("CXX", raising=False)
    return place


def shown(torchlink: Torchlink, *arguments: str | Path) -> list[str]:
    done = torchlink("c++", *arguments)
    assert (done.code, done.err) == (0, "")
    return shlex.split(done.out)


def compiles(words: list[str]) -> bool:
    return "-isystem" in words


def links(words: list[str]) -> bool:
    return "-ltorch_cpu" in words


def test_one_step_builds_a_program_that_runs(torchlink: Torchlink, here: Path) -> None:
    assert torchlink("c++", "main.cpp", "-o", "app").code == 0
    assert run_clean(here / "app").returncode == 0


def test_two_steps_do_so_too_without_a_warning(
    torchlink: Torchlink, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for compiler in filter(shutil.which, ("g++", "clang++")):
        monkeypatch.setenv("CXX", compiler)
        done = torchlink("c++", "-O1", "-Wall", "-Werror", "-c", "main.cpp", "-o", f"{compiler}.o")
        assert (done.code, done.out, done.err) == (0, "", "")
        done = torchlink("c++", f"{compiler}.o", "-o", compiler)
        assert (done.code, done.out, done.err) == (0, "", "")
        assert run_clean(here / compiler).returncode == 0


def test_a_shared_library_gets_everything(torchlink: Torchlink, here: Path) -> None:
    assert (
        torchlink("c++", "-shared", "-fPIC", "-Wl,--no-undefined", "main.cpp", "-o", "libmain.so").code == 0
    )
    assert (here / "libmain.so").is_file()


@pytest.mark.parametrize(
    ("arguments", "does_compile", "does_link"),
    [
        (("main.cpp",), True, True),
        (("-c", "main.cpp"), True, False),
        (("-E", "main.cpp"), True, False),
        (("-fsyntax-only", "main.cpp"), True, False),
        (("main.o", "-o", "app"), False, True),
        (("-shared", "main.o"), False, True),
    ],
)
def test_flags_are_added_to_the_steps_that_need_them(
    torchlink: Torchlink, arguments: tuple[str, ...], does_compile: bool, does_link: bool
) -> None:
    words = shown(torchlink, "-show", *arguments)
    assert words[: len(arguments) + 1] == ["c++", *arguments]
    assert (compiles(words), links(words)) == (does_compile, does_link)


@pytest.mark.parametrize("flag", ["-show", "--show"])
def test_show_without_inputs_prints_everything(torchlink: Torchlink, flag: str) -> None:
    words = shown(torchlink, flag)
    assert words[0] == "c++"
    assert compiles(words)
    assert links(words)


def test_show_prints_compile_and_link_flags_as_flags_does(torchlink: Torchlink) -> None:
    assert torchlink("c++", "-show:compile").out == torchlink("flags", "--compile").out
    assert torchlink("c++", "-show:link", "main.o").out == torchlink("flags", "--link").out


def test_what_builds_nothing_needs_no_libtorch(
    torchlink: Torchlink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHLINK_LIBTORCH", str(tmp_path / "no libtorch"))
    for argument in ("--version", "-dumpmachine", "-v"):
        assert torchlink("c++", argument).code == 0
    assert torchlink("c++", "main.cpp").code == 2


def test_the_compilers_exit_code_and_output_are_passed_on(torchlink: Torchlink, here: Path) -> None:
    (here / "broken.cpp").write_text("int main( {}\n")
    done = torchlink("c++", "-fsyntax-only", "broken.cpp")
    assert done.code == 1
    assert "broken.cpp:1" in done.err
    assert torchlink("c++", "-no-such-option-of-any-compiler", "-c", "main.cpp").code == 1


@pytest.mark.parametrize("word", ["-h", "--json", "-Wall", "-lfoo", "--libtorch", "--cpu", "--help"])
def test_arguments_after_the_first_reach_the_compiler_unchanged(torchlink: Torchlink, word: str) -> None:
    words = shown(torchlink, "-show", "-c", "main.cpp", word)
    assert words[:4] == ["c++", "-c", "main.cpp", word]


def test_a_lone_help_option_is_torchlinks(torchlink: Torchlink) -> None:
    done = torchlink("c++", "--help")
    assert done.code == 0
    assert "-show" in done.out


def test_torchlinks_options_come_first(torchlink: Torchlink, torch_root: Path, tmp_path: Path) -> None:
    link = tmp_path / "another"
    link.symlink_to(torch_root)
    for option in (("--libtorch", link), (f"--libtorch={link}",)):
        assert f"-L{link}/lib" in shown(torchlink, *option, "-show", "main.cpp")
    words = shown(
        torchlink, "--rpath", "origin=lib", "--headers=after", "--aoti", "--cpu", "-show", "main.cpp"
    )
    assert words[1] == "main.cpp"
    assert {
        "-Wl,-rpath,$ORIGIN/lib",
        "-idirafter",
        "-Wl,--push-state,--no-as-needed,-ltorch,--pop-state",
    } <= set(words)


def test_an_option_without_its_value_is_a_usage_error(torchlink: Torchlink) -> None:
    done = torchlink("c++", "--libtorch")
    assert done.code == 2
    assert "--libtorch needs a value" in done.err


def test_a_lower_standard_is_raised_and_a_sufficient_one_left(torchlink: Torchlink) -> None:
    own = next(word for word in shown(torchlink, "-show:compile") if word.startswith("-std"))
    assert shown(torchlink, "-show", "-std=gnu++11", "-c", "main.cpp")[-1] == own
    assert own not in shown(torchlink, "-show", "-std=c++23", "-c", "main.cpp")
    assert own not in shown(torchlink, "-show", "-std=gnu++20", "-c", "main.cpp")


def test_missing_cuda_headers_are_noted_only_for_a_source_that_includes_them(
    torchlink: Torchlink, here: Path, tmp_path: Path
) -> None:
    libraries = ("torch_cpu", "torch", "c10_cuda", "torch_cuda")
    needed = (("c10_cuda", ("libcudart.so.99",)),)
    fake = replace(Fake(), version="2.13.0+cu994", cuda="99.4", libraries=libraries, needed=needed)
    root = make(make_venv(tmp_path / "venv") / "torch", fake)
    (here / "broken.cpp").write_text("#include <c10/cuda/CUDAStream.h>\n")
    (here / "plain.cpp").write_text("#error no\n")
    done = torchlink("c++", "--libtorch", root, "-c", "broken.cpp")
    assert done.code == 1
    assert "cuda_runtime_api.h and crt/host_defines.h are missing. What helps: a CUDA 99 toolkit" in done.err
    for words in (("c++", "--libtorch", root, "-c", "plain.cpp"), ("flags", "--libtorch", root)):
        assert "cuda_runtime_api.h" not in torchlink(*words).err


def test_the_compiler_is_cxx_with_its_launcher(torchlink: Torchlink, monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which("ccache"):
        unmet("ccache")
    monkeypatch.setenv("CXX", "ccache c++")
    assert shown(torchlink, "-show", "main.cpp")[:3] == ["ccache", "c++", "main.cpp"]


@pytest.mark.parametrize("where", ["CXX", "argument"])
def test_libcxx_is_refused_before_the_link(
    torchlink: Torchlink, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    if not shutil.which("clang++"):
        unmet("clang++")
    if not makes_programs("clang++", "-stdlib=libc++"):
        unmet("libc++")
    monkeypatch.setenv("CXX", "clang++ -stdlib=libc++" if where == "CXX" else "clang++")
    done = torchlink("c++", *([] if where == "CXX" else ["-stdlib=libc++"]), "-c", "main.cpp")
    assert done.code == 2
    assert "libc++" in done.err
    assert "-stdlib=libstdc++" in done.err


def test_another_machine_is_refused_before_the_compile(torchlink: Torchlink) -> None:
    done = torchlink("c++", "-m32", "-c", "main.cpp")
    assert done.code == 2
    assert "i686" in done.err


def test_make_and_cmake_can_use_it_as_their_compiler(here: Path) -> None:
    """Both pass CXX on to what they start; CMake passes only the program, without arguments."""
    command = f"{sys.executable} -m torchlink c++"
    (here / "torchlink").write_text(f'#!/bin/sh\nexec {sys.executable} -m torchlink "$@"\n')
    (here / "torchlink").chmod(0o755)
    (here / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(p CXX)\nadd_executable(by_cmake main.cpp)\n"
    )
    environment = {**os.environ, "CXX": "torchlink c++", "PATH": f"{here}{os.pathsep}{os.environ['PATH']}"}
    if shutil.which("make"):
        subprocess.run(
            ["make", "-s", "main", f"CXX={command}"], cwd=here, env=environment, check=True, timeout=300
        )
        assert run_clean(here / "main").returncode == 0
    if shutil.which("cmake"):
        for step in (("-S", ".", "-B", "build"), ("--build", "build")):
            subprocess.run(
                ["cmake", *step], cwd=here, env=environment, check=True, capture_output=True, timeout=300
            )
        assert run_clean(here / "build" / "by_cmake").returncode == 0


def test_a_compiler_that_is_torchlink_itself_is_not_an_endless_loop(
    torchlink: Torchlink, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = here / "my-c++"
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m torchlink c++ "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CXX", shlex.quote(str(wrapper)))
    assert torchlink("c++", "main.cpp", "-o", "app").code == 0
    assert run_clean(here / "app").returncode == 0


def test_it_can_be_named_in_one_word(here: Path) -> None:
    program = Path(sys.executable).parent / "torchlink-c++"
    if not program.is_file():
        unmet("torchlink-c++, which pip installs with torchlink,")
    environment = {**os.environ, "CXX": str(program)}  # as a setup.py hands it on
    subprocess.run([program, "main.cpp", "-o", "app"], cwd=here, env=environment, check=True, timeout=300)
    assert run_clean(here / "app").returncode == 0


@pytest.mark.parametrize("words", [["-D{}=0"], ["-D", "{}=0"], ["-D{}=1", "-D{}=0"]])
def test_another_abi_on_the_command_line_is_overruled_with_one_note(
    torchlink: Torchlink, here: Path, words: list[str]
) -> None:
    """A second -D without a -U before it is a warning, which -Werror turns into an error."""
    given = [word.format("_GLIBCXX_USE_CXX11_ABI") for word in words]
    (here / "abi.cpp").write_text(
        "#include <string>\n#if _GLIBCXX_USE_CXX11_ABI != 1\n#error other ABI\n#endif\n"
    )
    if len(given) == 1 or given[0] == "-D":
        done = torchlink("c++", "-Werror", *given, "-c", "abi.cpp")
        assert done.code == 0, done.err
    else:
        done = torchlink("c++", "-show", *given, "-c", "abi.cpp")
    assert done.err.count("torchlink: note:") == 1
    assert "the command line sets _GLIBCXX_USE_CXX11_ABI=0, but" in done.err


def test_the_same_abi_on_the_command_line_is_no_contradiction(torchlink: Torchlink) -> None:
    words = shown(torchlink, "-show", "-D_GLIBCXX_USE_CXX11_ABI=1", "-c", "main.cpp")
    assert "-U_GLIBCXX_USE_CXX11_ABI" not in words


@pytest.mark.parametrize("name", ["pybind11", "google", "fmt"])
@pytest.mark.parametrize("direct", [True, False])
def test_a_failed_compile_with_headers_that_libtorch_shadows_suggests_headers_after(
    torchlink: Torchlink,
    torch_root: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    direct: bool,
) -> None:
    bundled = next((torch_root / "include" / name).rglob("*.h"), None)
    if bundled is None:
        unmet(f"a torch with the headers of {name}")
    header = bundled.relative_to(torch_root / "include")
    own = here / "own" / header
    own.parent.mkdir(parents=True)
    own.write_text("")
    (here / "own/user.h").write_text(f"#include <{header}>\n")  # as spdlog and generated code do
    compiler = here / "with-own"
    compiler.write_text(f'#!/bin/sh\nexec c++ "$@" -isystem {shlex.quote(str(here / "own"))}\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", shlex.quote(str(compiler)))
    (here / "between.h").write_text("#include <user.h>\n")
    asked = f"<{header}>" if direct else '"between.h"'
    (here / "user.cpp").write_text(f"#include {asked}\n#error no\n")
    for words in (("-c", "-o", "there.o", "-MD"), ("-MMD", "-MF", "there.d", "-fsyntax-only"), ("-ooutput",)):
        done = torchlink("c++", *words, "user.cpp")
        assert done.code == 1
        (said,) = (line for line in done.err.splitlines() if "--headers after" in line)
        assert f"torchlink: note: {name} " in said
        assert "is libtorch's own copy" in said
        assert (f"(included by {here}/own/user.h)" in said) is not direct
    assert not list(here.glob("*.o")) + list(here.glob("output*"))
    assert "--headers after" not in torchlink("c++", "--headers", "after", "-c", "user.cpp").err
    # What libtorch's headers include themselves is as it should be.
    (here / "plain.cpp").write_text("#include <c10/util/Exception.h>\n#error no\n")
    assert "--headers after" not in torchlink("c++", "-c", "plain.cpp").err


SPDLOG = "-DSPDLOG_FMT_EXTERNAL -DSPDLOG_COMPILED_LIB"  # as Debian's spdlog.pc says


def test_the_systems_spdlog_fails_with_libtorchs_fmt_and_compiles_with_headers_after(
    torchlink: Torchlink, torch_root: Path, here: Path
) -> None:
    if not Path("/usr/include/spdlog/spdlog.h").is_file() or not Path("/usr/include/fmt").is_dir():
        unmet("the system's spdlog with its fmt (libspdlog-dev)")
    (here / "log.cpp").write_text(
        '#include <c10/util/Exception.h>\n#include <spdlog/spdlog.h>\nint main() { spdlog::info("{}", 1); }\n'
    )
    failed = torchlink("c++", *SPDLOG.split(), "log.cpp", "-lspdlog", "-lfmt", "-o", "log")
    if failed.code == 0:
        pytest.skip("this system's spdlog compiles with libtorch's fmt")
    assert (
        f"fmt (included by /usr/include/spdlog/fmt/fmt.h) is libtorch's own copy in {torch_root}/include"
        in failed.err
    )
    after = torchlink(
        "c++", "--headers", "after", *SPDLOG.split(), "log.cpp", "-lspdlog", "-lfmt", "-o", "log"
    )
    assert after.code == 0, after.err
    assert "] 1" in run_clean(here / "log").stdout


def test_a_response_file_that_is_a_fifo_is_opened_only_by_the_compiler(here: Path) -> None:
    os.mkfifo(here / "fifo")
    compiler = here.parent / "compiler"
    compiler.write_text(
        '#!/bin/sh\ncase "$*" in *@fifo*) cat fifo; echo "$@"; exit 1;; esac\nexec c++ "$@"\n'
    )
    compiler.chmod(0o755)
    script = f"(echo main.cpp -c > fifo &); {sys.executable} -m torchlink c++ --compiler {compiler} @fifo"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("main.cpp -c\n@fifo -D_GLIBCXX_USE_CXX11_ABI=")
