"""`torchlink verify` lints the loader that it built."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from torchlink.lint.finding import Finding, Severity
from torchlink.report.verify import to_json, to_text
from torchlink.verify.run import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

pytestmark = pytest.mark.compile


@pytest.mark.parametrize("run", ["cold or warm", "warm"])
def test_the_loader_is_clean(torchlink: Callable[..., Result], torch_root: Path, run: str) -> None:
    shown = torchlink("verify", "--json", "--libtorch", torch_root)
    assert shown.code == 0
    answer = json.loads(shown.out)
    assert answer["ok"]
    assert answer["lint"] == {"error": 0, "warning": 0, "note": 0}
    assert answer["loader"]["cached"] or run == "cold or warm"


def test_an_error_in_the_loader_is_said(torch_root: Path) -> None:
    from torchlink import find

    report = verify([], find(torch_root))
    lost = Finding("library-not-found", Severity.ERROR, "libx.so", "libx.so is not found.", "Install it.")
    idle = Finding("unused-library", Severity.WARNING, "liby.so", "Nothing of it is used.", "Leave it out.")
    text = to_text(report, (lost, idle))
    assert "library-not-found: libx.so is not found." in text
    assert "-> Install it." in text
    assert "1 finding: torchlink lint" in text
    answer = to_json(report, (lost, idle))
    assert answer["lint"] == {"error": 1, "warning": 1, "note": 0}
    assert not answer["ok"]
    assert "lint" not in to_text(report, ())
