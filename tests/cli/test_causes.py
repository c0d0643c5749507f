"""Commands that run other tools print the cause of a failure behind their error; exit codes stay the tool's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

OTHER_SIGNATURE = """
namespace c10 { namespace detail { void torchCheckFail(const char*, short); } }
int main() { c10::detail::torchCheckFail("a", 1); }
"""


def test_the_compiler(tmp_path: Path, torch_root: Path, torchlink: Callable[..., Result]) -> None:
    source = tmp_path / "main.cpp"
    source.write_text(OTHER_SIGNATURE)
    done = torchlink("c++", "--libtorch", torch_root, source, "-o", tmp_path / "app")
    assert done.code == 1
    assert "undefined reference to `c10::detail::torchCheckFail(char const*, short)'" in done.err
    assert "torchlink: cause: " in done.err
    assert "[version-mismatch, certain]" in done.err
    assert "torchlink docs causes/version-mismatch" in done.err
    assert "-> " in done.err
    assert "torchlink c++" not in done.err, "the command that has failed is no fix"


def test_a_header_that_libtorch_does_not_have(
    tmp_path: Path, torch_root: Path, torchlink: Callable[..., Result]
) -> None:
    source = tmp_path / "main.cpp"
    source.write_text("#include <caffe2/core/init.h>\n")
    done = torchlink("c++", "--libtorch", torch_root, "-c", source, "-o", tmp_path / "app.o")
    assert done.code == 1
    assert "[api-removed, certain]" in done.err
    assert "has no caffe2/core/init.h." in done.err
    assert "torchlink c++" not in done.err


def test_a_compiler_error_of_the_users_own_has_no_cause(
    tmp_path: Path, torch_root: Path, torchlink: Callable[..., Result]
) -> None:
    source = tmp_path / "main.cpp"
    source.write_text("int main() { return torchlight; }\n")
    done = torchlink("c++", "--libtorch", torch_root, "-c", source, "-o", tmp_path / "app.o")
    assert done.code == 1
    assert "torchlink: cause: " not in done.err


@pytest.mark.cmake
def test_cmake(tmp_path: Path, torch_root: Path, torchlink: Callable[..., Result]) -> None:
    (tmp_path / "CMakeLists.txt").write_text("cmake_minimum_required(VERSION 99.0)\nproject(app CXX)\n")
    done = torchlink(
        "cmake", "configure", "--libtorch", torch_root, "--", "-S", tmp_path, "-B", tmp_path / "build"
    )
    assert done.code == 1
    assert "CMake 99.0 or higher is required" in done.err
    assert "torchlink: cause: " in done.err
    assert "[cmake-too-old, " in done.err


def test_the_error_of_a_failed_build_names_the_cause(
    tmp_path: Path, torch_root: Path, torchlink: Callable[..., Result]
) -> None:
    compiler = tmp_path / "g++"
    # Behaves like g++ until it compiles the loader.
    compiler.write_text(
        '#!/bin/sh\ncase "$*" in *loader*) exec /usr/bin/g++ "$@" -std=c++11 -fmax-errors=3 ;; esac\n'
        'exec /usr/bin/g++ "$@"\n'
    )
    compiler.chmod(0o755)
    done = torchlink("verify", "--libtorch", torch_root, "--compiler", compiler, "--json")
    error = json.loads(done.out)["error"]
    assert error["code"] == "build-failed"
    assert error["cause"] == "std-too-low"
    done = torchlink("verify", "--libtorch", torch_root, "--compiler", compiler)
    assert done.code == 1
    assert "[std-too-low, " in done.err
    assert "C++17" in done.err


LINKER = """/usr/bin/ld: main.o: in function `main':
main.cpp:(.text+0x1f): undefined reference to `c10::detail::torchCheckFail(char const*, short)'
collect2: error: ld returned 1 exit status
"""


def test_lint_hands_the_text_of_a_linker_to_explain(
    tmp_path: Path, torchlink: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "build.txt"
    log.write_text(LINKER)
    done = torchlink("lint", log)
    assert done.code == 2
    assert "is not the output of ldd" in done.err
    assert f"`torchlink explain {log}` names the cause" in done.err
    assert "torchlink: cause: " in done.err
    cause = json.loads(torchlink("lint", "--json", log).out)["error"]["cause"]
    assert f"[{cause}, " in done.err
    with log.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert f"[{cause}, " in torchlink("lint", "-").err


def test_lint_keeps_its_error_for_other_texts(tmp_path: Path, torchlink: Callable[..., Result]) -> None:
    log = tmp_path / "notes.txt"
    log.write_text("Buy milk.\n")
    done = torchlink("lint", log)
    assert done.code == 2
    assert "torchlink explain" not in done.err


def test_explain_hands_the_output_of_ldd_to_lint(tmp_path: Path, torchlink: Callable[..., Result]) -> None:
    log = tmp_path / "ldd"
    log.write_text(
        "\tlinux-vdso.so.1 (0x00007ffd1a7f5000)\n\tlibmine.so => not found\n\tlibother.so => not found\n"
    )
    done = torchlink("explain", log)
    assert done.code == 1
    assert "`torchlink lint -` reads" in done.out
    assert "library-not-found" in done.out
    log.write_text("building\n" * 9 + log.read_text())
    assert "torchlink lint -` reads" not in torchlink("explain", log).out


def test_what_a_program_prints_passes_through(tmp_path: Path) -> None:
    program = (
        "from torchlink.process import copied; import sys; "
        "code, kept = copied([sys.executable, '-c', \"import os; os.write(1, b'out\\\\n'); os.write(2, b'err\\\\n'); "
        'print(os.isatty(1)); raise SystemExit(3)"]); '
        "open('kept', 'wb').write(kept); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\nFalse\n", b"err\n")
    assert sorted((tmp_path / "kept").read_bytes().split()) == [b"False", b"err", b"out"]


def test_streams_to_one_place_keep_their_order(tmp_path: Path) -> None:
    program = (
        "from torchlink.process import copied; import sys; "
        "sys.exit(copied(['sh', '-c', 'for n in 1 2 3 4 5; do echo out $n; echo err $n >&2; done'])[0])"
    )
    with (tmp_path / "log").open("wb") as log:
        subprocess.run([sys.executable, "-c", program], stdout=log, stderr=log, check=True, timeout=60)
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines == [f"{kind} {number}" for number in range(1, 6) for kind in ("out", "err")]


def test_a_terminal_stays_one(tmp_path: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    program = (
        "from torchlink.process import copied; import sys; "
        "copied([sys.executable, '-c', 'import os; print(os.isatty(1), os.isatty(2))'], streams=(1, 2))"
    )
    subprocess.run([sys.executable, "-c", program], stdout=theirs, stderr=theirs, check=True, timeout=60)
    os.close(theirs)
    assert os.read(ours, 100) == b"True True\r\n"
    os.close(ours)


def test_a_server_that_keeps_the_stream_open_does_not_hold_the_command_up(tmp_path: Path) -> None:
    program = (
        "from torchlink.process import copied; import sys; "
        "sys.exit(copied(['sh', '-c', 'sleep 50 & echo done; exit 4'], streams=(1,))[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, check=False, timeout=40
    )
    assert (done.returncode, done.stdout) == (4, b"done\n")
