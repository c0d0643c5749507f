"""What this machine's files say about a log: real failures of g++, Python and the loader against the real torch."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import program
from torchlink.explain import causes
from torchlink.explain.checks import MODEL_CAUSES, SYMBOL_CAUSES, Examiner
from torchlink.explain.explanation import Explanation, explain
from torchlink.explain.facts import MachineFacts, Scene
from torchlink.explain.lookup import look_up_library
from torchlink.libtorch.facts import CompanionDir, Libtorch, MissingLibrary
from torchlink.libtorch.inspect import inspect

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result

CHECK = """
#include <string>
namespace c10 { namespace detail {
[[noreturn]] void torchCheckFail(const char*, const char*, TYPE, const std::string&);
} }
int main() { c10::detail::torchCheckFail("a", "b", 1, "x"); }
"""
PYTHON = """
namespace at { class TensorBase; }
struct _object;
_object* THPVariable_Wrap(const at::TensorBase&);
int main(int n, char** words) { return THPVariable_Wrap(*reinterpret_cast<at::TensorBase*>(words)) != nullptr; }
"""


def tool(directory: Path, *words: str | Path) -> str:
    """Run a tool that fails, and return what it printed."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=directory,
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode != 0, done
    return done.stdout + done.stderr


def explained(log: str, facts: MachineFacts | None) -> Explanation:
    return explain([("log", io.BytesIO(log.encode()))], facts)


def only(explanation: Explanation) -> tuple[str, str, str]:
    """Return id, certainty and notes of the only cause."""
    (found,) = explanation.causes
    return found.cause.id, found.certainty, " ".join(found.notes)


@pytest.mark.parametrize(
    ("source", "options", "cause", "said"),
    [
        (CHECK, ("-D_GLIBCXX_USE_CXX11_ABI=ABI", "-DTYPE=unsigned"), "abi-mismatch-link", "C++ ABI"),
        (CHECK, ("-DTYPE=unsigned",), "torch-libs-not-linked", "exactly as it is asked for"),
        (
            CHECK,
            ("-DTYPE=short",),
            "version-mismatch",
            "has only other functions, such as c10::detail::torch",
        ),
        (PYTHON, (), "torch-python-not-linked", "libtorch_python.so of torch"),
    ],
    ids=["other ABI", "not linked", "other version", "Python's"],
)
@pytest.mark.parametrize("linker", ["bfd", "gold", "lld"])
def test_an_undefined_symbol_is_looked_up(
    tmp_path: Path,
    torch_root: Path,
    source: str,
    options: tuple[str, ...],
    cause: str,
    said: str,
    linker: str,
) -> None:
    abi = inspect(torch_root, "test").cxx11_abi
    (tmp_path / "main.cpp").write_text(source)
    words = [option.replace("=ABI", f"={1 - (abi or 0)}") for option in options]
    if "=ABI" not in str(options):
        words.append(f"-D_GLIBCXX_USE_CXX11_ABI={abi}")
    linked = () if cause == "torch-libs-not-linked" else (f"-L{torch_root}/lib", "-ltorch_cpu", "-lc10")
    log = tool(
        tmp_path, program("g++"), f"-fuse-ld={linker}", *words, tmp_path / "main.cpp", *linked, "-o", "app"
    )
    found, certainty, notes = only(explained(log, MachineFacts(torch_root)))
    assert (found, certainty) == (cause, "certain")
    assert said in notes
    assert str(torch_root) in notes


@pytest.mark.parametrize(
    ("header", "cause", "said"),
    [
        ("torch/script.h", "headers-not-found", "has torch/script.h."),
        ("torch/csrc/jit/ir/ir.h", "headers-not-found", "has torch/csrc/jit/ir/ir.h."),
        ("caffe2/core/init.h", "api-removed", "has no caffe2/core/init.h."),
        ("torch/csrc/autograd/profiler_old.h", "api-removed", "has no torch/csrc/autograd/profiler_old.h."),
        ("torch/nosuch.h", "api-removed", "has no torch/nosuch.h."),
    ],
)
@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_a_missing_header_is_looked_up(
    tmp_path: Path,
    torch_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    header: str,
    cause: str,
    said: str,
    compiler: str,
) -> None:
    (tmp_path / "main.cpp").write_text(f"#include <{header}>\n")
    monkeypatch.setenv("TORCHLINK_LIBTORCH", str(torch_root))
    monkeypatch.chdir(tmp_path)
    log = tool(tmp_path, program(compiler), "-c", "main.cpp")
    found, certainty, notes = only(explained(log, MachineFacts()))
    assert (found, certainty) == (cause, "certain")
    assert said in notes


def test_a_header_that_a_header_of_libtorch_misses_is_not_looked_up(torch_root: Path) -> None:
    log = "/opt/libtorch/include/ATen/ATen.h:7:10: fatal error: torch/nosuch.h: No such file or directory\n"
    assert not explained(log, MachineFacts(torch_root)).causes


def test_a_loaded_symbol_is_looked_up(tmp_path: Path, torch_root: Path) -> None:
    abi = inspect(torch_root, "test").cxx11_abi
    name = "_ZN3c105ErrorC1ENS_14SourceLocationE"
    name += "Ss" if abi else "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
    (tmp_path / "ext.c").write_text(f"extern int {name}(void); int PyInit_ext(void) {{ return {name}(); }}\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "ext.c", "-o", "ext.so"], cwd=tmp_path, check=True, timeout=60)
    log = tool(tmp_path, sys.executable, "-c", "import ext")
    assert "ImportError" in log
    found, certainty, notes = only(explained(log, MachineFacts(torch_root)))
    assert (found, certainty) == ("abi-mismatch-load", "certain")
    assert f"with C++ ABI {abi}" in notes


@pytest.mark.parametrize(("needed", "cause"), [("", "torch-libs-not-linked"), ("-lc10", "abi-mismatch-load")])
def test_an_extension_that_needs_no_libtorch_was_not_linked(
    needed: str, cause: str, tmp_path: Path, torch_root: Path
) -> None:
    name = "_ZN3c105ErrorC1ENS_14SourceLocationE"
    name += (
        "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
        if inspect(torch_root, "test").cxx11_abi
        else "Ss"
    )
    (tmp_path / "ext.c").write_text(f"extern int {name}(void); int PyInit_ext(void) {{ return {name}(); }}\n")
    linked = (f"-L{torch_root}/lib", "-Wl,--no-as-needed", needed) if needed else ()
    command = ["gcc", "-shared", "-fPIC", "ext.c", "-o", "ext.so", *linked]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    log = f"ImportError: {tmp_path / 'ext.so'}: undefined symbol: {name}\n"
    assert only(explained(log, MachineFacts(torch_root)))[:2] == (cause, "certain")


def test_a_missing_library_is_found(tmp_path: Path, torch_root: Path) -> None:
    (tmp_path / "main.cpp").write_text("int main() {}\n")
    linked = (f"-L{torch_root}/lib", "-Wl,--no-as-needed", "-lc10")
    subprocess.run(["g++", "main.cpp", *linked, "-o", "app"], cwd=tmp_path, check=True, timeout=60)
    log = tool(tmp_path, "./app")
    found, certainty, notes = only(explained(log, MachineFacts(here=True, root=torch_root)))
    assert (found, certainty) == ("torch-lib-not-found-runtime", "certain")
    assert f"is in {torch_root / 'lib'}" in notes


def test_a_log_of_macos_is_of_another_machine_and_gets_no_variable_of_this_loader(
    torch_root: Path,
) -> None:
    log = (
        "dyld[123]: Library not loaded: @rpath/libtorch_cpu.dylib\n"
        "  Referenced from: <6A> /Users/user/app/build/app\n"
    )
    facts = MachineFacts()
    facts.__dict__["libtorch"] = inspect(torch_root, "test")
    (cause,) = explained(log, facts).causes
    commands = [fix.command for fix in cause.fixes[: cause.fitting]]
    assert any(command.startswith("install_name_tool -add_rpath") for command in commands)
    assert not any(" LD_LIBRARY_PATH" in command for command in commands)
    assert any("The log is of another machine" in note for note in cause.notes)


def test_a_log_of_another_machine_is_not_compared_with_this_one(tmp_path: Path, torch_root: Path) -> None:
    (tmp_path / "main.cpp").write_text(CHECK)
    log = tool(tmp_path, program("g++"), "-DTYPE=unsigned", tmp_path / "main.cpp", "-o", "app")
    log = log.replace(str(tmp_path), "/home/user/project")
    log = "/home/user/venv/lib/python3.9/site-packages/torch/lib/libtorch.so: linked\n" + log
    facts = MachineFacts()
    found, certainty, notes = only(explained(log, facts))
    assert (found, certainty) == only(explained(log, None))[:2]
    assert "exactly as it is asked for" not in notes
    assert facts.scene(log.splitlines()).place == "elsewhere"
    here = facts.scene([f"-L{torch_root}/lib"])
    assert here.libtorch is not None
    assert (here.place, here.libtorch.root, here.named) == ("here", torch_root, True)
    assert facts.scene(["No rule to make target '/opt/none/libtorch/lib/libc10.so'"]).place == "unknown"
    assert facts.scene(["In file included from /usr/include/c++/12/string:40,"]).place == "unknown"


@pytest.mark.parametrize(
    "name", sorted({*SYMBOL_CAUSES, *MODEL_CAUSES, "libtorch-cpu-only", "torch-cuda-dropped"})
)
def test_logs_of_unknown_machines_keep_their_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for example in causes.load(name).examples:
        by_text = [found.cause.id for found in explained(example.log, None).causes]
        assert [found.cause.id for found in explained(example.log, MachineFacts()).causes] == by_text


def test_a_command_that_is_run_here_is_about_this_machine(
    tmp_path: Path, torch_root: Path, torchlink: Callable[..., Result]
) -> None:
    (tmp_path / "main.cpp").write_text(CHECK)
    words = (
        "g++",
        "-DTYPE=short",
        tmp_path / "main.cpp",
        f"-L{torch_root}/lib",
        "-lc10",
        "-o",
        tmp_path / "app",
    )
    done = torchlink("explain", "--", *words)
    assert done.code == 1
    assert "[version-mismatch, certain]" in done.err
    assert "torchlink c++ " in done.err


def test_a_cpu_build_decides_only_about_its_own_logs(torch_root: Path) -> None:
    libtorch = inspect(torch_root, "test")
    log = "  what():  PyTorch is not linked with support for cuda devices\n"
    here = f"frame #0: c10::Error + 0x9d (0x7f in {torch_root}/lib/libc10.so)\n"
    unknown = only(explained(log, MachineFacts()))
    assert unknown[:2] == ("torch-cuda-dropped", "likely")
    if libtorch.accelerator == "cpu":
        assert "is a CPU build: if the log is about it" in unknown[2]
        assert only(explained(log + here, MachineFacts()))[:2] == ("libtorch-cpu-only", "certain")


def test_without_a_libtorch_the_fix_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHLINK_LIBTORCH", str(tmp_path / "none"))
    log = "./app: error while loading shared libraries: libc10.so: cannot open shared object file: No such file\n"
    found = explained(log, MachineFacts()).causes[0]
    assert found.cause.id == "torch-lib-not-found-runtime"
    assert "No libtorch was found on this machine" in " ".join(found.notes)


def test_the_command_prints_what_the_machine_says(
    tmp_path: Path, torch_root: Path, torchlink: Callable[..., Result]
) -> None:
    log = tmp_path / "log"
    log.write_text(
        f"{tmp_path}/app: error while loading shared libraries: libc10.so: cannot open shared object file\n"
    )
    said = f"{torch_root / 'lib'}"
    assert said in torchlink("explain", "--libtorch", torch_root, log).out.replace("\n  ", " ")
    assert said not in torchlink("explain", "--libtorch", torch_root, "--no-machine-facts", log).out


@pytest.mark.parametrize(("name", "cause"), [("c10", "lib-not-found-link"), ("caffe2", "lib-removed")])
def test_a_library_of_the_link_line_is_looked_up(
    tmp_path: Path, torch_root: Path, name: str, cause: str
) -> None:
    (tmp_path / "main.cpp").write_text("int main() {}\n")
    log = tool(tmp_path, program("g++"), "main.cpp", f"-l{name}")
    assert only(explained(log, MachineFacts(torch_root)))[:2] == (cause, "certain")


@pytest.mark.parametrize(
    ("head", "cause"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "model-corrupt-or-legacy"),
        (b"", "model-corrupt-or-legacy"),
        (b"\x93NUMPY", "model-not-torchscript"),
    ],
)
def test_a_model_file_is_looked_at(tmp_path: Path, torch_root: Path, head: bytes, cause: str) -> None:
    model = tmp_path / "weights.pt"
    model.write_bytes(head)
    examiner = Examiner(MachineFacts(torch_root), Scene("here", None, named=False))
    texts = [f"failed to load {model}: PytorchStreamReader failed"]
    assert examiner.settled("model-corrupt-or-legacy", "likely", texts) == (cause, "certain")
    assert f"{model} is " in examiner.notes(cause, texts)[0]
    assert examiner.seen(cause, texts)["model"] == str(model)


def test_a_model_that_another_line_names_is_looked_at(
    tmp_path: Path, torch_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = 'import torch\ntorch.save({"w": torch.ones(2)}, "w.pt")\ntorch.jit.load("w.pt")\n'
    (tmp_path / "load.py").write_text(script)
    log = tool(tmp_path, sys.executable, "load.py")
    monkeypatch.chdir(tmp_path)
    found = explained(log, MachineFacts(torch_root)).causes[0]
    assert (found.cause.id, found.certainty) == ("model-not-torchscript", "certain")
    assert "w.pt is a dict saved by torch.save" in found.notes[0]
    assert any("torchlink verify w.pt" in fix.command for fix in found.fixes)


def cuda(torch_root: Path) -> Libtorch:
    """Return the facts of a CUDA build with a package next to it, and one that is missing."""
    return inspect(torch_root, "test")._replace(
        accelerator="cuda",
        accelerator_version="12.4",
        companion_dirs=(CompanionDir(Path("/site/nvidia/cudnn/lib"), ("libcudnn.so.9",), in_place=True),),
        missing_libraries=(MissingLibrary("libcupti.so.12", "libtorch_cpu.so", "nvidia-cuda-cupti-cu12"),),
    )


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("libc10.so", "here", None),
        ("libc10.so.1.13", "other-version", None),
        ("libcaffe2.so", "removed", None),
        ("libcudnn.so.9", "companion", "/site/nvidia/cudnn/lib"),
        ("libcupti.so.12", "missing", "nvidia-cuda-cupti-cu12"),
        ("libcudnn.so.8", "cuda-version", "libcudnn.so.9"),
        ("libcublas.so.12", "missing", "nvidia-cublas-cu12"),
        ("libgfortran.so.5", "system", "libgfortran5"),
        ("libmine.so", "unknown", None),
    ],
)
def test_where_a_library_is(torch_root: Path, name: str, kind: str, value: str | None) -> None:
    found = look_up_library(name, cuda(torch_root))
    assert found.kind == kind
    assert value is None or value in (found.directory, found.package, found.instead)


def test_a_cpu_build_needs_no_cuda(torch_root: Path) -> None:
    libtorch = inspect(torch_root, "test")
    if libtorch.accelerator == "cpu":
        assert look_up_library("libcudart.so.12", libtorch).kind == "no-accelerator"
