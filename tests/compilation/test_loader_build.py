"""Building the loader: only once, and every failure is reported with its cause."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import until
from tests.fake_libtorch import fake_libtorch
from torchlink.errors import BuildFailedError, LibtorchUnusableError
from torchlink.libtorch.facts import MissingLibrary
from torchlink.verify.verification import verify

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result

pytestmark = pytest.mark.compile

# Stands for a slow, counted compiler: real for torchlink's questions, a copy of `true` for the loader.
COUNTING = """#!/bin/sh
case "$*" in
  *loader.cpp*) echo x >> "$COUNT"; sleep 1; exec cp /bin/true loader;;
esac
exec c++ "$@"
"""
BROKEN = """#!/bin/sh
case "$*" in
  *loader.cpp*) exec c++ -include nonexistent-header.h "$@";;
esac
exec c++ "$@"
"""


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_two_processes_at_once_compile_once(tmp_path: Path, torch_root: Path) -> None:
    count = tmp_path / "count"
    environment = {**os.environ, "TORCHLINK_CACHE_DIR": str(tmp_path / "cache"), "COUNT": str(count)}
    compiler = script(tmp_path / "counting-c++", COUNTING)
    words = ("verify", "--libtorch", str(torch_root), "--compiler", str(compiler), "--json")
    command = [sys.executable, "-m", "torchlink", *words]
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    reports = [json.loads(process.communicate(timeout=60)[0]) for process in running]
    assert count.read_text() == "x\n"
    assert sorted(report["loader"]["cached"] for report in reports) == [False, True, True]


def test_a_loader_is_built_again_where_the_cache_is_cleared_meanwhile(
    tmp_path: Path, torch_root: Path
) -> None:
    count = tmp_path / "count"
    environment = {**os.environ, "TORCHLINK_CACHE_DIR": str(tmp_path / "cache"), "COUNT": str(count)}
    compiler = script(tmp_path / "counting-c++", COUNTING)
    words = ("verify", "--libtorch", str(torch_root), "--compiler", str(compiler), "--json")
    running = subprocess.Popen(
        [sys.executable, "-m", "torchlink", *words], env=environment, stdout=subprocess.PIPE, text=True
    )
    until(count.exists)
    subprocess.run(
        [sys.executable, "-m", "torchlink", "cache", "clear"], env=environment, check=True, timeout=300
    )
    report = json.loads(running.communicate(timeout=60)[0])
    assert count.read_text() == "x\nx\n"
    assert report["loader"]["cached"] is False


def test_a_killed_process_does_not_block_the_next_one(tmp_path: Path, torch_root: Path) -> None:
    count = tmp_path / "count"
    environment = {**os.environ, "TORCHLINK_CACHE_DIR": str(tmp_path / "cache"), "COUNT": str(count)}
    compiler = script(tmp_path / "counting-c++", COUNTING)
    words = ("verify", "--libtorch", str(torch_root), "--compiler", str(compiler), "--json")
    command = [sys.executable, "-m", "torchlink", *words]
    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    until(count.exists)
    first.kill()
    first.wait(60)
    second = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert json.loads(second.stdout)["loader"]["cached"] is False


def test_a_failed_build_reports_command_cause_and_log(
    torchlink: Callable[..., Result], torch_root: Path, tmp_path: Path
) -> None:
    compiler = script(tmp_path / "broken-c++", BROKEN)
    result = torchlink("verify", "--libtorch", torch_root, "--compiler", compiler, "--json")
    error = json.loads(result.out)["error"]
    assert result.code == 1
    assert error["code"] == "build-failed"
    assert "nonexistent-header.h" in error["details"][0]
    command, log = error["details"][-2:]
    assert command.startswith("command: ")
    assert str(torch_root) in command
    assert "compilation terminated" in Path(log.removeprefix("full log: ")).read_text(encoding="utf-8")


def test_no_compiler_is_an_error_with_a_hint(
    torchlink: Callable[..., Result], torch_root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = torchlink("verify", "--libtorch", torch_root)
    assert result.code == 2
    assert "No C++ compiler" in result.err
    assert "g++" in result.err


@pytest.mark.parametrize(
    ("via", "program"),
    [
        pytest.param("cmake", "cmake", marks=pytest.mark.cmake),
        pytest.param("nim", "nim", marks=pytest.mark.nim),
    ],
)
def test_the_targets_own_project_builds_the_loader_and_it_is_cached(
    torchlink: Callable[..., Result], torch_root: Path, via: str, program: str
) -> None:
    for cached in (None, True):
        result = torchlink("verify", "--libtorch", torch_root, "--via", via, "--json")
        report = json.loads(result.out)
        assert result.code == 0, result
        assert report["ok"]
        assert report["models"][0]["outputs"][0]["values"] == [2.5, -0.75]
        assert program in report["loader"]["command"]
        assert cached is None or report["loader"]["cached"]


def test_a_missing_build_tool_is_reported(
    torchlink: Callable[..., Result], torch_root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import shutil

    compiler = shutil.which("c++")
    assert compiler
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", compiler)
    result = torchlink("verify", "--libtorch", torch_root, "--via", "nim")
    assert result.code == 2
    assert "nim: not found on PATH" in result.err


def test_a_libtorch_too_old_for_the_loader_is_reported(tmp_path: Path) -> None:
    with pytest.raises(LibtorchUnusableError, match=r"needs libtorch 1\.1 or newer, and .* is 1\.0\.1"):
        verify((), fake_libtorch(tmp_path / "torch", version="1.0.1"))


def test_headers_missing_in_debian_come_with_its_packages(tmp_path: Path) -> None:
    library_dir = tmp_path / "usr/lib/x86_64-linux-gnu"
    libtorch = fake_libtorch(tmp_path / "usr", layout="system", library_dir=library_dir)
    header = libtorch.include_dirs[0] / "ATen/core/class_type.h"
    header.parent.mkdir(parents=True)
    header.touch()
    tensor = libtorch.include_dirs[0] / "ATen/core/Tensor.h"
    tensor.write_text("#include <gflags/no_such_gflags.h>\n")
    with pytest.raises(BuildFailedError, match="could not be built") as caught:
        verify((), libtorch)
    assert "no_such_gflags.h" in "".join(caught.value.details)
    assert "libgflags-dev" in caught.value.hint


def test_a_failed_build_names_the_packages_that_libtorch_lacks(tmp_path: Path) -> None:
    lacks = (MissingLibrary("libcupti.so.13", "libtorch_cpu.so", "nvidia-cuda-cupti"),)
    libtorch = fake_libtorch(tmp_path / "site-packages/torch", missing_libraries=lacks)
    header = libtorch.include_dirs[0] / "ATen/core/class_type.h"
    header.parent.mkdir(parents=True)
    header.touch()
    with pytest.raises(BuildFailedError) as caught:
        verify((), libtorch)
    assert "--target" in caught.value.hint
    assert " nvidia-cuda-cupti && " in caught.value.hint
    assert caught.value.hint.endswith(f" {tmp_path}/site-packages/)")
