"""Three programs to lint, and a directory without settings to do it from."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.lint.builder import Builder

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Result

USE = "int used(void);\nint main(void) { return used(); }"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`sound`, `idle` (a warning), `lost` (an error) and their libraries."""
    builder = Builder(tmp_path_factory.mktemp("shop"))
    used = builder.library("lib/libused.so", "int used(void) { return 1; }")
    idle = builder.library("lib/libidle.so", "int idle(void) { return 1; }")
    gone = builder.library("gone/libgone.so", "int gone(void) { return 1; }")
    rpath = "-Wl,-rpath,$ORIGIN/lib"
    builder.build("sound", USE, used, rpath)
    builder.build("idle", USE, used, "-Wl,--no-as-needed", idle, rpath)
    builder.build(
        "lost",
        f"int gone(void);\n{USE.replace('return used()', 'return used() + gone()')}",
        used,
        gone,
        rpath,
    )
    shutil.rmtree(gone.parent)
    return builder.directory


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the checkout do not count."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def rules(shown: Result) -> set[str]:
    """The rules that a JSON report names."""
    return {finding["rule"] for file in json.loads(shown.out)["files"] for finding in file["findings"]}
