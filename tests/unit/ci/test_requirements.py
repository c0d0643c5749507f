"""A missing tool skips a test, or fails it with TORCHLINK_TEST_REQUIRE=1, without exceptions."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; import pytest; sys.exit(pytest.main(sys.argv[1:]))"


@pytest.mark.parametrize(("required", "code"), [("0", 5), ("1", 2)])
@pytest.mark.parametrize("module", ["tests/model/test_kind.py", "tests/verify/test_verify.py"])
def test_a_module_without_torch_skips_or_fails(module: str, required: str, code: int) -> None:
    words = ["-q", "-p", "no:cacheprovider", "-rs", "--collect-only", module]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *words],
        cwd=REPOSITORY,
        env={**os.environ, "TORCHLINK_TEST_REQUIRE": required},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == code, done.stdout
    assert "torch is missing" in done.stdout


def test_no_test_skips_without_checking_the_requirement() -> None:
    """`pytest.importorskip` ignores that variable; `tests.conftest.needed` does not."""
    word = "pytest.import" + "orskip("
    modules = (REPOSITORY / "tests").rglob("*.py")
    assert not [str(module) for module in modules if word in module.read_text(encoding="utf-8")]
