"""The labelled logs beside the repository: each must give its cause, and none that its label does not allow."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from torchlink.explain.explanation import explain

LOGS = REPOSITORY.parent / "shared" / "truth" / "logs"
NOTHING = "not-libtorch"


def labels() -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads((LOGS / "labels.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return found


@pytest.mark.skipif(not LOGS.is_dir(), reason="the labelled logs are not part of the repository")
def test_there_are_labels() -> None:
    assert labels()


@pytest.mark.parametrize("label", labels(), ids=lambda label: Path(label["file"]).stem)
def test_a_labelled_log(label: dict[str, Any]) -> None:
    log = (LOGS / label["file"]).read_bytes()
    found = {each.cause.id for each in explain([(label["file"], io.BytesIO(log))]).causes}
    allowed = {label["cause"], *label["also_ok"]}
    assert found <= allowed
    assert label["cause"] in found or label["cause"] == NOTHING
