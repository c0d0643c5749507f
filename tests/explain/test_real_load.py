"""Failures of the live dynamic loader and of Python's import: the cause is named, and its fix makes the program run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.explain.real import CALLS, LIBRARY, PROGRAM, USER, Place, causes_in, fix

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.compile


@pytest.fixture
def place(tmp_path: Path, torch_root: Path) -> Place:
    return Place(tmp_path, torch_root)


def stub(place: Place, name: str, version: str) -> None:
    """Make a library of the system that has one old symbol version only."""
    (place.directory / "old").mkdir()
    place.write("stub.c", "int stub(void) { return 0; }\n")
    place.write("stub.map", f"{version} {{ global: *; }};\n")
    place.works(f"gcc -shared -fPIC stub.c -Wl,--version-script=stub.map -Wl,-soname,{name} -o old/{name}")


def test_no_rpath(place: Place) -> None:
    place.write("main.cpp", PROGRAM)
    place.works(f"g++ main.cpp -o app -L{place.lib} -ltorch_cpu -lc10")
    found = place.cause_of("./app")
    assert (found.cause.id, found.certainty) == ("torch-lib-not-found-runtime", "certain")
    place.works(fix(found, "torchlink run"))
    place.works(fix(found, "export LD_LIBRARY_PATH").replace("<lib>", str(place.lib)) + "; ./app")
    place.works(fix(found, "torchlink c++"))
    place.works("./app")


def test_no_rpath_in_ldd(place: Place) -> None:
    place.write("main.cpp", PROGRAM)
    place.works(f"g++ main.cpp -o app -L{place.lib} -ltorch_cpu -lc10")
    assert place.cause_of("ldd ./app; false").cause.id == "torch-lib-not-found-runtime"


def test_a_library_of_cuda(place: Place) -> None:
    place.write("stub.c", "int stub(void) { return 0; }\n")
    place.write("main.c", "int stub(void); int main(void) { return stub(); }\n")
    place.works("gcc -shared -fPIC stub.c -Wl,-soname,libcudart.so.12 -o libcudart.so")
    place.works("gcc main.c -o infer -L. -lcudart")
    assert place.cause_of("./infer").cause.id == "cuda-libs-not-found-runtime"


@pytest.mark.parametrize("start", ["LD_BIND_NOW=1 ./app", "./app 1 2 3 4 5 6 7 8 9"])
def test_the_other_abi(place: Place, start: str) -> None:
    place.write("ops.cpp", LIBRARY)
    place.write("main.cpp", USER)
    place.works("g++ -D_GLIBCXX_USE_CXX11_ABI=0 -shared -fPIC ops.cpp -o libops.so")
    place.works(
        f"g++ main.cpp -o app -L. -lops -Wl,--no-as-needed -L{place.lib} -ltorch_cpu -lc10"
        f" -Wl,-rpath,.:{place.lib} -Wl,--unresolved-symbols=ignore-all"
    )
    found = place.cause_of(start)
    assert (found.cause.id, found.certainty) == ("abi-mismatch-load", "certain")
    place.works(fix(found, "torchlink c++ -shared"))
    place.works("LD_BIND_NOW=1 ./app")


def test_a_function_of_another_version(place: Place) -> None:
    place.write(
        "ops.cpp", "namespace at { int get_fibers(int); }\nint detect(int n) { return at::get_fibers(n); }\n"
    )
    place.works("g++ -shared -fPIC ops.cpp -o libops.so")
    found = place.cause_of(
        f'{sys.executable} -c \'import ctypes; ctypes.CDLL("{place.lib}/libc10.so"); ctypes.CDLL("./libops.so", 2)\''
    )
    assert (found.cause.id, found.certainty) == ("version-mismatch", "likely")


@pytest.mark.parametrize(
    ("library", "version", "cause"),
    [
        ("libgomp.so.1", "GOMP_1.0", "gomp-version-clash"),
        ("libm.so.6", "GLIBC_2.2.5", "glibc-too-old"),
        ("libstdc++.so.6", "GLIBCXX_3.4", "glibcxx-too-old"),
    ],
)
def test_a_library_of_the_system_that_is_too_old(
    place: Place, library: str, version: str, cause: str
) -> None:
    place.write("main.cpp", PROGRAM)
    place.works(f"g++ main.cpp -o app -L{place.lib} -Wl,-rpath,{place.lib} -ltorch_cpu -lc10")
    stub(place, library, version)
    variable = "LD_PRELOAD=$PWD/old/libgomp.so.1" if "gomp" in library else "LD_LIBRARY_PATH=$PWD/old"
    found = place.cause_of(f"{variable} ./app")
    assert (found.cause.id, found.certainty) == (cause, "certain")
    place.works("./app")


def test_the_name_of_a_module(place: Place) -> None:
    place.write(
        "module.cpp",
        "#include <Python.h>\n#define CONCAT(a, b) a##b\n#define INIT(name) CONCAT(PyInit_, name)\n"
        "#define QUOTE(a) #a\n#define TEXT(a) QUOTE(a)\n"
        "static PyModuleDef definition = {PyModuleDef_HEAD_INIT, TEXT(TORCH_EXTENSION_NAME)};\n"
        "PyMODINIT_FUNC INIT(TORCH_EXTENSION_NAME)() { return PyModule_Create(&definition); }\n",
    )
    build = "g++ -shared -fPIC $(python3-config --includes) module.cpp -o module$(python3-config --extension-suffix)"
    place.works(f"{build} -DTORCH_EXTENSION_NAME=other")
    found = place.cause_of("python3 -c 'import module'")
    assert found.cause.id == "module-name-mismatch"
    define = next(word for word in fix(found, "g++").split() if word.startswith("-D"))
    place.works(f"{build} {define}")
    place.works("python3 -c 'import module'")


def test_a_module_without_libtorch_python(place: Place) -> None:
    place.write(
        "module.cpp",
        CALLS
        + "namespace at { class TensorBase; }\nstruct _object* THPVariable_Wrap(const at::TensorBase&);\n"
        'extern "C" struct _object* PyInit_module() { return THPVariable_Wrap(*(at::TensorBase*)nullptr); }\n',
    )
    place.works(
        f"g++ -shared -fPIC module.cpp -o module.so -L{place.lib} -Wl,-rpath,{place.lib} -ltorch_cpu -lc10"
    )
    found = place.cause_of(f"{sys.executable} -c 'import module'")
    assert (found.cause.id, found.certainty) == ("torch-python-not-linked", "certain")


@pytest.mark.parametrize("name", ["libfoo.so", "libtorchtrt.so.2"])
def test_a_missing_library_of_something_else(place: Place, name: str) -> None:
    place.write("stub.c", "int stub(void) { return 0; }\n")
    place.write("main.c", "int stub(void); int main(void) { return stub(); }\n")
    place.works(f"gcc -shared -fPIC stub.c -Wl,-soname,{name} -o libstub.so && gcc main.c -o app -L. -lstub")
    assert causes_in(place.run("./app").stdout) == []
