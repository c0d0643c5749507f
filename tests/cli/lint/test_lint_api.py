"""The start-up of `torchlink lint`, and its Python API."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

    Torchlink = Callable[..., Result]

pytestmark = pytest.mark.compile


def test_linting_does_not_import_typer(shop: Path) -> None:
    script = (
        "import sys\nfrom torchlink.cli.main import main\n"
        "main(sys.argv[1:])\nprint([name for name in ('typer', 'dataclasses', 'tomllib') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "lint", str(shop / "sound")],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert done.stdout.endswith("[]\n")


def test_python_gets_the_same_report(shop: Path) -> None:
    import torchlink
    from torchlink.errors import FileError, UsageError
    from torchlink.lint.finding import Severity

    report = torchlink.lint([shop / "lost", str(shop / "idle")])
    assert report.fails(Severity.ERROR)
    assert [file.kind for file in report.files] == ["executable", "executable"]
    assert not torchlink.lint(shop / "lost", ignore=["library-*"]).fails(Severity.NOTE)
    assert torchlink.lint(str(shop / "sound"), target="glibc=2.2").fails(Severity.ERROR)
    with pytest.raises(UsageError):
        torchlink.lint(shop / "lost", select=["no-such-rule"])
    with pytest.raises(FileError):
        torchlink.lint(shop / "absent")
