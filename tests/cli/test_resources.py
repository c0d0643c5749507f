"""A system that cannot open files just now: one error and exit 2, never "not found"."""

from __future__ import annotations

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
LIMITED = """
import sys
from torchlink.binary import data, elf
from torchlink.binary.loader import resolve
from torchlink.errors import ResourcesError
from pathlib import Path
data.UNTRACKED = {}
data.resource.setrlimit(data.resource.RLIMIT_NOFILE, (int(sys.argv[2]), int(sys.argv[3])))
try:
    closure = resolve(Path(sys.argv[1]))
except ResourcesError as error:
    print("resources", error.exit_code, error.message, error.hint)
else:
    print("closure", sum(edge.path is None for edge in closure.edges))
"""


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A library that needs 40 others beside it."""
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


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is set as Linux does")
def test_descriptors_that_run_out_are_no_missing_libraries(many: Path) -> None:
    out = resolved(many, 20, 20)
    assert out.startswith("resources 2 Cannot read ")
    assert "Too many open files" in out
    assert "ulimit -n" in out


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is set as Linux does")
def test_a_low_soft_limit_is_raised_when_it_is_met(many: Path) -> None:
    assert resolved(many, 20, 1000) == "closure 0\n"
