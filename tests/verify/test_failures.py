"""A loader that does not start, or dies, is told by its cause: the library, the signal, the exception."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from torchlink.compilation.loader import build_loader
from torchlink.errors import RunFailedError
from torchlink.libtorch.facts import MissingLibrary
from torchlink.libtorch.inspect import inspect
from torchlink.paths import data_dir
from torchlink.verify.building import link_plan
from torchlink.verify.failures import death, decisive_sentence, exception
from torchlink.verify.given import Given
from torchlink.verify.model_run import run_model
from torchlink.verify.options import VerifyOptions
from torchlink.verify.result import Request
from torchlink.verify.session import Session
from torchlink.verify.specs import encoded

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.errors import TorchlinkError

TINY = data_dir("templates") / "loader" / "tiny.pt"
LOADED = '{"event":"loaded","load_ms":1,"device":"cpu","arguments":["x"]}'


def failure_of(program: Path, torch_root: Path) -> TorchlinkError:
    """What is said of a program in the loader's place."""
    with Session(program) as session:
        result = run_model(
            session, TINY, "torchscript", Request(inputs=Given()), inspect(torch_root, found_by="test")
        )
    assert result.error is not None
    return result.error


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.compile
def test_a_library_that_is_gone_is_named(tmp_path: Path, torch_root: Path) -> None:
    (tmp_path / "gone.c").write_text("int gone(void) { return 1; }\n")
    (tmp_path / "main.c").write_text("int gone(void); int main(void) { return gone(); }\n")
    for command in ("cc -shared -fPIC gone.c -o libgone.so", "cc main.c -o main -L. -lgone"):
        subprocess.run(command.split(), cwd=tmp_path, check=True, timeout=300)
    (tmp_path / "libgone.so").unlink()
    error = failure_of(tmp_path / "main", torch_root)
    assert error.code == "run-failed"
    assert error.message == "The loader cannot start: the library libgone.so is not found."


@pytest.mark.compile
def test_a_symbol_that_is_gone_is_named(tmp_path: Path, torch_root: Path) -> None:
    (tmp_path / "gone.c").write_text("int gone(void) { return 1; }\n")
    (tmp_path / "main.c").write_text("int gone(void); int main(void) { return gone(); }\n")
    (tmp_path / "other.c").write_text("int other(void) { return 1; }\n")
    for command in (
        "cc -shared -fPIC gone.c -o libgone.so",
        "cc main.c -o main -L. -lgone -Wl,-z,now -Wl,-rpath,$ORIGIN",
        "cc -shared -fPIC other.c -o libgone.so",
    ):
        subprocess.run(command.split(), cwd=tmp_path, check=True, timeout=300)
    error = failure_of(tmp_path / "main", torch_root)
    assert "undefined symbol: gone" in error.message


def test_the_packages_are_named_that_bring_what_one_library_lacks(torch_root: Path) -> None:
    lacks = tuple(
        MissingLibrary(name, requester, package)
        for name, requester, package in (
            ("libcupti.so.13", "libtorch_cpu.so", "nvidia-cuda-cupti"),
            ("libcudart.so.13", "libtorch_cpu.so", "nvidia-cuda-runtime"),
            ("libcudnn.so.9", "libtorch_cuda.so", "nvidia-cudnn-cu13"),
        )
    )
    libtorch = inspect(torch_root, found_by="test")._replace(missing_libraries=lacks)
    pip = f"{libtorch.python} -m pip install"
    printed = (
        "./app: error while loading shared libraries: libcupti.so.13: cannot open shared object file: No"
    )
    assert death(127, printed, "load", libtorch).hint == f"{pip} nvidia-cuda-cupti nvidia-cuda-runtime"
    of_companion = printed.replace("libcupti.so.13", "libnvJitLink.so.12")
    libtorch = libtorch._replace(accelerator="cuda", accelerator_version="12.4")
    assert death(127, of_companion, "load", libtorch).hint == f"{pip} nvidia-nvjitlink-cu12"


def test_a_signal_is_named_with_what_was_under_way(tmp_path: Path, torch_root: Path) -> None:
    error = failure_of(
        program(tmp_path / "a", f"read x; echo '{LOADED}'; read x; echo help >&2; kill -SEGV $$"), torch_root
    )
    assert error.message == "The loader was killed by SIGSEGV in the model's forward."
    assert error.details == ("help",)


@pytest.mark.parametrize(
    ("number", "stage", "hint"),
    [
        (
            signal.SIGSEGV,
            "load",
            "Save or download the model again: the file is damaged, or its code nests too",
        ),
        (signal.SIGBUS, "describe", "Save or download the model again"),
        (signal.SIGKILL, "load", "SIGKILL usually means that memory ran out: free some"),
        (signal.SIGKILL, "forward", "give smaller inputs with --input"),
        (signal.SIGSEGV, "forward", "Give inputs like those that the model was made for with --input"),
        (signal.SIGILL, "forward", "Use a libtorch for this processor"),
        (signal.SIGTERM, "forward", "Find out what sent the signal"),
    ],
)
def test_every_signal_comes_with_a_hint(torch_root: Path, number: int, stage: str, hint: str) -> None:
    assert hint in death(-number, "", stage, inspect(torch_root, found_by="test")).hint


def test_a_crash_at_the_very_end_counts(tmp_path: Path, torch_root: Path) -> None:
    result = '{"event":"result","forward_ms":9000,"outputs":[],"outputs_left_out":0,"peak_rss_mb":1}'
    error = failure_of(
        program(tmp_path / "a", f"read x; echo '{LOADED}'; read x; echo '{result}'; read x; kill -ABRT $$"),
        torch_root,
    )
    assert error.message == "The loader was killed by SIGABRT at exit, after everything had succeeded."


@pytest.mark.parametrize(
    ("milliseconds", "timeout", "again"),
    [(1, None, True), (1, 600.0, True), (700, None, True), (9000, None, False), (1900, 7.0, False)],
)
def test_forward_is_called_again_as_long_as_that_takes_little(
    tmp_path: Path, torch_root: Path, milliseconds: int, timeout: float | None, *, again: bool
) -> None:
    result = f'"forward_ms":{milliseconds},"outputs":[],"outputs_left_out":0,"peak_rss_mb":1'
    answers = (
        f"load*) echo '{LOADED}' ;; forward*) echo '{{\"event\":\"result\",{result}}}' ;; "
        f'again\\ 3*) echo \'{{"event":"again","forward_ms":[1,2]}}\' ;;'
    )
    loader = program(tmp_path / "a", f'while read x; do case "$x" in {answers} esac; done')
    request = Request(inputs=Given(), timeout=timeout)
    with Session(loader) as session:
        model = run_model(
            session, tmp_path / "m", "torchscript", request, inspect(torch_root, found_by="test")
        )
    assert model.error is None
    assert model.again_ms == ((1.0, 2.0) if again else ())


def test_an_exit_without_an_answer_is_told(tmp_path: Path, torch_root: Path) -> None:
    error = failure_of(program(tmp_path / "a", "echo why >&2; exit 3"), torch_root)
    assert "exit status 3" in error.message
    assert error.details == ("why",)


def test_an_answer_that_is_no_event_is_told(tmp_path: Path, torch_root: Path) -> None:
    error = failure_of(program(tmp_path / "a", "read x; echo hello; read x"), torch_root)
    assert error.code == "forward-failed"  # code of the model wrote to the descriptor of the answers
    assert "answer" in error.message


def test_a_loader_that_may_not_be_run_has_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(RunFailedError) as caught:
        Session(tmp_path / "a")
    assert "TORCHLINK_CACHE_DIR" in caught.value.hint


def test_a_loader_for_another_machine_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(11) + b"\xf7\x00" + bytes(64))  # eBPF
    (tmp_path / "a").chmod(0o755)
    with pytest.raises(RunFailedError, match="for another machine than this one"):
        Session(tmp_path / "a")


INTERPRETER = """The following operation failed in the TorchScript interpreter.
Traceback of TorchScript (most recent call last):
  File "model.py", line 3, in forward
"""


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("one sentence", "one sentence"),
        ("first\nsecond", "first"),
        ("", "an exception without a message"),
        (f"{INTERPRETER}RuntimeError: shapes differ (1x5 and 4x3)\n", "shapes differ (1x5 and 4x3)"),
        (f"{INTERPRETER}builtins.ValueError: no\n", "no"),
        (f"{INTERPRETER}RuntimeError: \n", "RuntimeError:"),
        (INTERPRETER, "The following operation failed in the TorchScript interpreter."),
    ],
)
def test_of_an_exception_the_decisive_sentence_is_shown(message: str, sentence: str) -> None:
    assert decisive_sentence(message) == sentence


@pytest.mark.parametrize("stage", ["load", "describe", "input", "forward"])
def test_every_stage_has_its_error(stage: str, torch_root: Path) -> None:
    error = exception(stage, "no\nmore", inspect(torch_root, found_by="test"))
    assert error.code == "forward-failed"
    assert error.exit_code == 1
    assert "no" in error.message


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "Found no NVIDIA driver on your system. Please check that you have",
            "but there is no NVIDIA driver.",
        ),
        (
            "The NVIDIA driver on your system is too old (found version 12020). Please update your GPU driver",
            "it supports CUDA 12.2 and older.",
        ),
        ("No CUDA GPUs are available", "reports no GPU."),
        (
            "Could not run 'aten::empty_strided' with arguments from the 'CUDA' backend. This could be because",
            "but libtorch_cuda was not loaded.",
        ),
        (
            "PyTorch is not linked with support for cuda devices",
            "but libtorch_cuda was not loaded.",
        ),
        (
            "Cannot initialize CUDA without ATen_cuda library. PyTorch splits",
            "but libtorch_cuda was not loaded.",
        ),
        ("CUDA error: out of memory", "CUDA error: out of memory"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_one_sentence(said: str, told: str, torch_root: Path) -> None:
    libtorch = inspect(torch_root, found_by="test")._replace(accelerator="cuda", accelerator_version="13.2")
    error = exception("device", f"{said}\nException raised from", libtorch)
    assert (error.code, error.exit_code) == ("device-unusable", 1)
    assert "a CUDA 13.2 build" in error.message
    assert error.message.endswith(told)
    assert error.hint


def test_a_model_in_a_format_that_was_given_up_is_told(torch_root: Path) -> None:
    libtorch = inspect(torch_root, found_by="test")
    error = exception("load", "Legacy model format is not supported on mobile.", libtorch)
    assert "format of torch 1.1 and 1.2" in error.message
    assert "save it again" in error.hint


@pytest.mark.compile
@pytest.mark.parametrize(("most", "left", "calls"), [("1e9", "1e9", 3), ("0", "1e9", 1), ("1e9", "0", 1)])
def test_the_loader_stops_calling_when_its_time_is_up(
    torch_root: Path, most: str, left: str, calls: int
) -> None:
    libtorch = inspect(torch_root, found_by="test")
    with Session(build_loader(*link_plan(libtorch, VerifyOptions())).path) as session:
        session.ask(f"load cpu {encoded(str(TINY))}")
        session.ask("forward 1 tensor float32 1x4 ones")
        event = session.ask(f"again 3 {most} {left} 1 tensor float32 1x4 ones")
    assert len(event["forward_ms"]) == calls
