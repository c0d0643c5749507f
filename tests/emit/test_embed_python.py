"""`torchlink flags --embed-python`: a program with one interpreter, linked to a shared or a static libpython."""

from __future__ import annotations

import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import run_clean, unmet

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result

# Imports an extension module, which finds Python in the program or in libpython.
PROGRAM = r"""
#include <Python.h>
int main(int, char** argv) {
  PyConfig config;
  PyConfig_InitPythonConfig(&config);
  PyConfig_SetBytesString(&config, &config.executable, argv[1]);
  PyStatus status = Py_InitializeFromConfig(&config);
  if (PyStatus_Exception(status)) return 2;
  return PyRun_SimpleString("import _ctypes, sys; print(sys.version_info[:2], flush=True)") ? 1 : 0;
}
"""
# An interpreter as a static build describes itself.
STATIC = """#!/bin/sh
exec {python} -c '
import sys, sysconfig
own = sysconfig.get_config_var
hidden = {hidden}
sysconfig.get_config_var = lambda name: hidden[name] if name in hidden else own(name)
sys.base_prefix = "/nonexistent"
exec(sys.argv[-1])
' "$@"
"""
HIDDEN = {"INSTSONAME": "libpython.a", "LIBDIR": "/nonexistent", "MULTIARCH": "nowhere"}
ARCHIVE = Path(sysconfig.get_config_var("LIBPL") or "", sysconfig.get_config_var("LIBRARY") or "")


def static_python(directory: Path, **hidden: str) -> Path:
    python = directory / "static python"
    described = repr({**HIDDEN, **hidden}).replace("'", '"')
    python.write_text(STATIC.format(python=sys.executable, hidden=described))
    python.chmod(0o755)
    return python


def built(directory: Path, flags: str) -> Path:
    source, program = directory / "main.cpp", directory / "main"
    source.write_text(PROGRAM)
    command = ["c++", str(source), "-o", str(program), *shlex.split(flags)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


@pytest.mark.compile
def test_a_program_with_the_shared_libpython_runs(
    torch_root: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    done = torchlink("flags", "--embed-python", sys.executable, "--libtorch", torch_root)
    assert done.code == 0, done.err
    flags = shlex.split(done.out)
    assert "-rdynamic" in flags
    assert "-ltorch_python" in flags
    assert any("libpython3" in flag and flag.startswith("/") for flag in flags)
    ran = run_clean(built(tmp_path, done.out), sys.executable)
    assert ran.stdout.strip() == str(sys.version_info[:2]), ran.stderr


@pytest.mark.compile
def test_a_static_libpython_is_linked_whole(
    torch_root: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    if not ARCHIVE.is_file():
        unmet("a Python with libpython.a")
    done = torchlink("flags", "--embed-python", static_python(tmp_path), "--libtorch", torch_root)
    assert done.code == 0, done.err
    assert f"--whole-archive,{ARCHIVE}" in done.out
    ran = run_clean(built(tmp_path, done.out), sys.executable)
    assert ran.stdout.strip() == str(sys.version_info[:2]), ran.stderr


def test_what_is_missing_is_named(torch_root: Path, tmp_path: Path, torchlink: Callable[..., Result]) -> None:
    none = static_python(tmp_path, LIBRARY="")
    done = torchlink("flags", "--embed-python", none, "--libtorch", torch_root)
    assert done.code == 2
    assert "has no libpython" in done.err
    assert f"libpython3.{sys.version_info[1]}" in done.err
    assert torchlink("flags", sys.executable, "--libtorch", torch_root).code == 2
    assert "--embed-python" not in torchlink("flags", "--libtorch", torch_root).out
