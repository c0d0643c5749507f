"""`torchlink doctor`: what is installed, what fits together, what is missing and what fixes it."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.libtorch.trees import Fake, Library, build, make, make_venv
from torchlink.doctor.compilers import compiler_names
from torchlink.doctor.environment import find_installer
from torchlink.doctor.examination import system_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

pytestmark = pytest.mark.compile
CUDA = replace(
    Fake(),
    version="2.15.0+cu132",
    headers="2.15.0",
    built="2.15.0",
    cmake="2.15.0",
    cuda="13.2",
    libraries=("torch_cpu", "torch_cuda", "torch"),
)


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No choice of compiler or environment by whoever runs the tests."""
    for name in ("CXX", "VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def doctor(torchlink: Callable[..., Result]) -> Callable[..., dict[str, Any]]:
    """The JSON of `torchlink doctor`."""

    def call(*arguments: str | Path) -> dict[str, Any]:
        done = torchlink("doctor", "--json", *arguments)
        said: dict[str, Any] = json.loads(done.out)
        assert done.code == (0 if said["ok"] else 1), done.err
        return said

    return call


def errors(said: dict[str, Any]) -> list[str]:
    """What stops a build."""
    return [problem["what"] for problem in said["problems"] if problem["severity"] == "error"]


def commands(said: dict[str, Any]) -> list[str]:
    """All commands that are offered."""
    return [command for problem in said["problems"] for command in problem["commands"]]


def test_a_machine_without_problems_is_reported_as_such(
    tmp_path: Path, doctor: Callable[..., dict[str, Any]], torchlink: Callable[..., Result]
) -> None:
    root = make(tmp_path / "torch")
    said = doctor("--libtorch", root)
    assert said["schema"] == 1
    assert said["ok"] is True
    assert said["libtorch"]["root"] == str(root)
    assert {fit["ok"] for fit in said["fits"] if fit["compiler"] in ("c++", "g++")} == {True}
    assert sum(compiler["taken"] for compiler in said["compilers"]) == 1
    page = torchlink("doctor", "--libtorch", root)
    assert page.code == 0
    assert "* 2.13.0+cpu, CPU only, ABI 1" in page.out
    assert "error" not in page.out


def test_one_program_is_listed_once_with_all_its_names(doctor: Callable[..., dict[str, Any]]) -> None:
    said = doctor()
    names = [name for compiler in said["compilers"] for name in compiler["names"]]
    assert "c++" in names
    assert len(names) == len(set(names))
    known = [
        (each["kind"], each["version"], each["target"]) for each in said["compilers"] if not each["error"]
    ]
    assert len(known) == len(set(known))


def test_names_of_compilers_are_distinguished_from_similar_names(tmp_path: Path) -> None:
    for name in ("g++-9", "g++-12", "c++filt", "clang++-14", "g++", "c++", "x86_64-linux-gnu-g++", "clang"):
        (tmp_path / name).touch()
    assert compiler_names([str(tmp_path), "/nowhere"]) == ["c++", "g++", "g++-12", "g++-9", "clang++-14"]


def test_no_libtorch_is_an_error_with_the_command_that_fixes_it(
    tmp_path: Path, doctor: Callable[..., dict[str, Any]]
) -> None:
    said = doctor("--python", make_venv(tmp_path).parents[2] / "bin/python")
    assert errors(said) == ["No working libtorch was found."]
    assert commands(said)[:3] == [
        "python3 -m venv .venv",
        ". .venv/bin/activate",
        "python -m pip install torch",
    ]


def test_no_compiler_is_an_error(
    tmp_path: Path, doctor: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make(tmp_path / "torch")
    monkeypatch.setenv("PATH", str(tmp_path))
    said = doctor("--libtorch", root)
    assert errors(said) == ["No C++ compiler works: none is on PATH."]
    assert said["compilers"] == []
    assert all(tool is None for tool in said["tools"].values())


def test_a_compiler_without_a_linker_is_an_error(
    tmp_path: Path, doctor: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchlink.process import which

    root = make(tmp_path / "torch")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/c++").symlink_to(which("c++") or "")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert "No linker is on PATH." in errors(doctor("--libtorch", root))


def test_a_cxx_that_does_not_exist_is_an_error_and_another_is_suggested(
    tmp_path: Path, doctor: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make(tmp_path / "torch")
    monkeypatch.setenv("CXX", "no-such-compiler")
    said = doctor("--libtorch", root)
    assert "$CXX names no-such-compiler" in errors(said)[0]
    assert commands(said)[0] == "export CXX=c++"


def test_headers_too_new_for_the_compiler_are_an_error(
    tmp_path: Path, doctor: Callable[..., dict[str, Any]]
) -> None:
    root = make(tmp_path / "torch", replace(Fake(), guard=23, declared=26))
    said = doctor("--libtorch", root)
    checked = {fit["compiler"]: fit for fit in said["fits"]}
    unfit = [fit for fit in checked.values() if not fit["ok"]]
    if not unfit:
        pytest.skip("every compiler here knows C++23")
    assert all(fit["abi"] and fit["cxx_standard"] is None for fit in unfit)
    assert all("C++23" in fit["error"]["message"] for fit in unfit)


def test_missing_libraries_are_an_error_for_cpu_programs_and_a_warning_for_cuda(
    tmp_path: Path, doctor: Callable[..., dict[str, Any]], torchlink: Callable[..., Result]
) -> None:
    fake = replace(CUDA, needed=(("torch_cuda", ("libcublas.so.99",)),))
    site = make_venv(tmp_path / "half")
    half = doctor("--libtorch", make(site / "torch", fake))
    assert errors(half) == []
    (warning,) = (each for each in half["problems"] if each["severity"] == "warning")
    assert "libcublas.so.99" in warning["what"]
    assert warning["commands"] == [f"{tmp_path}/half/bin/python3 -m pip install nvidia-cublas"]
    whole = replace(fake, needed=(("torch_cpu", ("libcupti.so.99",)),))
    said = doctor("--libtorch", make(tmp_path / "whole/torch", whole))
    assert "Not even a CPU program can start." in errors(said)[0]
    assert len(errors(said)) == 1
    assert all(fit["ok"] and fit["missing"] == [] for fit in half["fits"] if fit["error"] is None)
    assert not any(fit["ok"] for fit in said["fits"])
    assert {tuple(fit["missing"]) for fit in said["fits"]} == {("libcupti.so.99",)}
    page = torchlink("doctor", "--libtorch", tmp_path / "whole/torch").out
    assert " ok (C++" not in page
    assert "programs do not start: missing libcupti.so.99" in page


def test_a_tool_that_does_not_run_is_a_warning(
    tmp_path: Path, doctor: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make(tmp_path / "torch")
    for name in ("nvcc", "mold"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).touch(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    said = doctor("--libtorch", root)
    assert (said["ok"], said["linkers"]["mold"], said["cuda_toolkit"]["nvcc"]) == (True, None, None)
    warnings = [each["what"] for each in said["problems"] if each["severity"] == "warning"]
    assert warnings == [
        f"Cannot run {tmp_path / 'bin' / name}: Exec format error." for name in ("mold", "nvcc")
    ]


def test_a_toolkit_is_distinguished_from_a_wrapper_of_nvcc(
    tmp_path: Path,
    doctor: Callable[..., dict[str, Any]],
    torchlink: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = make(tmp_path / "torch", replace(CUDA, cuda="99.1", version="2.15.0+cu991"))
    wrapper = tmp_path / "bin/nvcc"
    wrapper.parent.mkdir()
    wrapper.write_text("#!/bin/sh\necho Cuda compilation tools, release 98.7, V98.7.1\n")
    wrapper.chmod(0o755)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    include = tmp_path / "cuda/include"
    include.mkdir(parents=True)
    (include / "cuda_runtime_api.h").touch()
    (include / "cuda.h").write_text("#define CUDA_VERSION 98070\n")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    said = doctor("--libtorch", root)
    assert said["cuda_toolkit"] == {
        "root": str(tmp_path / "cuda"),
        "version": "98.7",
        "matches": False,
        "needed": False,
        "nvcc": {"path": str(wrapper), "version": "98.7"},
    }
    assert not any("nvcc" in problem["what"] for problem in said["problems"])
    page = torchlink("doctor", "--libtorch", root).out
    assert f"toolkit 98.7 in {tmp_path / 'cuda'}, another major version" in page
    assert "needed only" in page


def test_headers_of_cudas_own_are_a_note(tmp_path: Path, doctor: Callable[..., dict[str, Any]]) -> None:
    said = doctor("--libtorch", make(tmp_path / "torch", replace(CUDA, cuda="99.1", version="2.15.0+cu991")))
    (note,) = (problem for problem in said["problems"] if "c10/cuda" in problem["what"])
    assert note["severity"] == "note"
    assert note["remedy"] == "Install a CUDA 99 toolkit (CUDA_HOME)."


def test_a_packed_libtorch_is_reported_with_how_to_extract_it(
    tmp_path: Path, doctor: Callable[..., dict[str, Any]]
) -> None:
    from tests.libtorch.test_packed import pack

    make(tmp_path / "site/torch")
    wheel = pack(tmp_path / "site", tmp_path / "torch.whl")
    said = doctor("--libtorch", wheel)
    assert "not extracted" in errors(said)[0]
    assert "torchlink extract" in said["problems"][0]["remedy"]


def test_a_variable_with_a_missing_path_is_a_warning(
    tmp_path: Path, doctor: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIBTORCH", str(tmp_path / "gone"))
    said = doctor()
    assert [each["what"] for each in said["problems"] if "LIBTORCH names" in each["what"]]
    assert "unset LIBTORCH" in commands(said)


def test_nothing_replaces_a_broken_torchlink_libtorch(
    tmp_path: Path,
    doctor: Callable[..., dict[str, Any]],
    torchlink: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make(make_venv(tmp_path / "venv") / "torch")
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "venv"))
    monkeypatch.setenv("TORCHLINK_LIBTORCH", str(tmp_path / "gone"))
    said = doctor()
    [error] = errors(said)
    assert str(tmp_path / "gone") in error
    assert said["libtorch"] is None
    assert str(tmp_path / "venv") in json.dumps(said["candidates"])
    assert "unset TORCHLINK_LIBTORCH" in commands(said)
    assert torchlink("find").code == torchlink("find", "--all").code == 2
    page = torchlink("doctor").out.partition("compilers")[0]
    assert "none is used by default" in page
    assert "* " not in page


def test_an_unusable_libtorch_is_reported_as_by_find(
    tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    done = torchlink("doctor", "--libtorch", tmp_path / "gone")
    assert (done.code, done.out) == (2, "")
    assert done.err == torchlink("find", "--libtorch", tmp_path / "gone").err


def test_every_libtorch_is_listed_and_the_chosen_one_marked(
    tmp_path: Path, torchlink: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_venv(tmp_path / "venv")
    make(site / "torch")
    make(
        tmp_path / "old",
        replace(Fake(), version="2.6.0", headers="2.6.0", built="2.6.0", cmake="2.6.0", abi=0),
    )
    monkeypatch.setenv("TORCHLINK_LIBTORCH", str(tmp_path / "old"))
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "venv"))
    page = torchlink("doctor").out
    assert f"* 2.6.0, CPU only, ABI 0: {tmp_path / 'old'}  (TORCHLINK_LIBTORCH)" in page
    assert f"  2.13.0+cpu, CPU only, ABI 1: {site / 'torch'}  (active virtual environment)" in page


def test_variables_that_replace_libraries_are_a_warning(
    tmp_path: Path,
    torchlink: Callable[..., Result],
    doctor: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root, other = make(tmp_path / "torch"), make(tmp_path / "other", replace(Fake(), abi=0))
    copy = tmp_path / "copies" / "libstdc++.so.6"
    build(copy, Library())
    cpu = root / "lib" / "libtorch_cpu.so"
    subprocess.run(["patchelf", "--add-needed", copy.name, str(cpu)], check=True)
    value = f"{tmp_path / 'copies'}:{other / 'lib'}:/no/such:{root / 'lib'}"
    monkeypatch.setenv("LD_LIBRARY_PATH", value)
    said = doctor("--libtorch", root)
    (variable,) = said["variables"]
    assert (variable["name"], variable["value"]) == ("LD_LIBRARY_PATH", value)
    copies, foreign, nowhere, own = variable["entries"]
    assert copies["instead"] == ["libstdc++.so.6"]
    assert {"libc10.so", "libtorch_cpu.so", "libtorch.so"} <= {*foreign["instead"]}
    assert foreign["libtorch"]
    assert nowhere["exists"] is False
    assert own["instead"] == []
    warnings = [each["what"] for each in said["problems"] if each["severity"] == "warning"]
    assert any(str(other / "lib") in what and "libc10.so" in what for what in warnings)
    assert any("libstdc++.so.6" in what for what in warnings)
    assert any("/no/such" in each["what"] for each in said["problems"] if each["severity"] == "note")
    page = torchlink("doctor", "--libtorch", root).out
    assert f"LD_LIBRARY_PATH={value}" in page
    assert "/no/such: no such directory" in page
    monkeypatch.setenv("LD_LIBRARY_PATH", str(root / "lib"))
    said = doctor("--libtorch", root)
    assert said["variables"][0]["entries"][0]["instead"] == []
    assert "LD_LIBRARY_PATH" not in str(said["problems"])


def test_variables_that_replace_headers_or_preload_libraries_are_a_warning(
    tmp_path: Path, doctor: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, other = make(tmp_path / "torch"), make(tmp_path / "other", replace(Fake(), abi=0))
    preload = other / "lib" / "libc10.so"
    monkeypatch.setenv("CPATH", f"{root / 'include'}:{other / 'include'}")
    monkeypatch.setenv("LIBRARY_PATH", str(other / "lib"))
    monkeypatch.setenv("LD_PRELOAD", str(preload))
    said = doctor("--libtorch", root)
    there = {each["name"]: each for each in said["variables"]}
    assert [bool(each["instead"]) for each in there["CPATH"]["entries"]] == [False, True]
    assert there["LIBRARY_PATH"]["entries"][0]["libtorch"]
    warnings = " ".join(each["what"] for each in said["problems"] if each["severity"] == "warning")
    assert f"CPATH contains {other / 'include'}" in warnings
    assert f"LD_PRELOAD loads {preload}" in warnings
    assert "LIBRARY_PATH" not in warnings


def test_the_script_is_valid_and_is_not_run(
    tmp_path: Path, torchlink: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CXX", "no such compiler; touch harm")
    monkeypatch.setenv("LIBTORCH", "/nowhere\n touch harm")
    done = torchlink("doctor", "--fix-script", "--python", make_venv(tmp_path).parents[2] / "bin/python")
    assert done.code == 1
    assert done.out.startswith("#!/bin/sh\n")
    script = tmp_path / "fix.sh"
    script.write_text(done.out)
    subprocess.run(["sh", "-n", script], check=True)
    lines = [line for line in done.out.splitlines() if line and not line.startswith("#")]
    assert "python -m pip install torch" in lines
    assert not any("harm" in line for line in lines)
    assert not {"harm", ".venv"} & {path.name for path in tmp_path.iterdir()}


def test_optional_things_are_comments_in_the_script(
    tmp_path: Path, torchlink: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchlink.process import which

    root = make(tmp_path / "torch")
    (tmp_path / "bin").mkdir()
    for program in ("c++", "ld"):
        (tmp_path / "bin" / program).symlink_to(os.path.realpath(which(program) or ""))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    done = torchlink("doctor", "--fix-script", "--libtorch", root)
    assert done.code == 0, done.out
    assert "# nim is not installed" in done.out
    assert all(line.startswith("#") or not line for line in done.out.splitlines())


@pytest.mark.parametrize(
    ("program", "command"),
    [("apt-get", "apt-get install -y g++ ninja-build"), ("dnf", "dnf install -y gcc-c++ ninja-build")],
)
def test_commands_suit_the_systems_package_manager(
    program: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / program).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    installer = find_installer()
    assert installer
    assert installer.command("c++", "ninja").removeprefix("sudo ") == command
    (tmp_path / program).unlink()
    assert find_installer() is None


def test_the_system_has_the_name_in_os_release(tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text('NAME="X"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')
    assert system_name(tmp_path / "os-release") == "Debian GNU/Linux 12 (bookworm)"
    assert system_name(tmp_path / "none")


def test_an_unreadable_path_is_exit_two(torchlink: Callable[..., Result]) -> None:
    assert torchlink("doctor", "--python", "/no/such/python").code == 2
    assert torchlink("doctor", "--json", "--fix-script").code == 2
