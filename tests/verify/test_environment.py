"""The loader is given a minimal environment, and what --env passes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from torchlink.compilation import cache
from torchlink.environment import KEPT, minimal_environment
from torchlink.errors import UsageError
from torchlink.process import MARK
from torchlink.verify import head_start
from torchlink.verify.options import VerifyOptions
from torchlink.verify.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result

LOADERS = ("LD_LIBRARY_PATH", "LD_PRELOAD")
SECRETS = (
    *("AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "NVIDIA_API_KEY", "TORCH_HUB_TOKEN", "CUDA_SECRET", "MY_OWN"),
    *LOADERS,
)
NEEDED = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "LC_ALL", "TMPDIR")


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHLINK_CACHE_DIR", str(tmp_path / "cache"))
    for name in (*SECRETS, *NEEDED):
        monkeypatch.setenv(name, "" if name.startswith("LD_") else "C" if name == "LC_ALL" else str(tmp_path))


def program(tmp_path: Path) -> Path:
    """In a loader's place, a program that answers with its environment."""
    script = tmp_path / "loader"
    script.write_text(
        "#!/usr/bin/python3 -I\n"
        "import json, os, sys\n"
        "for line in sys.stdin: print(json.dumps(dict(os.environ)), flush=True)\n"
    )
    script.chmod(0o755)
    return script


def test_the_loader_gets_what_it_needs_and_no_secrets(tmp_path: Path) -> None:
    with Session(program(tmp_path)) as session:
        given = session.ask("environment")
        session.restart()
        again = session.ask("environment")
    assert given.pop(MARK) != again.pop(MARK)  # by which a watcher finds what each process has started
    assert again == given
    assert set(NEEDED) <= given.keys()
    assert not set(SECRETS) & given.keys()
    assert {"PATH", "HOME"} <= given.keys()


def test_env_passes_more(tmp_path: Path) -> None:
    with Session(program(tmp_path), ("MY_OWN", "GITHUB_TOKEN=", "NEW=a=b", "NOT_SET")) as session:
        given = session.ask("environment")
    assert given["MY_OWN"] == str(tmp_path)
    assert (given["GITHUB_TOKEN"], given["NEW"]) == ("", "a=b")
    assert "NOT_SET" not in given


@pytest.mark.parametrize("wrong", ["", "=1", "LD_PRELOAD", "LD_LIBRARY_PATH=/x"])
def test_what_cannot_be_passed_is_a_usage_error(wrong: str) -> None:
    with pytest.raises(UsageError, match="--env"):
        minimal_environment([wrong])


@pytest.mark.parametrize("command", ["verify", "matrix"])
def test_the_commands_take_it(torchlink: Callable[..., Result], command: str, torch_root: Path) -> None:
    result = torchlink(command, "--env", "LD_PRELOAD=x", "--libtorch", torch_root)
    assert result.code == 2
    assert "--env LD_PRELOAD" in result.err


def test_a_job_of_the_matrix_passes_it_on(torchlink: Callable[..., Result], torch_root: Path) -> None:
    result = torchlink("matrix", "--github", "--env", "MY_OWN", "--libtorch", torch_root)
    assert "--env MY_OWN" in json.dumps(json.loads(result.out)["include"][0])


def test_a_loader_that_is_started_on_speculation_is_given_what_is_passed_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_OWN", "x")
    with cache.workspace() as work:
        (work / "entry").mkdir()
        program(work / "entry")
        entry = cache.publish("k", work / "entry", "loader", {})
    for env, given in ((), False), (("MY_OWN",), True), (("OTHER=1",), False):
        options = VerifyOptions(env=env)
        cache.remember_recent(head_start.question(None, None, options), entry.program)
        with head_start.head_start(None, None, options) as start:
            assert start.session is not None
            assert ("MY_OWN" in start.session.ask("environment")) == given


def test_the_page_lists_what_is_kept() -> None:
    page = (Path(__file__).parents[2] / "docs/security.md").read_text(encoding="utf-8")
    kept = set(re.findall(r"`([A-Z][A-Z0-9_]+\*?)`", page.partition("## What `verify` runs")[2]))
    assert set(KEPT.split()) <= kept
