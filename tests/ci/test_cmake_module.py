"""`TorchlinkLint.cmake` with real CMakes: what is run, on what, and what fails."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = Path(__file__).parent.parent.parent / "templates" / "cmake" / "TorchlinkLint.cmake"
PROJECT = """\
cmake_minimum_required(VERSION 3.18)
project(p LANGUAGES C)
enable_testing()
include("{module}")
add_executable(app main.c)
add_executable(alias::app ALIAS app)
add_library(shared SHARED main.c)
add_library(plain STATIC main.c)
add_library(headers INTERFACE)
{words}
"""
# Replaces torchlink: records its arguments and exits with a given code.
RECORDER = """\
import json, os, sys
with open({log!r}, "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
sys.exit({status})
"""
CMAKES = sorted({path for path in ("/usr/bin/cmake", shutil.which("cmake")) if path and Path(path).exists()})
pytestmark = pytest.mark.cmake


class Project:
    """A small C project that lints its targets with a recorder."""

    def __init__(self, directory: Path, cmake: str) -> None:
        self.source = directory / "a source"
        self.build = directory / "a build"
        self.log = directory / "log"
        self.cmake = cmake
        self.source.mkdir()
        (self.source / "main.c").write_text("int main(void) { return 0; }\n")

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(word) for word in words], cwd=self.source.parent, capture_output=True, text=True, check=False
        )

    def configure(
        self, words: str, *, status: int = 0, executable: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        recorder = self.source.parent / "recorder.py"
        recorder.write_text(RECORDER.format(log=str(self.log), status=status))
        (self.source / "CMakeLists.txt").write_text(PROJECT.format(module=MODULE, words=words))
        given = f"{sys.executable};{recorder}" if executable is None else executable
        return self.run(
            self.cmake,
            "-S",
            self.source,
            "-B",
            self.build,
            "-DCMAKE_BUILD_TYPE=Release",
            f"-DTORCHLINK_EXECUTABLE={given}",
        )

    def make(self) -> subprocess.CompletedProcess[str]:
        return self.run(self.cmake, "--build", self.build)

    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []


@pytest.fixture(params=CMAKES)
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Project:
    return Project(tmp_path, request.param)


def test_a_target_is_linted_after_it_was_linked(project: Project) -> None:
    done = project.configure('torchlink_lint(app ARGS --fail-on warning "--env=A=b c;d $HOME")')
    assert done.returncode == 0, done.stderr
    done = project.make()
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.calls() == [
        ["lint", "--fail-on", "warning", "--env=A=b c;d $HOME", "--", str(project.build / "app")]
    ]
    assert "Linting app with torchlink" in done.stdout


def test_a_finding_fails_the_build(project: Project) -> None:
    project.configure("torchlink_lint(shared POST_BUILD)", status=1)
    assert project.make().returncode != 0


def test_a_target_is_linted_by_ctest(project: Project) -> None:
    project.configure("torchlink_lint(alias::app TEST ARGS --target debian:12)", status=1)
    assert project.make().returncode == 0
    assert not project.calls()
    done = project.run(Path(project.cmake).with_name("ctest"), "--test-dir", project.build)
    if "Unknown argument" in done.stderr:  # --test-dir is younger than 3.18
        pytest.skip("this ctest is too old for --test-dir")
    assert done.returncode != 0
    assert "torchlink-lint.app" in done.stdout
    assert project.calls() == [["lint", "--target", "debian:12", "--", str(project.build / "app")]]


def test_both_ways_at_once(project: Project) -> None:
    project.configure("torchlink_lint(app TEST POST_BUILD)")
    assert project.make().returncode == 0
    assert len(project.calls()) == 1
    project.run(Path(project.cmake).with_name("ctest"), "--test-dir", project.build)
    assert len(project.calls()) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("torchlink_lint(absent)", "no such target"),
        ("torchlink_lint(plain)", "this is STATIC_LIBRARY"),
        ("torchlink_lint(headers)", "this is INTERFACE_LIBRARY"),
        ("torchlink_lint(app POSTBUILD)", "unknown arguments: POSTBUILD"),
        ("add_library(far SHARED IMPORTED)\ntorchlink_lint(far)", "only a program"),
        (
            'file(WRITE "${CMAKE_SOURCE_DIR}/s/CMakeLists.txt" "torchlink_lint(app)")\nadd_subdirectory(s)',
            "must be called in",
        ),
    ],
)
def test_wrong_use_is_reported_at_configure_time(project: Project, words: str, said: str) -> None:
    done = project.configure(words)
    assert done.returncode != 0
    assert said in " ".join(done.stderr.split())


def test_without_torchlink_the_configure_error_says_how_to_install_it(project: Project) -> None:
    done = project.configure("torchlink_lint(app)", executable="TORCHLINK_EXECUTABLE-NOTFOUND")
    if done.returncode == 0:  # the machine that runs the tests has one on PATH
        assert shutil.which("torchlink")
    else:
        assert "pip install torchlink" in " ".join(done.stderr.split())


def test_the_module_costs_nothing_where_it_is_not_used(project: Project) -> None:
    assert project.configure("", executable="TORCHLINK_EXECUTABLE-NOTFOUND").returncode == 0
