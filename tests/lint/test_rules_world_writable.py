"""The words against a directory that anyone may write to: followed literally, they fix it."""

from __future__ import annotations

import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.lint.builder import Builder, said

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.lint.finding import Finding

pytestmark = pytest.mark.compile


def named(builder: Builder, directory: Path) -> list[Finding]:
    """What is said of a library whose search path names a directory."""
    return said(builder.library("libuser.so", "", f"-Wl,-rpath,{directory}"), "rpath-world-writable")


@pytest.mark.parametrize("below", [".", "not/there"])
def test_the_fix_removes_world_write_permission(builder: Builder, below: str) -> None:
    top = builder.path("open/x").parent
    top.chmod(0o777)
    (finding,) = named(builder, top / below)
    words = finding.fix.partition(", or ")[2].rstrip(".")
    assert shlex.split(words) == ["chmod", "o-w", str(top)]
    subprocess.run(shlex.split(words), check=True)
    assert not named(builder, top / below)


def test_a_directory_below_a_world_writable_one(builder: Builder) -> None:
    inner = builder.path("open/inner/x").parent
    inner.chmod(0o755)
    inner.parent.chmod(0o777)
    (finding,) = named(builder, inner)
    assert f"is below {inner.parent}" in finding.message
    inner.parent.chmod(0o1777)
    assert not named(builder, inner)


def test_the_fix_creates_a_directory_that_anyone_could_create(builder: Builder) -> None:
    temporary = builder.path("temporary/x").parent
    temporary.chmod(0o1777)
    (finding,) = named(builder, temporary / "lib")
    words = finding.fix.partition("before others do: ")[2].rstrip(".")
    subprocess.run(shlex.split(words), check=True)
    assert not named(builder, temporary / "lib")


def test_the_permissions_of_tmp_are_not_to_be_changed(builder: Builder) -> None:
    temporary = builder.path("temporary/x").parent
    temporary.chmod(0o1777)
    (finding,) = named(builder, temporary)
    assert "chmod" not in finding.fix
