"""A loader that is started on speculation never changes what is reported, and never stays behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from torchlink.compilation import cache
from torchlink.plan import PlanOptions
from torchlink.verify import head_start
from torchlink.verify.options import VerifyOptions

if TYPE_CHECKING:
    from collections.abc import Callable

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


CPU = VerifyOptions(plan=PlanOptions(cpu_only=True))


def test_the_loader_of_last_time_is_started_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHLINK_CACHE_DIR", str(tmp_path))
    with head_start.head_start(None, None, CPU) as start:
        assert start.session is None
        start.remember(publish("k", "exec sleep 100"))
    with head_start.head_start(None, None, CPU) as start:
        assert start.session is not None
        process = start.session._process
        assert process.poll() is None
    assert process.poll() is not None


@pytest.mark.parametrize("word", ["--help", "-h", "--nonsense"])
def test_for_help_and_errors_nothing_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torchlink: Callable[..., Result], word: str
) -> None:
    monkeypatch.setenv("TORCHLINK_CACHE_DIR", str(tmp_path))
    with head_start.head_start(None, None, CPU) as start:
        start.remember(publish("k", f"touch {tmp_path}/started; exec sleep 100"))
    assert torchlink("verify", "--cpu", word).code == (2 if word == "--nonsense" else 0)
    assert not (tmp_path / "started").exists()


def test_variables_that_are_passed_on_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHLINK_CACHE_DIR", str(tmp_path))
    with head_start.head_start(None, None, CPU) as start:
        start.remember(publish("k", 'read -r _; printf "{\\"said\\": \\"%s\\"}\\n" "$MINE"'))
    with head_start.head_start(None, None, CPU._replace(env=("MINE=passed",))) as start:
        assert start.session is not None
        assert start.session.ask("anything") == {"said": "passed"}
    with head_start.head_start(None, None, CPU._replace(env=("=none",))) as start:
        assert start.session is None, "what is wrong with it is reported later"


def test_the_question_is_what_chooses_the_loader() -> None:
    def asked(libtorch: str | None = None, **options: Any) -> str:
        return head_start.question(Path(libtorch) if libtorch else None, None, VerifyOptions(**options))

    assert asked(inputs=("3",)) == asked()
    assert len({asked(), asked(via="cmake"), asked(via="nim"), asked(plan=PlanOptions(cpu_only=True))}) == 4
    assert asked("/a") != asked("/b")


@pytest.mark.compile
@pytest.mark.parametrize("wrong", ["exec sleep 100", "exit 3", "echo nonsense; echo noise >&2"])
def test_a_wrong_guess_is_not_used(torchlink: Callable[..., Result], torch_root: Path, wrong: str) -> None:
    words = ("--libtorch", str(torch_root), "--json")
    right = json.loads(torchlink("verify", *words).out)
    cache.remember_recent(
        head_start.question(torch_root, None, VerifyOptions()), publish(f"wrong{len(wrong)}", wrong)
    )
    result = torchlink("verify", *words)
    report = json.loads(result.out)
    assert result.code == 0
    assert report["models"][0]["outputs"] == right["models"][0]["outputs"]


def test_what_the_start_does_not_need_is_imported_after_it() -> None:
    code = (
        "import sys, torchlink.cli.verify, torchlink.verify.head_start\n"
        "print(*({'torchlink.plan', 'torchlink.toolchain', 'shutil', 'secrets', 'dataclasses'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
