"""What the tests of the languages' tools share: something to link, built once a session."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.conftest import made_once
from torchlink.capi_plan import CApiPlan, c_api_plan
from torchlink.emit import cxx, emit
from torchlink.libtorch.inspect import inspect
from torchlink.plan import LinkPlan, PlanOptions, make_plan
from torchlink.toolchain.compiler import find_compiler

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch

# The C API's first function, from libtorch itself: an exported function of libtorch, by a name that says the C++ ABI.
SHIM = """
#include <c10/macros/Macros.h>
#include <cstdint>
#include <stdexcept>
#include <string>
namespace at { C10_API std::string show_config(); }
extern "C" int32_t tm_version() {
  try {
    throw std::runtime_error(at::show_config().substr(0, 18));
  } catch (const std::exception &caught) {
    return caught.what() == std::string("PyTorch built with");
  }
}
"""
CUDA = """
#include <unistd.h>
__attribute__((constructor)) static void registers() { if (write(1, "cuda\\n", 5) < 0) _exit(1); }
"""


class Use(NamedTuple):
    """What a program links: libtorch with a required library, or the C API."""

    plan: LinkPlan | CApiPlan
    objects: tuple[Path, ...]  # to link too
    source: Path  # a C++ or C file with the same, for tools that compile
    says: list[str]  # what the program prints, sorted

    def text(self, target: str, phase: str = "both") -> str:
        return emit(self.plan, target, phase)


def run(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a tool; fail the test with what it printed."""
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def cuda_libtorch(torch_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Libtorch:
    """The real libtorch next to a libtorch_cuda that only prints that it was loaded."""
    libtorch = inspect(torch_root, found_by="test")

    def make(directory: Path) -> None:
        (directory / "lib").mkdir()
        (directory / "include").symlink_to(libtorch.root / "include")
        for name in libtorch.libraries:
            (directory / "lib" / name).symlink_to(libtorch.library_dir / name)
        (directory / "cuda.cpp").write_text(CUDA)
        (directory / "shim.cpp").write_text(SHIM)
        library = directory / "lib/libtorch_cuda.so"
        run("c++", "-shared", "-fPIC", "-Wl,-soname,libtorch_cuda.so", directory / "cuda.cpp", "-o", library)
        compiled = cxx.flags(make_plan(libtorch), "compile")
        run("c++", "-c", "-fPIC", directory / "shim.cpp", "-o", directory / "shim.o", *compiled)

    directory = made_once(tmp_path_factory, "cuda-libtorch", make)
    return libtorch._replace(root=directory, libraries=(*libtorch.libraries, "libtorch_cuda.so"))


@pytest.fixture(scope="session")
def c_api(torch_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that `torchlink capi` wrote."""

    def make(directory: Path) -> None:
        run(sys.executable, "-m", "torchlink", "capi", directory, "--libtorch", torch_root)

    return made_once(tmp_path_factory, "c-api", make)


class Uses(NamedTuple):
    """Both things to link, reached through directories of any names."""

    libtorch: Libtorch
    c_api: Path

    def torch(self, place: Path, *names: str, options: PlanOptions | None = None) -> Use:
        root = reach(self.libtorch.root, place, *names)
        include_dirs = (root / "include", root / "include/torch/csrc/api/include")
        reached = self.libtorch._replace(root=root, library_dir=root / "lib", include_dirs=include_dirs)
        made = self.libtorch.root
        plan = make_plan(reached, options or PlanOptions(), find_compiler())
        return Use(plan, (made / "shim.o",), made / "shim.cpp", ["1", "cuda"])

    def c(self, place: Path, *names: str, options: PlanOptions | None = None) -> Use:
        source = place / "shim.c"
        source.write_text("#include <torchmodel.h>\nint shim(void) { return tm_version() * TM_VERSION; }\n")
        return Use(c_api_plan(reach(self.c_api, place, *names), options or PlanOptions()), (), source, ["1"])


def reach(target: Path, place: Path, *names: str) -> Path:
    link = place.joinpath("through", *names, "x")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    return link


@pytest.fixture(scope="session")
def uses(cuda_libtorch: Libtorch, c_api: Path) -> Uses:
    return Uses(cuda_libtorch, c_api)
