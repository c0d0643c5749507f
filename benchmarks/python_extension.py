"""Measure the import of the plain Python extension against loading the same libtorch with dlopen.

    python benchmarks/python_extension.py [RUNS]

The project that `torchlink new python-extension` writes is built by pip, as its README says, once. Then new processes
alternate, and each times only the import or the dlopen. Needs a Python that has torchlink, torch, build and pip.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torchlink

REPOSITORY = Path(__file__).parent.parent
TIMED = (
    "import sys, time; sys.path.insert(0, sys.argv[1]); {0}; "
    "start = time.perf_counter(); {1}; print(time.perf_counter() - start)"
)
LOAD = "ctypes.CDLL(sys.argv[1] + '/torch/lib/libtorch_cpu.so')"
SCRIPTS = {
    "dlopen of libtorch_cpu.so": TIMED.format("import ctypes", LOAD),
    "import of the plain extension": TIMED.format("pass", "import measured"),
    "import torch": TIMED.format("pass", "import torch"),
}


def build(directory: Path) -> Path:
    """Build the project with pip; return a directory with the package and torch, as in site-packages."""
    environment = {
        **os.environ,
        "PIP_FIND_LINKS": f"{directory.as_uri()} {os.environ.get('PIP_FIND_LINKS', '')}",
    }
    for words in (
        ["build", "--wheel", "--outdir", directory, REPOSITORY],
        ["torchlink", "new", "python-extension", directory / "project", "--name", "measured"],
        ["pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", directory / "wheels", directory / "project"],
        ["pip", "install", "--quiet", "--no-deps", "--target", directory / "site", "--no-index", "--find-links",
         directory / "wheels", "measured"],
    ):  # fmt: skip
        subprocess.run(
            [sys.executable, "-m", *(str(word) for word in words)],
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=directory,
        )
    (directory / "site" / "torch").symlink_to(torchlink.find(python=sys.executable).root)
    return directory / "site"


def main() -> None:
    """Measure and print."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as directory:
        site = build(Path(directory))
        times: dict[str, list[float]] = {name: [] for name in SCRIPTS}
        for turn in range(runs + 1):
            for name, script in SCRIPTS.items():
                words = [sys.executable, "-c", script, str(site)]
                done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
                if turn:  # the first warms the page cache and writes bytecode
                    times[name].append(float(done.stdout))
    base = statistics.median(times["dlopen of libtorch_cpu.so"])
    for name, measured in times.items():
        median = statistics.median(measured)
        print(f"{median * 1000:9.1f} ms   {median / base:5.2f}   {name}")


if __name__ == "__main__":
    main()
