"""Measure `torchlink lint` with all its rules against tools that only list a closure.

    python benchmarks/lint.py [RUNS] [BINARY...]

Measures a program that it links against the libtorch that torchlink finds, and that libtorch's libtorch_python.so; or
the binaries on the command line. The other tools are pax-utils' `lddtree` (the Python program on PATH, run by this
Python, which has pyelftools) and `auditwheel lddtree` (on PATH or next to this Python); a missing one is skipped.
The commands alternate (A B C, A B C, …) and medians are printed, so that changes in the machine's speed affect all
of them. Then it measures resolving and the search for unused libraries in one process, and peak memory.
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
# Without bytecode on disk every start would measure Python's compiler.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
# A call into libtorch by its mangled name, which needs no headers and so compiles quickly.
SOURCE = "void *_ZN2at13globalContextEv(void);\nint main(void) { return _ZN2at13globalContextEv() == 0; }\n"


def programs() -> dict[str, list[str]]:
    """Return the commands to compare; the binary is appended to each."""
    found = {"torchlink lint": [str(SCRIPTS / "torchlink"), "lint"]}
    lddtree = shutil.which("lddtree")
    if lddtree:
        found["lddtree (pax-utils)"] = [sys.executable, lddtree]
    auditwheel = shutil.which("auditwheel") or shutil.which("auditwheel", path=str(SCRIPTS))
    if auditwheel:
        found["auditwheel lddtree"] = [auditwheel, "lddtree"]
    return found


def binaries(directory: Path) -> list[Path]:
    """Return a program linked against libtorch, and libtorch_python.so if there is one."""
    libtorch = torchlink.find()
    app = directory / "app"
    command = ["cc", "-x", "c", "-", "-o", str(app), f"-L{libtorch.library_dir}", "-ltorch_cpu", "-lc10"]
    flags = [f"-Wl,-rpath,{libtorch.library_dir}", "-Wl,--unresolved-symbols=ignore-in-shared-libs"]
    subprocess.run([*command, *flags], input=SOURCE, text=True, check=True)
    python = libtorch.library_dir / "libtorch_python.so"
    return [app, *([python] if python.exists() else [])]


def run(command: list[str]) -> tuple[float, float]:
    """Return the wall seconds and peak resident MiB of one process; exit code 1 (findings) is not a failure."""
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
        run(command)  # warm the page cache, and let Python write bytecode
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            measured[name].append(run(command))
    own, _ = medians(measured["torchlink lint"])
    print(f"\n{binary}")
    for name, values in measured.items():
        seconds, memory = medians(values)
        print(f"{seconds * 1000:9.1f} ms  {memory:6.1f} MiB   ratio {own / seconds:5.2f}   {name}")


def medians(values: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the median of each column."""
    return statistics.median(first for first, _ in values), statistics.median(second for _, second in values)


def in_process(binary: Path, runs: int) -> None:
    """Print the time of resolving and of finding unused libraries, with files opened again each time."""
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
