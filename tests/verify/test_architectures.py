"""Real architectures, randomly initialised: each form runs without --input and agrees with Python."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import installed, made_once

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result

TOOL = Path(__file__).parent.parent.parent / "tools" / "architectures.py"
# Two of each form; all of them, which take half an hour, are tools/architectures.py's.
FORMS = {
    "traced": ("regnet", "distilbert"),
    "scripted": ("regnet", "convnext"),
    "frozen": ("regnet", "distilbert"),
    "quantized": ("convnext", "distilbert"),
    "aoti": ("lstm", "gru"),
}

pytestmark = pytest.mark.compile


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    installed("timm")
    installed("transformers")
    return made_once(tmp_path_factory, "architectures", write)


def write(directory: Path) -> None:
    for form, names in FORMS.items():
        command = [sys.executable, str(TOOL), str(directory), "--only", ",".join(names), "--forms", form]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_form_agrees_with_python_without_inputs(
    torchlink: Callable[..., Result], models: Path, torch_root: Path
) -> None:
    done = torchlink("verify", "--libtorch", str(torch_root), str(models), "--against", "python", "--json")
    report = json.loads(done.out)
    results = {Path(model["path"]).stem: model for model in report["models"]}
    assert set(results) == {f"{name}-{form}" for form, names in FORMS.items() for name in names}
    assert not {name: model["error"] for name, model in results.items() if not model["ok"]}
    assert all(model["against"]["ok"] for model in results.values())


def test_given_inputs_are_taken_too(torchlink: Callable[..., Result], models: Path, torch_root: Path) -> None:
    stem = models / "distilbert-traced"
    command = (
        "verify",
        "--libtorch",
        str(torch_root),
        f"{stem}.pt",
        "--inputs",
        f"{stem}.inputs.npz",
        "--json",
    )
    (model,) = json.loads(torchlink(*command).out)["models"]
    assert model["ok"]
    assert model["inputs"][0]["why"] == "given"
