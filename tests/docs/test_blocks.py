"""Every block of command lines on the documentation's pages is run, or says what runs it, or why nothing does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import program
from tests.docs.blocks import SHELL, Block, all_blocks, blocks_of, texts

BLOCKS = all_blocks()
RUN = [block for block in BLOCKS if block.info in SHELL and block.mark is None]
FUNCTION = 'extern "C" int {0}() {{ return 1; }}\n'
LIBRARIES = ("parts", "more", "inner", "outer", "foo", "mine", "part", "shim", "old")
BROKEN = ("rules/loader-error",)  # pages about a program that does not start
PATHS = ("/opt/parts/lib", "/opt/sysroot", "/opt/mine")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the files that the pages name: sources, objects, libraries, a program; none uses libtorch."""
    place = tmp_path_factory.mktemp("workshop")
    compiler = program("g++")
    for name in LIBRARIES:
        (place / f"{name}.cpp").write_text(FUNCTION.format(name))
    (place / "main.cpp").write_text("int main() { return 0; }\n")
    (place / "kernels.cpp").write_text(FUNCTION.format("kernels"))
    (place / "app.cpp").write_text('extern "C" int foo();\nint main() { return foo(); }\n')
    (place / "ext.cpp").write_text(
        '#include <Python.h>\nextern "C" PyObject *PyInit_ext() { return nullptr; }\n'
    )
    (place / "mine.cpp").write_text(
        '#include <Python.h>\nextern "C" PyObject *PyInit_mine() { return nullptr; }\n'
    )
    (place / "part.S").write_text(".globl part_s\npart_s: ret\n")
    include = subprocess.run(
        [program("python3-config"), "--includes"], capture_output=True, text=True, check=True
    ).stdout.split()
    for directory in ("lib", "parts/lib"):
        (place / directory).mkdir(parents=True)
    objects = [*LIBRARIES, "main", "kernels", "app"]
    run(place, [compiler, "-c", "-fPIC", *include, *(f"{name}.cpp" for name in objects)])
    for name in (*LIBRARIES, "openblas"):
        of = "parts" if name == "openblas" else name
        run(place, [compiler, "-shared", f"{of}.o", "-o", f"lib{name}.so"])
        shutil.copy(place / f"lib{name}.so", place / "lib")
        shutil.copy(place / f"lib{name}.so", place / "parts" / "lib")
    run(place, [program("ar"), "rcs", "libopenblas.a", "parts.o"])
    run(
        place,
        [compiler, "main.o", "-o", "app", "-Wl,--no-as-needed", "-Llib", "-lparts", "-Wl,-rpath,$ORIGIN/lib"],
    )
    return place


def run(place: Path, command: list[str]) -> None:
    """Run a command that must succeed."""
    subprocess.run(command, cwd=place, check=True, capture_output=True, timeout=120)


def environment(place: Path, torch_root: Path) -> dict[str, str]:
    """Return the environment of a user in an environment with torch and torchlink."""
    home = Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": f"{home}{os.pathsep}{os.environ['PATH']}",
        "TORCH": str(torch_root),
        "TORCHLINK_LIBTORCH": str(torch_root),
        "LIBRARY_PATH": f"{place}:{place}/lib:{torch_root}/lib",
        "TORCHLINK_CACHE_DIR": str(place / "cache"),
    }


@pytest.mark.compile
@pytest.mark.parametrize("block", RUN, ids=lambda block: f"{block.page}:{block.line}")
def test_a_block_runs(block: Block, workshop: Path, torch_root: Path, tmp_path: Path) -> None:
    place = tmp_path / "work"
    shutil.copytree(workshop, place)
    script = "\n".join(block.commands)
    for path in PATHS:  # nothing outside of the workshop is written or needed
        script = script.replace(path, f"{place}{path}")
        shutil.copytree(place / "lib", Path(f"{place}{path}"), dirs_exist_ok=True)
    if block.page in BROKEN:
        shutil.rmtree(place / "lib")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=place,
        env=environment(place, torch_root),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    findings = "torchlink lint" in script and done.returncode == 1  # it ran, and found something
    assert done.returncode == 0 or findings, f"{script}\n{done.stdout}{done.stderr}"


def test_every_block_says_what_it_is() -> None:
    assert not [f"{block.page}:{block.line}" for block in BLOCKS if not block.info]


def test_what_is_typed_is_in_a_block_that_is_run_or_marked() -> None:
    typed = [
        f"{block.page}:{block.line}"
        for block in BLOCKS
        if block.info not in SHELL and any(re.match(r"\$ \w", line) for line in block.lines)
    ]
    assert not typed
    assert len(RUN) > 30


def test_a_mark_that_is_misspelt_is_found() -> None:
    marks = re.compile(r"<!-- *(not )?(run|read)\b.*")
    for page, text in texts().items():
        lines = text.splitlines()
        found = [number for number, line in enumerate(lines, 1) if marks.match(line.strip())]
        assert found == [block.line - 1 for block in blocks_of(page, text) if block.mark], page
