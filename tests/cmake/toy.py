"""A toy libtorch: real shared libraries of a few bytes under the right names, with a header, for a real CMake."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from typing import TYPE_CHECKING, Any

from tests.fake_libtorch import companion, fake_libtorch

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch

HEADER = """\
#if __cplusplus < 201703L
#error C++17 or later is needed.
#endif
#include <string>
int c10_value();
int torch_value(const std::string&);
"""
SOURCES = {
    "c10": "int c10_value() { return 1; }",
    "torch_cpu": "#include <string>\nint c10_value();\n"
    "int torch_value(const std::string& s) { return c10_value() + static_cast<int>(s.size()); }",
    "torch_cuda": "int registered = 1;",
    "c10_cuda": "int c10_cuda_value() { return 1; }",
    "torch": "",
    "torch_python": "int torch_python_value() { return 1; }",
}
LINKS = {"torch_cpu": ("c10",), "torch_cuda": ("torch_cpu",), "torch": ("torch_cpu",)}
MAIN = '#include <toy.h>\nint main() { return torch_value("") == c10_value() ? 0 : 1; }\n'


def build_toy(root: Path, **facts: Any) -> Libtorch:
    """A CUDA libtorch that links and runs; its libstdc++ ABI is 1."""
    libtorch = fake_libtorch(
        root, tuple(f"lib{name}.so" for name in SOURCES), **{"accelerator": "cuda", **facts}
    )
    (root / "include/toy.h").write_text(HEADER)
    for name, text in SOURCES.items():
        link(root / "lib", name, text, *LINKS.get(name, ()))
    return libtorch


def link(directory: Path, name: str, text: str, *needed: str) -> None:
    """Build `lib<name>.so` in a directory."""
    words = f"c++ -std=c++17 -shared -fPIC -x c++ - -o lib{name}.so -Wl,-soname,lib{name}.so"
    more = "-Wl,--no-as-needed,-rpath,$ORIGIN -L. "
    subprocess.run(
        [*shlex.split(f"{words} {more}"), *(f"-l{library}" for library in needed)],
        input=text, cwd=directory, check=True, text=True,
    )  # fmt: skip


def moved_away(libtorch: Libtorch, directory: Path) -> Libtorch:
    """The same with a companion directory that its own search path does not reach."""
    return libtorch._replace(companion_dirs=(companion(directory, "libcudart.so.13"),), search_kind="rpath")


def configure(project: Path, *arguments: str, cmake: str = "cmake") -> subprocess.CompletedProcess[str]:
    """Run cmake on a project; its build directory is `build` inside."""
    return subprocess.run(
        [cmake, "-S", str(project), "-B", str(project / "build"), *arguments],
        env={**os.environ, "CMAKE_EXPORT_COMPILE_COMMANDS": "ON"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def configured(project: Path, *arguments: str, warned: bool = False, cmake: str = "cmake") -> str:
    """What cmake said on stdout; it must succeed, and warn only where that is expected."""
    done = configure(project, *arguments, cmake=cmake)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("Warning" in done.stderr) == warned, done.stderr
    return done.stdout


def built(project: Path, *targets: str, cmake: str = "cmake") -> None:
    """Build what was configured."""
    words = [word for target in targets for word in ("--target", target)]
    done = subprocess.run(
        [cmake, "--build", str(project / "build"), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def compile_flags(project: Path) -> dict[str, list[str]]:
    """The flags of each target's compile command."""
    commands = json.loads((project / "build/compile_commands.json").read_text())
    found = [(shlex.split(command["command"]), command["command"]) for command in commands]
    return {line.partition(".dir/")[0].rpartition("/")[2]: words for words, line in found}


def project(directory: Path, lists: str, **files: str) -> Path:
    """Write a CMake project; `main.cpp` is there in any case."""
    for name, text in {"CMakeLists.txt": lists, "main.cpp": MAIN, **files}.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def dynamic(file: Path) -> dict[str, list[str]]:
    """NEEDED names of libtorch's, RPATH and RUNPATH entries of a binary."""
    text = subprocess.run(["readelf", "-dW", str(file)], capture_output=True, text=True, check=True).stdout
    found: dict[str, list[str]] = {"NEEDED": [], "RPATH": [], "RUNPATH": []}
    for line in text.splitlines():
        tag = line.partition("(")[2].partition(")")[0]
        value = line.partition("[")[2].rpartition("]")[0]
        if tag == "NEEDED" and value.startswith(("libtorch", "libc10")):
            found[tag].append(value)
        elif tag in {"RPATH", "RUNPATH"}:
            found[tag] = value.split(":")
    return found
