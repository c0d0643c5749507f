"""Native code that a model brings can start processes, and write where it should not: only that model fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import needed, program, until

torch = needed("torch")

from torch import Tensor, nn  # noqa: E402 - needs torch

from tests.verify.small_models import save  # noqa: E402 - needs torch
from torchlink import find, verify  # noqa: E402 - after torch

if TYPE_CHECKING:
    from torchlink import VerifyReport

pytestmark = [
    pytest.mark.compile,
    pytest.mark.skipif(sys.platform != "linux", reason="the processes are Linux's"),
]

# What a library does when it is loaded.
LIBRARY = """
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
__attribute__((constructor)) static void act(void) { %s }
"""


class Verbose(nn.Module):
    """Raises an error of 1 MB."""

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("é".join([str(x.size(0)) for _ in range(400000)]))


class Meta(nn.Module):
    """Returns a tensor without values."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.empty([x.size(0)], device="meta")


@pytest.fixture
def run(tmp_path: Path, torch_root: Path) -> object:
    """Verifies models, with code that runs when their library is loaded."""

    def verified(code: str, *, models: int = 2) -> VerifyReport:
        source, library = tmp_path / "act.c", tmp_path / "act.so"
        source.write_text(LIBRARY % code, encoding="utf-8")
        subprocess.run(
            [program("cc"), "-shared", "-fPIC", "-w", source, "-o", library], check=True, timeout=60
        )
        paths = [save(nn.Linear(4, 3), tmp_path / f"{number}.pt") for number in range(models)]
        return verify(
            paths, libtorch=find(torch_root), inputs="float32[1,4]", libraries=library, timeout=60, jobs=1
        )

    return verified


def running(text: str) -> list[str]:
    """The processes whose command line has a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text in path.read_text(encoding="utf-8", errors="replace"):
                found.append(path.parent.name)
        except OSError:  # it ended
            continue
    return found


@pytest.mark.parametrize("models", [1, 2])
def test_processes_of_a_session_of_their_own_end_with_the_model(run, models: int) -> None:  # type: ignore[no-untyped-def]
    mark = f"271.8{models}"
    report = run(f'if (!fork()) {{ setsid(); execlp("sleep", "sleep", "{mark}", (char*)0); }}', models=models)
    assert [model.ok for model in report.models] == [True] * models
    until(lambda: not running(mark), 10)


def test_a_model_that_returns_in_two_processes_answers_once(run) -> None:  # type: ignore[no-untyped-def]
    assert [model.ok for model in run("fork();").models] == [True, True]


def test_signals_to_the_process_group_reach_nobody_else(run) -> None:  # type: ignore[no-untyped-def]
    assert [(model.ok, model.signal) for model in run("kill(0, SIGKILL);").models] == [(False, "SIGKILL")] * 2
    assert [model.signal for model in run("kill(0, SIGKILL);", models=1).models] == ["SIGKILL"]


@pytest.mark.parametrize(
    "answer", ['{\\"event\\":\\"result\\"}', '{\\"event\\":\\"added', "[1]", "{}", '{\\"event\\":[]}']
)
def test_what_is_written_in_the_place_of_an_answer_is_the_models_failure(run, answer: str) -> None:  # type: ignore[no-untyped-def]
    code = f'for (int i = 3; i < 30; ++i) dprintf(i, "%s\\n", "{answer}");'
    for model in run(code).models:
        assert model.stage == "library"
        assert "wrote to the loader's file descriptors" in model.error.message


def test_pipes_that_no_longer_block_do_not_hurt_the_next_model(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code = f'if (!access("{tmp_path}/once", 0)) return; creat("{tmp_path}/once", 0600); fcntl(0, F_SETFL, O_NONBLOCK);'
    assert run(code).models[1].ok


def test_a_message_of_any_size_is_cut_and_has_no_backtrace(tmp_path: Path, torch_root: Path) -> None:
    models = [save(Verbose(), tmp_path / "verbose.pt"), save(Meta(), tmp_path / "meta.pt")]
    verbose, meta = verify(models, libtorch=find(torch_root), inputs="float32[1]").models
    assert verbose.error is not None
    assert len(str(verbose.error)) + len(str(verbose.error.details)) < 300_000
    assert "cannot be shown" in str(meta.outputs[0].note)
    assert "frame #0" not in str(meta.outputs[0].note)
