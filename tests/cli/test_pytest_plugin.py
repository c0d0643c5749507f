"""The pytest plugin, in real runs of pytest: models as tests, the fixture, the marker, and runs without any of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import pytest

from tests.conftest import unmet
from torchlink.paths import data_dir

if TYPE_CHECKING:
    from pathlib import Path

TINY = data_dir("templates") / "loader" / "tiny.pt"
TESTS = """\
import pytest

@pytest.mark.torchlink_model("models/[ac].pt", timeout=300)
def test_shape(torchlink_model):
    assert torchlink_model.outputs[0].type == "tensor"

@pytest.mark.torchlink_model("models/bad.pt")
def test_marked_without_the_fixture():
    raise AssertionError("not reached")

def test_fixture(torchlink_verify):
    assert torchlink_verify("models/a.pt", inputs="float32[1,4]=zeros").inputs[0].text.endswith("zeros")
    assert not torchlink_verify("models/bad.pt", check=False).ok
    torchlink_verify("models/bad.pt")

def test_without_a_marker(torchlink_model):
    pass
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Models in a directory: two good ones, one whose name pytest could take for an id, a bad and a skipped one."""
    if not any(entry.value == "torchlink.pytest_plugin" for entry in entry_points(group="pytest11")):
        unmet("torchlink with its entry point for pytest (pip install -e .)")
    models = tmp_path / "models"
    models.mkdir()
    for name in ("a.pt", "b[1].pt", "c.pt", "skipped.pt"):
        shutil.copy(TINY, models / name)
    (models / "bad.pt").write_text("nothing")
    (tmp_path / "torchlink.toml").write_text('[[model]]\npath = "models/skipped.pt"\nskip = "too large"\n')
    return tmp_path


def run(project: Path, *arguments: str, torch: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run pytest in the project, with nothing of this run's own in its environment."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    named = [f"--torchlink-args=--libtorch '{torch}'"] if torch else []
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *named, *arguments],
        cwd=project,
        env=own,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.mark.compile
@pytest.mark.parametrize("spread", [[], ["-n", "2"]])
def test_each_model_is_a_test_without_a_test_file(project: Path, torch_root: Path, spread: list[str]) -> None:
    options = ["--torchlink-model", "models/*.pt", "--junit-xml", "r.xml", *spread]
    done = run(project, *options, torch=torch_root)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "3 passed, 1 skipped" in done.stdout
    assert "torchlink verify models/bad.pt" in done.stdout
    assert "is a text file, neither a TorchScript model" in done.stdout
    assert "Traceback" not in done.stdout
    cases = ET.parse(project / "r.xml").getroot().iter("testcase")
    found = {str(case.get("classname")): {each.tag for each in case} for case in cases}
    assert found == {
        "models.a.pt": {"properties"},
        "models.b[1].pt": {"properties"},
        "models.bad.pt": {"failure"},
        "models.c.pt": {"properties"},
        "models.skipped.pt": {"skipped"},
    }


@pytest.mark.compile
def test_the_marker_and_the_fixture(project: Path, torch_root: Path) -> None:
    (project / "test_models.py").write_text(TESTS)
    done = run(project, "-q", "--strict-markers", "-rA", torch=torch_root)
    assert done.returncode == 1, done.stdout + done.stderr
    for line in (
        "PASSED test_models.py::test_shape[models/a.pt]",
        "PASSED test_models.py::test_shape[models/c.pt]",
        "ERROR test_models.py::test_marked_without_the_fixture[models/bad.pt]",
        "FAILED test_models.py::test_fixture",
        "ERROR test_models.py::test_without_a_marker",
    ):
        assert line in done.stdout
    assert "not reached" not in done.stdout
    assert 'Mark the test with @pytest.mark.torchlink_model("models/a.pt").' in done.stdout


@pytest.mark.compile
def test_a_model_is_named_like_a_test_and_settings_name_them_all(project: Path, torch_root: Path) -> None:
    assert "1 passed" in run(project, "models/a.pt::verify", torch=torch_root).stdout
    once = run(project, "models/a.pt", "--torchlink-model", "models/a.pt", "models", torch=torch_root)
    assert "1 passed" in once.stdout
    (project / "pytest.ini").write_text(
        f"[pytest]\ntorchlink_models =\n  models/a.pt\n  models/c.pt\ntorchlink_args = --libtorch '{torch_root}'\n"
    )
    assert "2 passed" in run(project).stdout
    assert "1 passed, 1 deselected" in run(project, "-k", "c.pt").stdout
    assert "2 passed" in run(project, "-m", "torchlink_model").stdout
    (project / "test_other.py").write_text("def test_other(): pass\n")
    assert "1 passed" in run(project, "test_other.py").stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--torchlink-model", "none/*.pt"], "none/*.pt: no model matches this pattern."),
        (
            ["--torchlink-model", "models", "--torchlink-args=--nonsense 3"],
            "no options of `torchlink verify`",
        ),
        (["--torchlink-model", "models", "--torchlink-args=--json"], "and json is none"),
        (["--torchlink-model", "models", "--torchlink-args='"], "No closing quotation"),
    ],
)
def test_what_is_wrong_with_the_options_is_one_error(project: Path, options: list[str], message: str) -> None:
    done = run(project, *options)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_without_models_imports_nothing_of_torchlink(project: Path) -> None:
    (project / "test_light.py").write_text(
        "import sys\n"
        "def test_light():\n"
        "    own = {name for name in sys.modules if name.partition('.')[0] == 'torchlink'}\n"
        "    assert own == {'torchlink', 'torchlink.pytest_plugin'}\n"
    )
    done = run(project, "-q")
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
