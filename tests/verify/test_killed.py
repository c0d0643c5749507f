"""A verify that is killed or interrupted leaves no loader behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import needed, program, until

torch = needed("torch")

from torch import Tensor, nn  # noqa: E402 - needs torch

from tests.verify.small_models import save  # noqa: E402 - needs torch

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.compile, pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")]


class Endless(nn.Module):
    """Never returns."""

    def forward(self, x: Tensor) -> Tensor:
        while bool(x.sum() < 1e9):
            x = x * 1
        return x


def children(parent: int) -> list[int]:
    """The processes that a process started."""
    threads = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(word) for file in threads for word in file.read_text(encoding="ascii").split()]


@pytest.fixture
def endless(tmp_path: Path, torch_root: Path, private_cache: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts a verify of two models that never return; the loader is there already."""
    models = [str(save(Endless(), tmp_path / f"{name}.pt")) for name in ("one", "two")]
    command = [sys.executable, "-m", "torchlink", "verify", "--libtorch", str(torch_root), "--input"]
    environment = {**os.environ, "TORCHLINK_CACHE_DIR": str(private_cache)}
    subprocess.run(
        [*command, "float32[1,4]"], env=environment, check=True, stdout=subprocess.DEVNULL, timeout=300
    )
    return lambda jobs, options=(), **how: subprocess.Popen(
        [*command, "float32[4]", "-j", str(jobs), *models[:jobs], *options],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        **how,
    )


def test_a_model_that_never_returns_does_not_outlive_a_killed_verify(
    endless: Callable[..., subprocess.Popen[str]],
) -> None:
    running = endless(1)
    until(lambda: children(running.pid))
    loaders = children(running.pid)
    running.kill()
    running.communicate(timeout=60)
    until(lambda: not any(Path(f"/proc/{loader}").exists() for loader in loaders))


ESCAPES = """
#include <unistd.h>
__attribute__((constructor)) static void act(void) {
  if (fork() != 0) return;
  setsid();
  if (fork() == 0) execlp("sleep", "sleep", "%d", (char *)0);
  pause();
}
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "terminated"])
def test_what_a_model_starts_in_a_session_of_its_own_ends_with_verify(
    endless: Callable[..., subprocess.Popen[str]], tmp_path: Path, number: signal.Signals
) -> None:
    seconds = 100_000 + os.getpid() * 10 + number % 10  # names the process
    source, library = tmp_path / "act.c", tmp_path / "act.so"
    source.write_text(ESCAPES % seconds, encoding="utf-8")
    subprocess.run([program("cc"), "-shared", "-fPIC", source, "-o", library], check=True, timeout=60)

    def sleeping() -> bool:
        wanted = f"sleep\0{seconds}\0".encode()
        return any(_content(file) == wanted for file in Path("/proc").glob("[0-9]*/cmdline"))

    running = endless(1, options=("--library", library))
    until(sleeping)
    running.send_signal(number)
    running.communicate(timeout=60)
    until(lambda: not sleeping())


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # it has ended
        return b""


@pytest.mark.parametrize("group", [True, False], ids=["the whole group", "the process alone"])
def test_models_that_never_return_end_with_an_interrupted_verify(
    endless: Callable[..., subprocess.Popen[str]], *, group: bool
) -> None:
    running = endless(2, start_new_session=True)
    until(lambda: len(children(running.pid)) >= 2)
    loaders = children(running.pid)
    if group:
        os.killpg(running.pid, signal.SIGINT)
    else:
        running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert "Traceback" not in said
    until(lambda: not any(Path(f"/proc/{loader}").exists() for loader in loaders))
