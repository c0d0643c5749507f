"""Small hostile files end in an error, within 10 s of processor time and 200 MB of torchlink's own process."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.model.hostile import FAMILIES

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 10
MEMORY = 200 << 20
# What `verify FILE`, `--input @FILE`, `--expect FILE` and a failed load do with a file, each in a process of its
# own: the system ends one that takes more, and a crash in one is not a crash of the tests.
READER = f"""
import gc, os, resource, sys
from pathlib import Path
from torchlink.errors import TorchlinkError
from torchlink.model.archive import open_archive
from torchlink.model.kind import identify
from torchlink.model.tensors import read_expected
import torchlink.model.npy, torchlink.model.torch_save, torchlink.model.other_files

gc.set_threshold(100_000)  # as the console script does

def damaged(path):
    archive = open_archive(path)
    if archive is not None:
        archive.damaged()

for line in sys.stdin:
    path = Path(line.rstrip("\\n"))
    for name, read in (("identify", identify), ("tensors", read_expected), ("damaged", damaged)):
        child = os.fork()
        if child:
            _, status, usage = os.wait4(child, 0)
            took = usage.ru_utime + usage.ru_stime
            if status or took > {SECONDS} or usage.ru_maxrss << 10 > {MEMORY}:
                print(name, path.name, "status", status, f"{{took:.1f}} s", usage.ru_maxrss >> 10, "MB", flush=True)
            continue
        resource.setrlimit(resource.RLIMIT_CPU, ({SECONDS}, {SECONDS}))
        try:
            found = read(path)
            assert len(str(found)) < 100_000
        except TorchlinkError as error:
            assert len(error.message) < 1000, len(error.message)
        sys.stderr.flush()
        os._exit(0)
"""


@pytest.mark.parametrize("family", FAMILIES)
def test_small_files_cost_little(family: str, tmp_path: Path) -> None:
    names = {path.name: (name, path) for name, path in FAMILIES[family](tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", READER],
        input="".join(f"{path}\n" for _, path in names.values()),
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    failed = [f"{names[line.split()[1]][0]}: {line}" for line in done.stdout.splitlines()]
    assert not failed, "\n".join(failed) + done.stderr[-2000:]
