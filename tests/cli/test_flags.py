"""`torchlink flags`: only the flags on stdout, everything else on stderr, one target at a time."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import run_clean
from torchlink.cli import flags, plain
from torchlink.emit import TARGETS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

    Torchlink = Callable[..., Result]


def test_cxx_is_the_default_and_only_flags_are_on_stdout(torchlink: Torchlink, torch_root: Path) -> None:
    done = torchlink("flags", "--libtorch", torch_root)
    assert done.code == 0
    assert done.err == ""
    assert done.out.count("\n") == 1
    assert done.out == torchlink("flags", "--cxx", "--libtorch", torch_root).out
    assert f"-isystem {torch_root}/include" in done.out
    assert done.out.endswith("-ltorch_cpu -lc10\n")


def test_compile_and_link_flags_together_are_all_flags(torchlink: Torchlink, torch_root: Path) -> None:
    whole = shlex.split(torchlink("flags", "--libtorch", torch_root).out)
    compile_half = shlex.split(torchlink("flags", "--compile", "--libtorch", torch_root).out)
    link_half = shlex.split(torchlink("flags", "--link", "--libtorch", torch_root).out)
    assert compile_half + link_half == whole
    assert not any(word.startswith(("-l", "-L", "-Wl")) for word in compile_half)
    assert not any(word.startswith(("-D", "-std", "-isystem")) for word in link_half)


@pytest.mark.parametrize(
    ("option", "begins"),
    [("--cmake", "#"), ("--nim", "--"), ("--pkg-config", "Name: torch\n"), ("--json", "{\n")],
)
def test_other_targets(torchlink: Torchlink, torch_root: Path, option: str, begins: str) -> None:
    done = torchlink("flags", option, "--libtorch", torch_root)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(begins)


def test_json_is_the_whole_plan(torchlink: Torchlink, torch_root: Path) -> None:
    told = json.loads(torchlink("flags", "--json", "--libtorch", torch_root).out)
    words = shlex.split(torchlink("flags", "--libtorch", torch_root).out)
    assert told["schema"] == 1
    assert told["compile"]["flags"] + told["link"]["flags"] == words


def test_two_targets_are_a_usage_error(torchlink: Torchlink, torch_root: Path) -> None:
    done = torchlink("flags", "--cmake", "--nim", "--libtorch", torch_root)
    assert (done.code, done.out) == (2, "")
    assert "cannot be combined" in done.err
    told = json.loads(torchlink("flags", "--json", "--cxx").out)
    assert told["error"]["code"] == "usage"


def test_options_change_the_flags(torchlink: Torchlink, torch_root: Path) -> None:
    chosen = ("--libtorch", torch_root)
    assert "-Wl,-rpath,$ORIGIN/../lib" in shlex.split(
        torchlink("flags", "--rpath", "origin=../lib", *chosen).out
    )
    assert "-rpath" not in torchlink("flags", "--rpath", "none", *chosen).out
    assert "-idirafter" in torchlink("flags", "--headers", "after", *chosen).out
    assert "no-as-needed,-ltorch," in torchlink("flags", "--aoti", *chosen).out
    assert "-std=c++20" in torchlink("flags", "--std", "20", *chosen).out


@pytest.mark.parametrize("spelled", ["20", "c++20", "gnu++20", "C++20", "c++2a"])
@pytest.mark.parametrize("form", ["--std {}", "--std={}", "--compiler=c++ --std={}"])
def test_a_standard_may_be_spelled_as_compilers_do(
    torchlink: Torchlink, torch_root: Path, spelled: str, form: str
) -> None:
    words = form.format(spelled).split()
    assert plain.read(flags.COMMAND, words) is not None, "the quick path reads it"
    done = torchlink("flags", "--compile", "--libtorch", torch_root, *words)
    assert done.out.endswith(" -std=c++20\n")


@pytest.mark.parametrize("command", ["flags", "verify"])
def test_an_unknown_standard_is_an_error_that_lists_the_known_ones(
    torchlink: Torchlink, command: str
) -> None:
    done = torchlink(command, "--std", "gnu++")
    assert (done.code, done.out) == (2, "")
    assert "gnu++ is not a C++ standard: write 17," in done.err


@pytest.mark.parametrize("command", [("flags",), ("verify",), ("matrix",), ("c++", "-show", "a.cpp")])
@pytest.mark.usefixtures("torch_root")
def test_every_command_names_the_compiler_by_one_option(
    torchlink: Torchlink, command: tuple[str, ...]
) -> None:
    name, *rest = command
    done = torchlink(name, "--compiler", "no-such-compiler", *rest)
    assert done.code == 2
    assert "names no-such-compiler" in done.out + done.err
    if name != "c++":
        assert "Did you mean --compiler" in torchlink(name, "--cxx-compiler", "x").err


@pytest.mark.parametrize(
    "option", [("--rpath", "sideways"), ("--headers", "before"), ("--std", "11"), ("--nonsense",)]
)
def test_an_option_that_cannot_be_is_a_usage_error(
    torchlink: Torchlink, torch_root: Path, option: tuple[str, ...]
) -> None:
    done = torchlink("flags", *option, "--libtorch", torch_root)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("torchlink: ")


def test_a_place_without_libtorch_is_an_error_with_a_hint(torchlink: Torchlink, tmp_path: Path) -> None:
    done = torchlink("flags", "--libtorch", tmp_path)
    assert (done.code, done.out) == (2, "")
    assert "-> " in done.err


def test_libraries_without_headers_have_link_flags_only(
    torchlink: Torchlink, torch_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "lib").mkdir()
    for library in (torch_root / "lib").iterdir():
        (tmp_path / "lib" / library.name).symlink_to(library)
    done = torchlink("flags", "--link", "--libtorch", tmp_path / "lib")
    assert done.code == 0
    assert f"-L{tmp_path}/lib" in shlex.split(done.out)
    assert "no headers" in done.err
    for half in ("--compile", "--cmake"):
        refused = torchlink("flags", half, "--libtorch", tmp_path / "lib")
        assert (refused.code, refused.out) == (2, "")
        assert "include/ATen is missing" in refused.err


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86_64 compilers know -m32")
@pytest.mark.compile
def test_a_compiler_for_another_machine_is_noted(
    torchlink: Torchlink, torch_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "g++ -m32")
    done = torchlink("flags", "--libtorch", torch_root)
    assert done.code == 0
    assert "$CXX (g++ -m32) compiles for a different machine than" in done.err


def test_a_missing_compiler_is_an_error(torchlink: Torchlink, torch_root: Path) -> None:
    done = torchlink("flags", "--compiler", "no-such-c++", "--libtorch", torch_root)
    assert (done.code, done.out) == (2, "")
    assert "no-such-c++" in done.err


@pytest.mark.compile
def test_flags_need_no_compiler(
    torchlink: Torchlink, torch_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_one = torchlink("flags", "--libtorch", torch_root)
    monkeypatch.setenv("PATH", "/nowhere")
    assert torchlink("flags", "--libtorch", torch_root).out == with_one.out


def test_a_response_file_is_written_and_stdout_stays_empty(
    torchlink: Torchlink, torch_root: Path, tmp_path: Path
) -> None:
    file = tmp_path / "w.rsp"
    for _ in range(2):  # over its own older one, too
        done = torchlink("flags", "--response-file", file, "--libtorch", torch_root)
        assert (done.code, done.out) == (0, "")
    assert file.read_text().splitlines() == shlex.split(torchlink("flags", "--libtorch", torch_root).out)


def test_a_response_file_never_replaces_the_users_file(
    torchlink: Torchlink, torch_root: Path, tmp_path: Path
) -> None:
    file = tmp_path / "main.cpp"
    file.write_text("int main() {}\n")
    done = torchlink("flags", "--response-file", file, "--libtorch", torch_root)
    assert done.code == 2
    assert file.read_text() == "int main() {}\n"
    assert torchlink("flags", "--response-file", file, "--force", "--libtorch", torch_root).code == 0
    assert "-lc10" in file.read_text()


@pytest.mark.parametrize("name", ["", "no/such/directory/w.rsp"])
def test_a_response_file_that_cannot_be_written_is_an_error(
    torchlink: Torchlink, torch_root: Path, tmp_path: Path, name: str
) -> None:
    done = torchlink("flags", "--response-file", tmp_path / name, "--libtorch", torch_root)
    assert (done.code, done.out) == (2, "")
    assert "Cannot" in done.err


def test_a_response_file_has_one_syntax(torchlink: Torchlink, torch_root: Path, tmp_path: Path) -> None:
    done = torchlink("flags", "--nim", "--response-file", tmp_path / "w.rsp", "--libtorch", torch_root)
    assert done.code == 2
    assert not (tmp_path / "w.rsp").exists()


@pytest.mark.compile
def test_the_issues_own_lines_work_in_a_directory_with_a_space(torch_root: Path, tmp_path: Path) -> None:
    place = tmp_path / "with space"
    place.mkdir()
    (place / "main.cpp").write_text(
        "#include <string>\nnamespace at { std::string show_config(); }\n"
        "int main() { return at::show_config().empty(); }\n"
    )
    (place / "libtorch here").symlink_to(torch_root)
    script = """
    set -e
    torchlink() { "$PYTHON" -m torchlink "$@"; }
    eval c++ main.cpp -o one $(torchlink flags --cxx)
    torchlink flags --response-file w.rsp && c++ main.cpp -o two @w.rsp
    torchlink flags --pkg-config > torch.pc
    eval c++ main.cpp -o three $(PKG_CONFIG_PATH=. pkg-config --cflags --libs torch)
    """
    environment = {**os.environ, "PYTHON": sys.executable, "TORCHLINK_LIBTORCH": str(place / "libtorch here")}
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for program in ("one", "two", "three"):
        assert run_clean(place / program).returncode == 0


def test_paths_that_are_no_text_come_out_as_they_are(torch_root: Path, tmp_path: Path) -> None:
    link = tmp_path / os.fsdecode(b"\xff\xfe")
    link.symlink_to(torch_root)
    done = subprocess.run(
        [sys.executable, "-m", "torchlink", "flags", "--libtorch", link],
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert b"/\xff\xfe/lib" in done.stdout


def test_notes_go_to_stderr(
    torchlink: Torchlink, torch_root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A script stands in for an old compiler: it prints what g++ 9 prints."""
    old = tmp_path / "g++-9"
    old.write_text(
        "#!/bin/sh\necho 'Target: x86_64-linux-gnu' >&2\n"
        "printf '#define __GNUC__ 9\\n#define __GNUC_MINOR__ 4\\n#define __GLIBCXX__ 1\\n"
        "#define _GLIBCXX_RELEASE 9\\n#define _GLIBCXX_USE_CXX11_ABI 1\\n#define _GLIBCXX_USE_DUAL_ABI 1\\n'\n"
    )
    old.chmod(0o755)
    told = json.loads(torchlink("find", "--libtorch", torch_root, "--json").out)["libtorch"]
    done = torchlink("flags", "--compiler", old, "--libtorch", torch_root)
    if told["cxx_standard_required"] > 17:
        assert (done.code, done.out) == (2, "")
        assert "gcc 11 or newer" in done.err
    elif told["cxx_standard"] > 17:
        assert "-std=c++17" in done.out
        assert done.err.startswith("torchlink: note: C++17 is used")


@pytest.fixture
def c_api(tmp_path: Path) -> Path:
    """A directory with the names of the files that `torchlink capi` writes; `flags` reads none of them."""
    directory = tmp_path / "the api"
    directory.mkdir()
    for name in ("torchmodel.h", "libtorchmodel.so.1"):
        (directory / name).touch()
    (directory / "libtorchmodel.so").symlink_to("libtorchmodel.so.1")
    return directory


@pytest.mark.parametrize("target", TARGETS)
def test_capi_prints_the_flags_of_the_c_api_in_any_syntax(
    torchlink: Torchlink, c_api: Path, target: str
) -> None:
    short = c_api.rename(c_api.parent / "api")
    for order in ((f"--{target}", "--capi", short), ("--capi", short, f"--{target}")):
        done = torchlink("flags", *order)
        assert (done.code, done.err) == (0, "")
        assert "torchmodel" in done.out
        assert str(short) in done.out
        assert "torch_cpu" not in done.out


def test_capi_finds_the_c_api_here_or_in_the_project(
    torchlink: Torchlink, c_api: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(c_api)
    assert f"-isystem '{c_api}'" in torchlink("flags", "--capi").out
    project = c_api.parent / "project"
    (project / ".torchlink").mkdir(parents=True)
    c_api.rename(project / ".torchlink/capi")
    monkeypatch.chdir(project)
    assert f"-L{project}/.torchlink/capi" in torchlink("flags", "--capi").out


def test_what_capi_cannot_do_is_an_error(torchlink: Torchlink, c_api: Path) -> None:
    mistakes = {
        "No C API in": ("--capi", c_api.parent),
        "Unexpected argument": (c_api,),
        "--std is for C++ programs": ("--capi", c_api, "--std", "20"),
        "--cpu is for C++ programs": ("--capi", c_api, "--cpu"),
        "cannot be combined": ("--capi", c_api, "--go", "--rust"),
        "--plugin is for C++ programs": ("--capi", c_api, "--plugin"),
    }
    for message, arguments in mistakes.items():
        done = torchlink("flags", *arguments)
        assert (done.code, done.out) == (2, ""), arguments
        assert message in done.err


def test_an_archive_is_linked_with_its_own_libtorch(
    torchlink: Torchlink, c_api: Path, torch_root: Path
) -> None:
    (c_api / "libtorchmodel.so").unlink()
    (c_api / "libtorchmodel.a").touch()
    pc = c_api / "torchmodel.pc"
    pc.write_text(f"Libs: -L{c_api} -ltorchmodel -L{torch_root}/lib -ltorch_cpu\n")
    done = torchlink("flags", "--fortran", "--capi", c_api, "--libtorch", torch_root)
    assert done.code == 0
    assert done.out.rstrip().endswith("-ltorch_cpu -lc10 -lstdc++ -lm")
    pc.write_text(f"Libs: -L{c_api} -ltorchmodel -L/opt/libtorch/lib -ltorch_cpu\n")
    done = torchlink("flags", "--fortran", "--capi", c_api, "--libtorch", torch_root)
    assert (done.code, done.out) == (2, "")
    assert "was built for another libtorch" in done.err


def test_nvcc_takes_the_architectures_of_torchs_variable(
    torchlink: Torchlink, torch_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    assert torchlink("flags", "--nvcc", "--cpu", "--libtorch", torch_root).code == 0
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0")
    assert (
        "-gencode=arch=compute_90,code=sm_90 " in torchlink("flags", "--nvcc", "--libtorch", torch_root).out
    )
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "nine")
    done = torchlink("flags", "--nvcc", "--libtorch", torch_root)
    assert (done.code, done.out) == (2, "")
    assert "$TORCH_CUDA_ARCH_LIST has 'nine'" in done.err


def test_a_path_that_a_syntax_cannot_express_is_refused(
    torchlink: Torchlink, torch_root: Path, tmp_path: Path
) -> None:
    link = tmp_path / "a, b"
    link.symlink_to(torch_root)
    for target in ("--nvcc", "--node"):
        done = torchlink("flags", target, "--libtorch", link)
        assert (done.code, done.out) == (2, "")
        assert "cannot be written" in done.err
