"""How long `torchlink lint` takes with all its rules, against the peers that only list a closure.

    python benchmarks/lint.py [RUNS] [BINARY...]

Measures a program that it links against the libtorch that torchlink finds, and libtorch_python.so beside it; or
the binaries that are named. The peers are pax-utils' `lddtree` (the Python program on PATH, run by this Python,
which has pyelftools) and `auditwheel lddtree` (on PATH or beside this Python); one that is absent is left out.
The commands run in turn (A B C, A B C, …) in one go, and medians are printed, so that a machine whose speed
drifts does not decide. Then: resolving and the analysis of unused libraries in one process, and peak memory.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torchlink
from torchlink.binary.bindings import Scope
from torchlink.binary.loader import OpenFiles, resolve

SCRIPTS = Path(sys.executable).parent
# Without byte code on disk every start would measure the compiler.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
# A call into libtorch by its mangled name: no headers, so that nothing has to be compiled for seconds.
SOURCE = "void *_ZN2at13globalContextEv(void);\nint main(void) { return _ZN2at13globalContextEv() == 0; }\n"


def programs() -> dict[str, list[str]]:
    """The commands to compare; the binary stands behind them."""
    found = {"torchlink lint": [str(SCRIPTS / "torchlink"), "lint"]}
    lddtree = shutil.which("lddtree")
    if lddtree:
        found["lddtree (pax-utils)"] = [sys.executable, lddtree]
    auditwheel = shutil.which("auditwheel") or shutil.which("auditwheel", path=str(SCRIPTS))
    if auditwheel:
        found["auditwheel lddtree"] = [auditwheel, "lddtree"]
    return found


def binaries(directory: Path) -> list[Path]:
    """A program linked against libtorch, and libtorch_python.so where there is one."""
    libtorch = torchlink.find()
    app = directory / "app"
    command = ["cc", "-x", "c", "-", "-o", str(app), f"-L{libtorch.library_dir}", "-ltorch_cpu", "-lc10"]
    words = [f"-Wl,-rpath,{libtorch.library_dir}", "-Wl,--unresolved-symbols=ignore-in-shared-libs"]
    subprocess.run([*command, *words], input=SOURCE, text=True, check=True)
    python = libtorch.library_dir / "libtorch_python.so"
    return [app, *([python] if python.exists() else [])]


def run(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak resident MiB of one whole process; finding something is no failure."""
    start = time.perf_counter()
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in {0, 1}:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return seconds, usage.ru_maxrss / 1024


def compare(binary: Path, runs: int) -> None:
    """Print the medians and ratios for one binary."""
    commands = {name: [*words, str(binary)] for name, words in programs().items()}
    for command in commands.values():
        run(command)  # warm the page cache, and let Python write byte code
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            measured[name].append(run(command))
    own, _ = medians(measured["torchlink lint"])
    print(f"\n{binary}")
    for name, values in measured.items():
        seconds, memory = medians(values)
        print(f"{seconds * 1000:9.1f} ms  {memory:6.1f} MiB   {own / seconds:5.2f} of it   {name}")


def medians(values: list[tuple[float, float]]) -> tuple[float, float]:
    """Of each column."""
    return statistics.median(first for first, _ in values), statistics.median(second for _, second in values)


def in_process(binary: Path, runs: int) -> None:
    """Print what resolving and the analysis of unused libraries take, files opened again each time."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        closure = resolve(binary, files=OpenFiles())
        Scope(closure).unused_needed(closure.subject.path)
        times.append(time.perf_counter() - start)
    median = statistics.median(times[1:])  # the first one fills the page cache
    print(f"{median * 1000:9.1f} ms   resolve and unused, {len(closure.objects)} objects, {binary.name}")


def main() -> None:
    """Measure and print."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    with tempfile.TemporaryDirectory() as scratch:
        named = [Path(word) for word in sys.argv[2:]] or binaries(Path(scratch))
        for binary in named:
            compare(binary, runs)
        print("\nin one process")
        for binary in named:
            in_process(binary, runs)


if __name__ == "__main__":
    main()
