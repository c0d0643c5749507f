"""`torchlink verify` lints the loader that it built."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from torchlink import find
from torchlink.lint.finding import Finding, Severity
from torchlink.report.verify import to_json, to_text
from torchlink.verify.verification import verify

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
    assert answer["lint"] == {"error": 0, "warning": 0, "note": 0, "findings": []}
    assert answer["loader"]["cached"] or run == "cold or warm"


def test_an_error_in_the_loader_is_reported(torch_root: Path) -> None:
    report = verify([], find(torch_root))
    lost = Finding("library-not-found", Severity.ERROR, "libx.so", "libx.so is not found.", "Install it.")
    idle = Finding("unused-library", Severity.WARNING, "liby.so", "Nothing of it is used.", "Leave it out.")
    text = to_text(report, (lost, idle))
    assert "library-not-found: libx.so is not found." in text
    assert "-> Install it." in text
    assert "1 finding: torchlink lint" in text
    answer = json.loads(json.dumps(to_json(report, (lost, idle))))
    assert [each["rule"] for each in answer["lint"].pop("findings")] == [lost.rule, idle.rule]
    assert answer["lint"] == {"error": 1, "warning": 1, "note": 0}
    assert not answer["ok"]
    assert "exit 1" not in to_text(report, (idle,))
    assert "lint" not in to_text(report, ())


@pytest.fixture
def open_to_all(tmp_path: Path, torch_root: Path) -> Path:
    """A libtorch made of symlinks, whose library directory anyone can write to."""
    root = tmp_path / "libtorch"
    libraries = root / "lib"
    libraries.mkdir(parents=True)
    for name in ("include", "share"):
        (root / name).symlink_to(torch_root / name)
    for library in (torch_root / "lib").iterdir():
        (libraries / library.name).symlink_to(library)
    libraries.chmod(0o777)
    return root


def test_an_error_is_the_one_of_lint_and_the_last_line_gives_it_as_the_reason(
    torchlink: Callable[..., Result], open_to_all: Path
) -> None:
    shown = torchlink("verify", "--json", "--libtorch", open_to_all)
    assert shown.code == 1
    answer = json.loads(shown.out)
    assert answer["lint"]["error"] == 1
    (told,) = (each for each in answer["lint"]["findings"] if each["severity"] == "error")
    assert (told["rule"], told["subject"]) == ("rpath-world-writable", str(open_to_all / "lib"))
    loader = verify([], find(open_to_all)).loader
    assert loader is not None
    linted = json.loads(torchlink("lint", "--json", loader.path).out)
    assert told in linted["files"][0]["findings"]

    shown = torchlink("verify", "--libtorch", open_to_all)
    assert shown.code == 1
    assert ": ok\n" in shown.out
    assert shown.out.endswith("\nexit 1: lint finds an error in the loader\n")
