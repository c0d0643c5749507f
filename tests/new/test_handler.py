"""`torchlink new handler`: the project by its own commands, and what its library refuses to be opened with."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.conftest import REPOSITORY, run_clean
from tests.new.handlers import created, handler_project, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

pytestmark = pytest.mark.cmake
SOURCE = REPOSITORY / "examples/server/src/handlers"  # of what a handler and the server have in common


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new handler, built and tested by its commands."""
    return handler_project(tmp_path_factory)


def test_its_commands_build_test_and_run_it(project: Path) -> None:
    """The build has been made by the first command, and tested by the second; the third prints the model's answer."""
    output = run("build/try_handler build/lib*_handler.so model.pt", project)
    assert "2.5000 -0.7500" in output
    assert (project / "build/libmy_model_handler.so").is_file()


def test_the_library_is_a_plugin(project: Path) -> None:
    """It has a soname, exports the class's functions, and needs only what it uses."""
    library = str(project / "build/libmy_model_handler.so")
    dynamic = run(f"readelf --wide --dynamic {library}", project)
    assert "soname: [libmy_model_handler.so]" in dynamic
    needed = set(re.findall(r"NEEDED.*\[(.*)\]", dynamic))
    assert {"libtorch_cpu.so", "libc10.so"} <= needed
    assert "libtorch_python.so" not in needed
    exported = run(f"nm --dynamic --defined-only {library}", project)
    assert "T allocatorMyModelHandler" in exported
    assert "T deleterMyModelHandler" in exported
    assert "BaseHandler" not in exported  # which the server would resolve to its own


def test_lint_is_clean(project: Path, torchlink: Callable[..., Result]) -> None:
    """Of both binaries."""
    result = torchlink("lint", project / "build/libmy_model_handler.so", project / "build/try_handler")
    assert result.code == 0
    assert "error" not in result.out


def test_the_installed_program_starts(project: Path, tmp_path: Path) -> None:
    """From its new place, with the installed library and no environment."""
    run(f"cmake --install build --prefix {tmp_path}", project)
    (library,) = tmp_path.glob("lib*/**/libmy_model_handler.so")
    done = run_clean(tmp_path / "bin/try_handler", library, project / "model.pt")
    assert done.returncode == 0, done.stderr
    assert "2.5000" in done.stdout


def test_a_wrong_input_is_one_line(project: Path) -> None:
    """Of the interpreter's traceback only the error is left."""
    done = run_clean(
        project / "build/try_handler",
        project / "build/libmy_model_handler.so",
        project / "model.pt",
        "1",
        "9",
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "the model failed: mat1 and mat2 shapes cannot be multiplied (1x9 and 4x3)" in done.stderr


@pytest.mark.parametrize(
    ("name", "library", "class_name"),
    [
        ("speech", "libspeech_handler.so", "SpeechHandler"),
        ("my_model", "libmy_model_handler.so", "MyModelHandler"),
        ("imageNet50", "libimageNet50_handler.so", "ImageNet50Handler"),
        ("torch_script", "libtorch_script_handler.so", "TorchScriptHandler"),
        ("_2", "lib_2_handler.so", "_2Handler"),
    ],
)
def test_names(tmp_path: Path, name: str, library: str, class_name: str) -> None:
    """The class is the name in CamelCase, and a valid identifier."""
    created("handler", tmp_path / "project", "--name", name)
    source = (tmp_path / f"project/src/{name}_handler.cpp").read_text()
    assert f"class {class_name} : public handlers::TorchScriptHandler" in source
    assert f"HANDLER({class_name});" in source
    readme = (tmp_path / "project/README.md").read_text()
    assert f"{library.removesuffix('.so')}:{class_name}" in readme


def other_library(directory: Path, torch_root: Path, *flags: str, more: str = "") -> Path:
    """A library with the note that these flags write, and `more` in it."""
    source = directory / "other.cpp"
    source.write_text(f'#include "handler_note.h"\nHANDLER_NOTE(OtherHandler);\n{more}\n')
    library = directory / "libother_handler.so"
    include = [f"-I{torch_root}/include/{part}" for part in (".", "torch/csrc/api/include")]
    words = ["c++", "-std=c++17", "-shared", "-fPIC", f"-I{SOURCE}", *include, str(source)]
    subprocess.run([*words, *flags, "-o", str(library)], check=True, timeout=120)
    return library


@pytest.mark.parametrize(
    ("flags", "more", "expected"),
    [
        (
            ["-D_GLIBCXX_USE_CXX11_ABI=0"],
            "",
            r"the C\+\+ ABI .* differs\. It was built .*, C\+\+ ABI 0, .*; this program .*, C\+\+ ABI 1, ",
        ),
        (
            ["-include", "old.h"],
            "",
            r"version of libtorch differs\. It was built with libtorch 1\.13\.1, .*; this program with libtorch 2\.",
        ),
        (
            [],
            'extern "C" void* f(); namespace c10 { void gone(int); } void* f() { c10::gone(1); return nullptr; }',
            r"needs 1 symbol that the loaded libtorch \(.*\) does not have, such as c10::gone\(int\)",
        ),
        ([], "", None),
    ],
    ids=["cxx11-abi", "version", "symbol", "fits"],
)
def test_a_library_that_does_not_fit_is_refused(
    project: Path, torch_root: Path, tmp_path: Path, flags: list[str], more: str, expected: str | None
) -> None:
    """By an error that names both sides, before anything in it runs."""
    (tmp_path / "old.h").write_text(
        '#include <torch/version.h>\n#undef TORCH_VERSION\n#define TORCH_VERSION "1.13.1"\n'
    )
    ran = (
        "\n#include <cstdlib>\n__attribute__((constructor)) static void ran() { std::abort(); }\n"
        if expected
        else ""
    )
    library = other_library(tmp_path, torch_root, f"-I{tmp_path}", *flags, more=ran + more)
    done = run_clean(project / "build/try_handler", library, project / "model.pt")
    assert done.returncode == 1
    assert re.search(expected or "does not export allocatorOtherHandler", done.stderr), done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda file: file.write_text("not a library"), "is not a shared library (not an ELF file)"),
        (lambda file: file.write_bytes(b""), "is not a shared library (not an ELF file)"),
        (
            lambda file: file.write_bytes(file.with_name("whole.so").read_bytes()[:3000]),
            "is truncated or damaged",
        ),
        (lambda file: shutil.copy("/lib64/ld-linux-x86-64.so.2", file), "exports 0 handlers"),
    ],
    ids=["text", "empty", "truncated", "another-library"],
)
def test_what_is_no_handler_is_refused(
    project: Path, tmp_path: Path, make: Callable[[Path], object], expected: str
) -> None:
    """Whatever is in the file."""
    shutil.copy(project / "build/libmy_model_handler.so", tmp_path / "whole.so")
    library = tmp_path / "libother_handler.so"
    make(library)
    done = run_clean(project / "build/try_handler", library, project / "model.pt")
    assert done.returncode == 1
    assert f"libother_handler.so {expected}" in done.stderr
