"""The facts read from a real torch are what it reports when imported."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from torchlink.libtorch.inspect import inspect

if TYPE_CHECKING:
    from pathlib import Path

ASK = """
import json, torch, torch.utils.cpp_extension as extension
print(json.dumps({
    "version": torch.__version__,
    "abi": int(torch.compiled_with_cxx11_abi()),
    "cuda": torch.version.cuda,
    "include": extension.include_paths(),
    "lib": extension.library_paths(),
}))
"""


@pytest.fixture(scope="module")
def said(torch_root: Path) -> dict[str, object]:
    """torch's own statements, from another process."""
    environment = {"PYTHONPATH": str(torch_root.parent), "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ASK],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    statements: dict[str, object] = json.loads(done.stdout)
    return statements


def test_a_real_torch_is_read_as_it_describes_itself(torch_root: Path, said: dict[str, object]) -> None:
    found = inspect(torch_root, "path")
    assert found.version == said["version"]
    assert found.cxx11_abi == said["abi"]
    assert found.accelerator_version == said["cuda"]
    assert [str(path) for path in found.include_dirs] == said["include"]
    assert [str(found.library_dir)] == said["lib"]
    assert found.conflicts == ()
    assert found.python is not None
    assert found.layout == "pip"
