"""A loader that is started on speculation never changes what is reported, and never stays behind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from torchlink.build import cache
from torchlink.verify import early

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

FACTS = {"command": "true"}


def publish(key: str, text: str) -> Path:
    """A shell script in a loader's place; returns its path."""
    with cache.workspace() as work:
        (work / "entry").mkdir()
        program = work / "entry" / "loader"
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
        return cache.publish(key, work / "entry", "loader", FACTS).program


def test_the_loader_of_last_time_is_started_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHLINK_CACHE_DIR", str(tmp_path))
    with early.head_start(["--cpu"]):
        assert early.current().session is None
        early.current().remember(publish("k", "exec sleep 100"))
    with early.head_start(["--cpu", "model.pt"]):
        session = early.current().session
        assert session is not None
        process = session._process
        assert process.poll() is None
    assert process.poll() is not None
    assert early.current().session is None


@pytest.mark.parametrize("arguments", [["--help"], ["--cpu", "-h"]])
def test_for_help_nothing_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("TORCHLINK_CACHE_DIR", str(tmp_path))
    with early.head_start(arguments[:-1]):
        early.current().remember(publish("k", "exec sleep 100"))
    with early.head_start(arguments):
        assert early.current().session is None


def test_the_question_is_what_chooses_the_loader() -> None:
    assert early.question(["a.pt", "--input", "3"]) == early.question([])
    assert early.question(["--via", "cmake"]) != early.question(["--via", "nim"]) != early.question([])
    assert early.question(["--libtorch=/a"]) != early.question(["--libtorch=/b"])


@pytest.mark.compile
@pytest.mark.parametrize("wrong", ["exec sleep 100", "exit 3", "echo nonsense; echo noise >&2"])
def test_a_wrong_guess_is_not_used(torchlink: Callable[..., Result], torch_root: Path, wrong: str) -> None:
    words = ("--libtorch", str(torch_root), "--json")
    right = json.loads(torchlink("verify", *words).out)
    cache.remember_recent(early.question(words), publish(f"wrong{len(wrong)}", wrong))
    result = torchlink("verify", *words)
    report = json.loads(result.out)
    assert result.code == 0
    assert report["models"][0]["outputs"] == right["models"][0]["outputs"]
