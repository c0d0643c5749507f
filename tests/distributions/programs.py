"""Small programs that are built with the flags that torchlink prints."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING

from tests.conftest import run_clean
from torchlink.emit import emit
from torchlink.emit.cxx import flags
from torchlink.libtorch.inspect import inspect
from torchlink.plan import PlanOptions, make_plan
from torchlink.toolchain.compiler import find_compiler

if TYPE_CHECKING:
    from pathlib import Path

# Prints whether libtorch_cuda is loaded, which needs no GPU.
HAS_CUDA = """\
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/Version.h>
#include <iostream>

int main() {
  // A std::string out of libtorch_cpu: with the wrong C++ ABI this does not link.
  std::cout << (at::show_config().empty() ? "nothing" : "cuda ") << at::detail::getCUDAHooks().hasCUDART() << std::endl;
  return 0;
}
"""
NIM_MAIN = '{.compile: "shim.cpp".}\nproc shim(): cint {.importc, cdecl.}\nquit shim()\n'


def build_cxx(root: Path, source: str, program: Path, options: PlanOptions | None = None) -> Path:
    """Build a C++ program with the flags of `flags`."""
    plan = make_plan(inspect(root, "test"), options or PlanOptions(), find_compiler())
    main = program.with_suffix(".cpp")
    main.write_text(source)
    done("c++", str(main), "-o", str(program), *flags(plan))
    return program


def build_nim(root: Path, source: str, directory: Path, options: PlanOptions | None = None) -> Path:
    """Build a Nim program whose C++ part is `source` with `nim cpp` and the nim.cfg of `flags --nim`."""
    plan = make_plan(inspect(root, "test"), options or PlanOptions(), find_compiler())
    directory.mkdir()
    (directory / "nim.cfg").write_text(emit(plan, "nim") + "\n")
    (directory / "shim.cpp").write_text(source.replace("int main()", 'extern "C" int shim()'))
    (directory / "main.nim").write_text(NIM_MAIN)
    done("nim", "cpp", "--hints:off", "--nimcache:nimcache", "main.nim", cwd=directory)
    return directory / "main"


def done(*command: str, cwd: Path | None = None, **variables: str) -> str:
    """Return the output of a command that must succeed."""
    ran = subprocess.run(
        command, cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, f"{shlex.join(command)}\n{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
    return ran.stdout


def says(program: Path) -> str:
    """Return what a program prints in an empty environment."""
    ran = run_clean(program)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()
