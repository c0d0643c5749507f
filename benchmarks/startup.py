"""Measure `torchlink flags --cxx` and `torchlink find` against asking torch itself.

    python benchmarks/startup.py [RUNS]

The commands alternate (A B C, A B C, …) and medians and ratios are printed, so that changes in the machine's speed
affect all of them. Needs a Python that has both torchlink and torch.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

SCRIPTS = Path(sys.executable).parent
PEER = (
    "from torch.utils.cpp_extension import include_paths, library_paths\n"
    "import torch\n"
    "print(include_paths(), library_paths(), torch.compiled_with_cxx11_abi())"
)
COMMANDS = {
    "python -c 'from torch.utils.cpp_extension import …'": [sys.executable, "-c", PEER],
    "torchlink flags --cxx": [str(SCRIPTS / "torchlink"), "flags", "--cxx"],
    "torchlink find": [str(SCRIPTS / "torchlink"), "find"],
    "torchlink --version": [str(SCRIPTS / "torchlink"), "--version"],
    "python -c pass": [sys.executable, "-c", "pass"],
}
# Without bytecode on disk every start would measure Python's compiler.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def seconds(command: list[str]) -> float:
    """Return the wall seconds of one process."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, env=ENVIRONMENT, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for command in COMMANDS.values():
        seconds(command)  # warm the page cache and torchlink's cache
    for _ in range(runs):
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))
    peer = statistics.median(next(iter(times.values())))
    for name, measured in times.items():
        median = statistics.median(measured)
        print(f"{median * 1000:9.1f} ms   1/{peer / median:5.1f}   {name}")


if __name__ == "__main__":
    main()
