"""Running the commands of a build, and saying what is wrong where one fails."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from torchlink.build.cache import keep_log
from torchlink.build.diagnostics import decisive_lines
from torchlink.errors import BuildFailedError
from torchlink.process import run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def run_steps(steps: Sequence[Sequence[str]], directory: Path, *, log_name: str) -> float:
    """Run commands in a directory, one after the other, and return the seconds that took.

    Raises:
        BuildFailedError: one failed; the details show its decisive lines, the command, and where its whole
            output is.
        FileError: that log cannot be written.
    """
    seconds = 0.0
    log = ""
    for step in steps:
        done = run(step, cwd=directory)
        seconds += done.seconds
        output = f"{done.stdout}{done.stderr}"
        command = shlex.join(step)
        log += f"$ {command}\n{output}\nexit status {done.returncode}\n\n"
        if done.returncode != 0:
            path = keep_log(log_name, log)
            killed = f" (killed by signal {-done.returncode})" if done.returncode < 0 else ""
            raise BuildFailedError(
                f"The reference loader could not be built{killed}.",
                hint="The same words fail in a program of yours; `torchlink find` shows what they rest on.",
                details=(*decisive_lines(output), f"command: {command}", f"full log: {path}"),
            )
    return seconds
