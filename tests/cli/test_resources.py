"""A system that is out of file descriptors: one error and exit 2, never "not found"."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import unmet

if TYPE_CHECKING:
    from pathlib import Path

LIBRARIES = 40

# The limit is set when everything is imported: what runs out is libraries' descriptors, not Python's own.
# It counts from the descriptors that are open then.
LIMITED = """
import os, sys
from torchlink.binary import data, elf
from torchlink.binary.loader import resolve
from torchlink.errors import ResourcesError
from pathlib import Path
limits = [len(os.listdir("/proc/self/fd")) - 1 + int(number) for number in sys.argv[2:4]]
data.resource.setrlimit(data.resource.RLIMIT_NOFILE, limits)
try:
    closure = resolve(Path(sys.argv[1]))
except ResourcesError as error:
    print("resources", error.exit_code, error.message, error.hint)
else:
    print("closure", sum(edge.path is None for edge in closure.edges))
"""


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A library that needs 40 others in its directory."""
    if shutil.which("gcc") is None:
        unmet("no gcc")
    (tmp_path / "one.c").write_text("")
    names = [f"lib{number}.so" for number in range(LIBRARIES)]
    flags = ["-shared", "-nostdlib", "-Wl,--no-as-needed"]
    subprocess.run(["gcc", *flags, "one.c", "-o", names[0]], cwd=tmp_path, check=True, timeout=60)
    for name in names[1:]:
        shutil.copy(tmp_path / names[0], tmp_path / name)
    needed = [f"-l:{name}" for name in names]
    subprocess.run(
        ["gcc", *flags, "one.c", "-L.", *needed, "-Wl,-rpath,$ORIGIN", "-o", "libtop.so"],
        cwd=tmp_path,
        check=True,
        timeout=60,
    )
    return tmp_path / "libtop.so"


def resolved(top: Path, soft: int, hard: int) -> str:
    command = [sys.executable, "-c", LIMITED, str(top), str(soft), str(hard)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the limit is set as Linux does")


@ON_LINUX
def test_descriptors_that_run_out_are_no_missing_libraries(many: Path) -> None:
    out = resolved(many, 0, 0)
    assert out.startswith("resources 2 Cannot read ")
    assert "Too many open files" in out
    assert "ulimit -n" in out


@ON_LINUX
def test_a_low_soft_limit_is_raised_when_it_is_met(many: Path) -> None:
    assert resolved(many, 0, 1000) == "closure 0\n"


@ON_LINUX
def test_a_few_descriptors_do_for_any_number_of_libraries(many: Path) -> None:
    assert resolved(many, 3, 3) == "closure 0\n"


@ON_LINUX
def test_with_any_number_of_descriptors_the_result_is_right_or_an_error(many: Path) -> None:
    right = limited(many, 100)
    assert right.returncode == 0
    for descriptors in range(5, 24, 2):
        done = limited(many, descriptors)
        if done.returncode != 2:
            assert (done.returncode, done.stdout) == (0, right.stdout)
        else:
            error = json.loads(done.stdout)["error"]
            assert (error["code"], done.stderr) == ("resources", "")
            assert "Too many open files" in error["message"]


def limited(library: Path, descriptors: int) -> subprocess.CompletedProcess[str]:
    """Lint a library with few descriptors; they can run out even while modules are imported."""
    words = (
        f"ulimit -n {descriptors}; exec {shlex.quote(sys.executable)} -S -m torchlink lint --json {library}"
    )
    path = os.pathsep.join(filter(None, sys.path))  # -S: what is tried is torchlink, not the start of Python
    return subprocess.run(
        ["sh", "-c", words],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.compile
@ON_LINUX
def test_a_loader_that_gets_no_memory_is_not_a_loader_of_another_version(torch_root: Path) -> None:
    words = (
        f"{shlex.quote(sys.executable)} -m torchlink verify --json --libtorch {shlex.quote(str(torch_root))}"
    )
    subprocess.run(["sh", "-c", words], capture_output=True, check=True, timeout=300)  # builds the loader
    limit = "ulimit -v 200000"  # KB: enough for Python, and not for half a gigabyte of libraries
    done = subprocess.run(
        ["sh", "-c", f"{limit}; {words}"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "resources"
    assert "The loader cannot load lib" in error["message"]
