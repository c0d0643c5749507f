"""`flags --python-extension`: modules built with each target's flags are imported, and link what they use."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cmake.test_python_module import MODULE, dynamic, imported
from tests.cmake.toy import build_toy
from tests.conftest import program
from torchlink.emit import emit
from torchlink.emit.cxx import flags, response_file
from torchlink.errors import LibtorchUnusableError, TorchlinkError, UsageError
from torchlink.plan import PlanOptions, make_plan
from torchlink.toolchain.compiler import find_compiler

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result
    from torchlink.libtorch.facts import Libtorch

pytestmark = pytest.mark.compile
EXTENSION = PlanOptions(python_extension=True, python=sys.executable)
DEFINED = ["-DMODULE=module", '-DNAME="module"']
TENSORS = MODULE + "int torch_python_value();\nint other = torch_python_value();\n"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Libtorch:
    """A CUDA libtorch in a directory with a space and a quote."""
    return build_toy(tmp_path_factory.mktemp("it's odd") / "site-packages" / "torch", companion_dirs=())


def own(file: Path) -> set[str]:
    return {name for name in dynamic(file).needed if "torch" in name or "c10" in name or "python" in name}


@pytest.mark.parametrize(
    ("tensors", "source", "expected"),
    [
        (False, MODULE, {"libtorch_cpu.so"}),
        (True, MODULE, {"libtorch_cpu.so"}),
        (True, TENSORS, {"libtorch_cpu.so", "libtorch_python.so"}),
    ],
)
def test_a_module_links_what_it_uses_and_no_libpython(
    toy: Libtorch, tmp_path: Path, *, tensors: bool, source: str, expected: set[str]
) -> None:
    (tmp_path / "module.cpp").write_text(source)
    plan = make_plan(toy, EXTENSION._replace(tensors=tensors, rpath="origin=torch/lib"), find_compiler(None))
    subprocess.run(
        ["c++", *DEFINED, "module.cpp", "-o", toy.root.parent / "module.so", *flags(plan)],
        cwd=tmp_path, check=True,
    )  # fmt: skip
    assert own(toy.root.parent / "module.so") == expected  # without libtorch_cuda, which Python has loaded
    assert dynamic(toy.root.parent / "module.so").runpath == "$ORIGIN/torch/lib"
    assert imported(toy.root.parent, "module", "module.value()") == "4"


def test_a_response_file_and_separate_steps(toy: Libtorch, tmp_path: Path) -> None:
    (tmp_path / "module.cpp").write_text(MODULE)
    plan = make_plan(toy, EXTENSION, find_compiler(None))
    for phase in ("compile", "link"):
        (tmp_path / phase).write_text(response_file(plan, phase))
    for words in (
        ["c++", "-c", *DEFINED, "module.cpp", "-o", "m.o", "@compile"],
        ["c++", "m.o", "-o", "module.so", "@link"],
    ):
        subprocess.run(words, cwd=tmp_path, check=True)
    assert imported(tmp_path, "module", "module.value()") == "4"


def test_pkg_config_and_shell(toy: Libtorch, tmp_path: Path) -> None:
    (tmp_path / "module.cpp").write_text(MODULE)
    (tmp_path / "torch.pc").write_text(emit(make_plan(toy, EXTENSION, find_compiler(None)), "pkg-config"))
    assert "-shared" not in (tmp_path / "torch.pc").read_text()  # the build tool knows how to make a module
    found = subprocess.run(
        [program("pkg-config"), "--cflags", "--libs", tmp_path / "torch.pc"],
        capture_output=True,
        text=True,
        check=True,
    )
    words = shlex.split(found.stdout)
    subprocess.run(
        ["c++", "-shared", *DEFINED, "module.cpp", "-o", "module.so", *words], cwd=tmp_path, check=True
    )
    assert own(tmp_path / "module.so") == {"libtorch_cpu.so"}
    assert imported(tmp_path, "module", "module.value()") == "4"


def test_the_cmake_snippet(toy: Libtorch, tmp_path: Path) -> None:
    (tmp_path / "module.cpp").write_text(MODULE)
    snippet = emit(make_plan(toy, EXTENSION), "cmake")
    (tmp_path / "CMakeLists.txt").write_text(
        f"cmake_minimum_required(VERSION 3.18)\nproject(p LANGUAGES CXX)\n{snippet}\n"
        "add_library(module MODULE module.cpp)\n"
        'set_target_properties(module PROPERTIES PREFIX "" CXX_VISIBILITY_PRESET hidden)\n'
        'target_compile_definitions(module PRIVATE MODULE=module NAME="module")\n'
        "target_link_libraries(module PRIVATE torchlink::torch)\n"
    )
    for words in (["-S", ".", "-B", "."], ["--build", "."]):
        subprocess.run([program("cmake"), *words], cwd=tmp_path, check=True)
    assert own(tmp_path / "module.so") == {"libtorch_cpu.so"}
    assert imported(tmp_path, "module", "module.value()") == "4"


def test_nim_makes_a_library(toy: Libtorch) -> None:
    text = emit(make_plan(toy, EXTENSION), "nim")
    assert text.startswith("--app:lib\n")
    assert "-shared" in text


def test_json_has_pythons_headers(toy: Libtorch) -> None:
    plan = json.loads(emit(make_plan(toy, EXTENSION), "json"))
    assert any("python3" in directory for directory in plan["compile"]["include_dirs"])
    assert plan["options"]["python_extension"] is True
    assert [library["keep"] for library in plan["link"]["libraries"]] == [False] * 4


def test_the_interpreter_is_torchs_own_unless_it_is_named(
    torchlink: Callable[..., Result], torch_root: Path
) -> None:
    own_one = torchlink("flags", "--python-extension", "--libtorch", torch_root)
    assert own_one.code == 0
    assert "/python3" in own_one.out
    for python in (sys.executable, sys.prefix, "front-end"):  # also by the environment's directory
        assert torchlink("flags", "--python-extension", "--python", python).out == own_one.out


def test_the_compiler_wrapper_builds_a_module(
    toy: Libtorch, tmp_path: Path, torch_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "module.cpp").write_text(
        '#include <Python.h>\nstatic PyModuleDef d = {PyModuleDef_HEAD_INIT, "module"};\n'
        "PyMODINIT_FUNC PyInit_module() { return PyModule_Create(&d); }\n"
    )
    words = ["c++", "--python-extension", "--libtorch", str(torch_root), "module.cpp", "-o", "module.so"]
    subprocess.run([sys.executable, "-m", "torchlink", *words], cwd=tmp_path, check=True)
    assert not own(tmp_path / "module.so")
    assert imported(tmp_path, "module", "module.__name__") == "module"


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        (PlanOptions(tensors=True), UsageError, "--tensors is an option of --python-extension"),
        (PlanOptions(python_extension=True, plugin=True), UsageError, "--plugin and --python-extension"),
        (PlanOptions(python_extension=True), UsageError, "the interpreter is unknown"),
        (PlanOptions(python_extension=True, python="/nonexistent/python"), TorchlinkError, "does not start"),
        (PlanOptions(python_extension=True, python="/bin/false"), TorchlinkError, "is no Python 3"),
    ],
)
def test_what_cannot_be_is_one_clear_error(
    toy: Libtorch, options: PlanOptions, error: type[TorchlinkError], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        make_plan(toy, options)


def test_tensors_need_torch_python(tmp_path: Path) -> None:
    toy = build_toy(tmp_path / "torch", companion_dirs=())
    (toy.library_dir / "libtorch_python.so").unlink()
    bare = toy._replace(libraries=tuple(name for name in toy.libraries if "python" not in name))
    with pytest.raises(LibtorchUnusableError, match="has no libtorch_python"):
        make_plan(bare, EXTENSION._replace(tensors=True))
