"""The words against a directory that anyone may write to: followed literally, they fix it."""

from __future__ import annotations

import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.lint.bench import Bench, said

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.lint.finding import Finding

pytestmark = pytest.mark.compile


def named(bench: Bench, directory: Path) -> list[Finding]:
    """What is said of a library whose search path names a directory."""
    return said(bench.library("libuser.so", "", f"-Wl,-rpath,{directory}"), "rpath-world-writable")


@pytest.mark.parametrize("below", [".", "not/there"])
def test_rights_that_are_too_wide_are_taken_away(bench: Bench, below: str) -> None:
    top = bench.path("open/x").parent
    top.chmod(0o777)
    (finding,) = named(bench, top / below)
    words = finding.fix.partition(", or ")[2].rstrip(".")
    assert shlex.split(words) == ["chmod", "o-w", str(top)]
    subprocess.run(shlex.split(words), check=True)
    assert not named(bench, top / below)


def test_a_directory_that_anyone_may_put_another_in_the_place_of(bench: Bench) -> None:
    inner = bench.path("open/inner/x").parent
    inner.chmod(0o755)
    inner.parent.chmod(0o777)
    (finding,) = named(bench, inner)
    assert f"is below {inner.parent}" in finding.message
    inner.parent.chmod(0o1777)
    assert not named(bench, inner)


def test_a_directory_that_is_missing_where_everyone_may_make_it_is_made(bench: Bench) -> None:
    temporary = bench.path("temporary/x").parent
    temporary.chmod(0o1777)
    (finding,) = named(bench, temporary / "lib")
    words = finding.fix.partition("before others do: ")[2].rstrip(".")
    subprocess.run(shlex.split(words), check=True)
    assert not named(bench, temporary / "lib")


def test_nobody_is_told_to_take_the_rights_of_a_temporary_directory_away(bench: Bench) -> None:
    temporary = bench.path("temporary/x").parent
    temporary.chmod(0o1777)
    (finding,) = named(bench, temporary)
    assert "chmod" not in finding.fix
