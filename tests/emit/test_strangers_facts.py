"""Text in a libtorch's files never becomes code: not in a build file, a shell line, a project or a report."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.fake_libtorch import CUDA, fake_libtorch
from tests.libtorch.trees import Fake, make
from torchlink import emit
from torchlink.emit import TARGETS, cmake_configure, cmake_prefix
from torchlink.emit.cxx import response_file
from torchlink.libtorch.facts import Candidate, MissingLibrary, Search
from torchlink.libtorch.inspect import inspect
from torchlink.libtorch.packages import package_of, pinned
from torchlink.libtorch.version import is_version
from torchlink.plan import make_plan
from torchlink.projects import nim
from torchlink.report.find import search_to_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch

# Each begins as a version does, so that whoever looks at the beginning alone takes it.
HOSTILE = (
    "2.13.0\nPWNED(touch)\n#",
    '2.13.0\n--gcc.cpp.exe:"PWNED"\n#',
    "2.13.0\r\nPWNED",
    '2.13.0")\nPWNED("',
    "2.13.0$(touch PWNED)",
    "2.13.0`touch PWNED`",
    "2.13.0${PWNED}",
    "2.13.0@PWNED@",
    "2.13.0 ]]\nPWNED #[[",
    "2.13.0';PWNED;'",
    "2.13.0\\\nPWNED",
    "2.13.0\x1b]0;PWNED\x07",
    "2.13.0\n::error::PWNED",
    "2.13.0\u2028PWNED\u202e\x9b31m",
    "2." + "1" * 5000,
)


def harmless(text: str) -> None:
    """No line begins with what the stranger wrote, and nothing commands a terminal."""
    for line in text.splitlines():
        assert not line.lstrip().startswith(("PWNED", "::", "--gcc")), line
    assert all(char.isprintable() or char == "\n" for char in text), repr(text)


@pytest.mark.compile
@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("file", ["build-version", "version.py", "TorchConfigVersion.cmake", "version.h"])
def test_a_version_is_a_version_or_unknown_with_a_note(tmp_path: Path, file: str, text: str) -> None:
    silent = replace(Fake(), version=None, built=None, cmake=None)
    root = make(tmp_path / "lt", silent)
    (root / "include/torch/headeronly/version.h").unlink(missing_ok=True)
    (root / "include/torch/csrc/api/include/torch/version.h").unlink(missing_ok=True)
    places = {
        "build-version": ("build-version", text),
        "version.py": ("version.py", f"__version__ = '{text}'\n"),
        "TorchConfigVersion.cmake": (
            "share/cmake/Torch/TorchConfigVersion.cmake",
            f'set(PACKAGE_VERSION "{text}")\n',
        ),
        "version.h": (
            "include/torch/headeronly/version.h",
            "".join(
                f"#define TORCH_VERSION_{part} {text.split(maxsplit=1)[0]}\n"
                for part in ("MAJOR", "MINOR", "PATCH")
            ),
        ),
    }
    name, content = places[file]
    (root / name).write_bytes(content.encode())
    found = inspect(root, "--libtorch")
    assert found.version is None or is_version(found.version)
    assert (
        found.version is not None
        or file == "version.py"
        or any("no valid version" in each for each in found.conflicts)
    )
    plan = make_plan(found)
    for target in TARGETS:
        harmless(emit(plan, target))
    harmless(
        search_to_text(Search(found, (Candidate(found.root, "--libtorch", found, None),)), everything=True)
    )


@pytest.mark.compile
def test_an_accelerators_version_is_a_version_or_left_out(tmp_path: Path) -> None:
    fake = replace(Fake(), cuda="13.0$(touch PWNED)", libraries=(*Fake().libraries, "c10_cuda", "torch_cuda"))
    found = inspect(make(tmp_path / "torch", fake), "--libtorch")
    assert (found.accelerator, found.accelerator_version) == ("cuda", None)
    assert "version.py says CUDA 13.0$(touch PWNED), which is not a version" in found.conflicts


@pytest.mark.compile
def test_a_file_whose_name_is_code_is_not_a_library(tmp_path: Path) -> None:
    root = make(tmp_path / "torch")
    names = ("libtorch_python.so\nPWNED.so", "lib`PWNED`.so", "lib$(PWNED).so", "lib\x1b[31m.so", "lib#[[.so")
    for name in names:
        shutil.copyfile(root / "lib/libshm.so", root / "lib" / name)
    found = inspect(root, "--libtorch")
    assert set(found.libraries).isdisjoint(names)
    assert any("is not a library name" in conflict for conflict in found.conflicts)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("nvidia-cudnn-cu13==9.26.0.51; platform_system == 'Linux'", "nvidia-cudnn-cu13==9.26.0.51"),
        ("nvidia-cudnn-cu13 (>=9,<10)", "nvidia-cudnn-cu13>=9,<10"),
        ("nvidia-cudnn-cu13==9$(touch PWNED)", "nvidia-cudnn-cu13"),
        ("nvidia-cudnn-cu13@https://evil.example/x.whl", "nvidia-cudnn-cu13"),
        ("nvidia-cudnn-cu13==9`PWNED`", "nvidia-cudnn-cu13"),
        ("nvidia-cudnn-cu13 --index-url=https://evil.example", "nvidia-cudnn-cu13"),
    ],
)
def test_a_requirement_of_metadata_is_a_requirement(line: str, expected: str) -> None:
    assert pinned("nvidia-cudnn-cu13", f"Requires-Dist: {line}\n") == expected


def test_a_needed_name_alone_is_not_a_package() -> None:
    assert package_of("libmkl_sycl_blas.so.5", None) == "onemkl-sycl-blas"
    assert package_of("libmkl_sycl_; touch PWNED", None) is None


def strangers_libtorch(root: Path, text: str) -> Libtorch:
    """A libtorch whose every text is hostile, as if nothing had checked it."""
    return fake_libtorch(
        root,
        CUDA,
        version=text,
        version_from=text,
        found_by=text,
        cxx11_abi_from=text,
        cxx_standard_from=text,
        accelerator="cuda",
        accelerator_version=text,
        search_path=(text,),
        missing_libraries=(MissingLibrary(text, text, text, text),),
        conflicts=(text,),
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_every_emitter_and_project_quotes_what_it_writes(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "TORCH_CUDA_ARCH_LIST", "8.6"
    )  # of nvcc, which else reads libtorch_cuda: here it is empty
    plan = make_plan(strangers_libtorch(tmp_path / "lt", text))
    for target in TARGETS:
        harmless(emit(plan, target))
    harmless(response_file(plan))
    harmless(cmake_configure.initial_cache(plan.libtorch, tmp_path / "p", None))
    for files in (cmake_prefix.files(plan), nim.project(plan, text)):
        for name, content in files.items():
            harmless(name)
            if name.endswith((".cmake", ".cfg", ".nimble")):
                harmless(content)


@pytest.mark.cmake
@pytest.mark.parametrize(
    "name", ["$(touch PWNED)`touch PWNED`", "#x ${PWNED} ${ARGN} ${package}", "$ENV{PWNED}@PWNED@"]
)
def test_a_directory_whose_name_is_code_is_a_directory(
    tmp_path: Path, name: str, torchlink: Callable[..., object]
) -> None:
    root = make(tmp_path / name / "lt")
    (root / "build-version").write_text(f"2.13.0\nexecute_process(COMMAND touch {tmp_path}/PWNED)\n#")
    out = tmp_path / "prefix"
    torchlink("cmake", "prefix", "-o", out, "--libtorch", root)
    (tmp_path / "x").mkdir()
    (tmp_path / "x/CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(x NONE)\nfind_package(Torch REQUIRED)\n"
        "append_torchlib_if_found(shm)\n"
        'message("AT=${TORCH_INSTALL_PREFIX}=")\nmessage("SHM=${shm_LIBRARY}=")\n'
    )
    done = subprocess.run(
        ["cmake", "-S", tmp_path / "x", "-B", tmp_path / "x/b", f"-DCMAKE_PREFIX_PATH={out}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert f"AT={root}=" in done.stderr, done.stderr
    assert f"SHM={root}/lib/libshm.so=" in done.stderr
    words = emit(make_plan(inspect(root, "--libtorch")), "cxx")
    told = subprocess.run(
        ["sh", "-c", f"set -- {words}; printf '%s\\n' \"$@\""],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    ).stdout
    assert f"-L{root}/lib" in told.splitlines()
    assert "PWNED" not in os.listdir(tmp_path)  # noqa: PTH208 - names
