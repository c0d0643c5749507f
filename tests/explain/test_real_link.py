"""Failures of compilers and linkers, provoked with the real tools: their cause is named, and its fix is followed."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.conftest import made_once, unmet
from tests.explain.real import LIBRARY, PROGRAM, USER, Place, causes_in, fix, linkers

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.compile
PYTHON = """
namespace at { class TensorBase; }
struct _object* THPVariable_Wrap(const at::TensorBase&);
int main(int n, char**) { return n > 9 && THPVariable_Wrap(*(at::TensorBase*)nullptr) != nullptr; }
"""


@pytest.fixture
def place(tmp_path: Path, torch_root: Path) -> Place:
    return Place(tmp_path, torch_root)


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Object files, compiled once: of the program with either ABI, and of one that uses libtorch_python."""

    def make(directory: Path) -> None:
        for name, source, abi in (("new", PROGRAM, 1), ("old", PROGRAM, 0), ("python", PYTHON, 1)):
            (directory / f"{name}.cpp").write_text(source)
            subprocess.run(
                ["g++", f"-D_GLIBCXX_USE_CXX11_ABI={abi}", "-c", f"{name}.cpp", "-o", f"{name}.o"],
                cwd=directory,
                check=True,
                timeout=300,
            )

    return made_once(tmp_path_factory, "explain-objects", make)


@pytest.mark.parametrize("linker", ["bfd", "gold", "lld", "mold"])
@pytest.mark.parametrize(
    ("name", "flags", "cause"),
    [
        ("old", "-L{lib} -ltorch -ltorch_cpu -lc10", "abi-mismatch-link"),
        ("new", "", "torch-libs-not-linked"),
        ("new", "-L{lib} -lc10", "torch-libs-not-linked"),
        ("new", "-L{lib} -ltorch", "torch-libs-not-linked"),
        ("new", "-ltorch -ltorch_cpu -lc10", "lib-not-found-link"),
        ("new", "-L{lib} -lcaffe2 -ltorch_cpu -lc10", "lib-removed"),
        ("new", "-L{lib} -ltorch_cpu -lc10 -ltorchvision", ""),
        ("python", "-L{lib} -ltorch -ltorch_cpu -lc10", "torch-python-not-linked"),
    ],
)
def test_what_each_linker_prints(
    place: Place, objects: Path, linker: str, name: str, flags: str, cause: str
) -> None:
    command = linkers().get(linker) or unmet(f"the linker {linker}")
    done = place.run(f"{command} {objects}/{name}.o -o app {flags.format(lib=place.lib)}")
    assert done.returncode != 0
    assert causes_in(done.stdout) == ([cause] if cause else [])


@pytest.mark.parametrize("linker", ["bfd", "gold", "lld", "mold"])
@pytest.mark.parametrize("named", ["-ltorch", "libtorch/lib/libtorch.so"])
def test_another_architecture(place: Place, objects: Path, linker: str, named: str) -> None:
    command = linkers().get(linker) or unmet(f"the linker {linker}")
    other = shutil.which("aarch64-linux-gnu-gcc") or unmet("aarch64-linux-gnu-gcc")
    (place.directory / "libtorch" / "lib").mkdir(parents=True)
    place.write("torch.c", "int torch(void) { return 1; }\n")
    place.works(f"{other} -shared -fPIC torch.c -o libtorch/lib/libtorch.so")
    done = place.run(f"{command} {objects}/new.o -o app -L{place.directory}/libtorch/lib {named}")
    assert done.returncode != 0
    assert causes_in(done.stdout) == ["wrong-arch"]


@pytest.mark.parametrize(
    ("source", "flags"),
    [
        ('#include <string>\nint f(const std::string&); int main() { return f(""); }', ""),
        ("#include <nothing/here.h>\n", ""),
        ("int main() { return 0; }", "-lnothing_here"),
        ("static_assert(false);", ""),
    ],
)
def test_failures_of_something_else(place: Place, source: str, flags: str) -> None:
    place.write("main.cpp", source)
    done = place.run(f"g++ main.cpp -o app {flags}")
    assert done.returncode != 0
    assert causes_in(done.stdout) == []


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_missing_headers(place: Place, compiler: str) -> None:
    if shutil.which(compiler) is None:
        unmet(compiler)
    place.write("main.cpp", "#include <torch/version.h>\nint version = TORCH_VERSION_MAJOR;\n")
    found = place.cause_of(f"{compiler} -c main.cpp")
    assert (found.cause.id, found.certainty) == ("headers-not-found", "certain")
    place.works(fix(found, "torchlink c++"))


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_one_of_the_include_directories(place: Place, compiler: str) -> None:
    if shutil.which(compiler) is None:
        unmet(compiler)
    place.write("main.cpp", "#include <torch/csrc/api/include/torch/torch.h>\n")
    found = place.cause_of(f"{compiler} -std=c++20 -I{place.include} -c main.cpp")
    assert found.cause.id == "api-include-missing"
    place.write("main.cpp", "#include <torch/version.h>\nint version = TORCH_VERSION_MAJOR;\n")
    place.works(fix(found, "torchlink c++"))


def test_headers_of_python(place: Place) -> None:
    place.write("module.cpp", "#include <torch/csrc/python_headers.h>\nint size = sizeof(PyObject);\n")
    found = place.cause_of(f"g++ -std=c++20 -I{place.include} -c module.cpp")
    assert found.cause.id == "python-headers-missing"
    place.works(fix(found, "torchlink c++ --python-extension"))


def test_headers_of_cuda(place: Place) -> None:
    place.write("main.cpp", "#include <ATen/cuda/CUDAContextLight.h>\n")
    found = place.cause_of(f"g++ -std=c++20 -I{place.include} -E main.cpp")
    assert (found.cause.id, found.certainty) == ("cuda-headers-missing", "certain")


def test_the_standard(place: Place) -> None:
    place.write("main.cpp", "#include <ATen/ATen.h>\n")
    found = place.cause_of(f"g++ -std=c++14 -fmax-errors=2 -I{place.include} -fsyntax-only main.cpp")
    assert (found.cause.id, found.certainty) == ("std-too-low", "certain")
    place.works(fix(found, "torchlink c++"))


@pytest.mark.parametrize(
    ("build", "cause"),
    [
        ("-D_GLIBCXX_USE_CXX11_ABI=0 main.cpp -L{lib} -ltorch -ltorch_cpu -lc10", "abi-mismatch-link"),
        ("main.cpp -ltorch_cpu -lc10", "lib-not-found-link"),
        ("-v main.cpp -L{lib} -ltorch_cpu -lc10 -lcublas", "cuda-lib-not-found-link"),
        ("-Wl,--as-needed -L{lib} -ltorch_cpu -lc10 main.cpp", "torch-libs-not-linked"),
    ],
)
def test_a_fix_that_is_followed(place: Place, build: str, cause: str) -> None:
    place.write("main.cpp", PROGRAM)
    place.works("g++ -c main.cpp -o main.o")
    found = place.cause_of(f"g++ -o app {build.format(lib=place.lib)}")
    assert found.cause.id == cause
    place.works(fix(found, "torchlink c++"))
    place.works("./app")


def test_a_library_of_the_past(place: Place) -> None:
    place.write("main.cpp", PROGRAM)
    found = place.cause_of(f"g++ main.cpp -o app -L{place.lib} -ltorch_cuda_cu -ltorch_cpu -lc10")
    assert (found.cause.id, found.certainty) == ("lib-removed", "certain")
    place.works(f"eval g++ main.cpp -o app $({fix(found, 'torchlink flags --link')})")
    place.works("./app")


@pytest.mark.parametrize("beginning", ["torchlink c++", "g++ main.cpp"])
def test_a_library_that_needs_libtorch(place: Place, beginning: str) -> None:
    place.write("detect.cpp", LIBRARY)
    place.write("main.cpp", USER)
    place.works(f"g++ -shared -fPIC detect.cpp -o libdetect.so -L{place.lib} -ltorch_cpu -lc10")
    command = "g++ main.cpp -o app -L. -ldetect -fuse-ld=bfd"
    found = place.cause_of(command)
    assert (found.cause.id, found.certainty) == ("torch-deps-not-found-link", "certain")
    place.works(fix(found, beginning).replace("<lib>", str(place.lib)))
    if beginning.startswith("torchlink"):
        place.works(command)
    place.works("LD_LIBRARY_PATH=. ./app")


def test_libtorch_python(place: Place) -> None:
    place.write("main.cpp", PYTHON)
    found = place.cause_of(f"g++ main.cpp -o app -L{place.lib} -ltorch -ltorch_cpu -lc10")
    assert (found.cause.id, found.certainty) == ("torch-python-not-linked", "certain")
    place.works(fix(found, "eval c++"))
    place.works("./app")
