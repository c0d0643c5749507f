"""Measure the kind embedded-python: what several interpreters gain, and what each kind of isolation costs.

    python benchmarks/embedded_python.py PROJECT [--rounds N] [--repeat R] [--cycles N]

PROJECT is a directory that `torchlink new embedded-python` wrote and that is built. Its model (make_package.py) is
almost only Python. Calls per second are medians of N rounds, in which all ways alternate.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

# The same model, called by threads of one interpreter.
THREADS = """
import sys, threading, time, torch
from torch.package import PackageImporter
package, count, repeat = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
model = PackageImporter(package).load_pickle("model", "model.pkl")
image = torch.ones(1, 1, 10, 10)
def work():
    with torch.no_grad():
        for _ in range(repeat // count):
            model(image)
model(image)
threads = [threading.Thread(target=work) for _ in range(count)]
begin = time.perf_counter()
for thread in threads: thread.start()
for thread in threads: thread.join()
print(f"{repeat / (time.perf_counter() - begin):.1f} calls per second")
"""
SMALL = """
import torch
class Small(torch.nn.Module):
    def forward(self, tensor): return tensor
"""
PACK_SMALL = """
import sys
from torch.package import PackageExporter
sys.path.insert(0, sys.argv[2])
import small
with PackageExporter(sys.argv[1]) as exporter:
    exporter.intern("small")
    exporter.extern("torch.**")
    exporter.save_pickle("model", "model.pkl", small.Small())
"""


def rate(*command: str | Path) -> float:
    """Run a command and return its calls per second."""
    done = subprocess.run([*map(str, command)], check=True, capture_output=True, text=True)
    found = re.search(r"([\d.]+) calls per second", done.stdout)
    return float(found[1]) if found else 0.0


def memory(process: subprocess.Popen[str]) -> int:
    """Return the resident memory of a process and its children, in MB."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue
        if re.search(rf"^P?Pid:\s+{process.pid}$", text, re.MULTILINE):
            found = re.search(r"^RssAnon:\s+(\d+)", text, re.MULTILINE)
            total += int(found[1]) if found else 0
    return total // 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=2000)
    parser.add_argument("--cycles", type=int, default=100)
    arguments = parser.parse_args()
    program = arguments.project / "build/embedded-python"
    package = arguments.project / "build/package.pt"
    repeat = str(arguments.repeat)

    ways: dict[str, list[str | Path]] = {}
    for n in "124":
        one = [program, package, "--interpreters", n, "--repeat", repeat]
        ways[f"{n} interpreters, one process"] = one
        ways[f"{n} interpreters, worker processes"] = [*one, "--isolate", "process"]
        ways[f"{n} threads, one interpreter in C++"] = [*one[:2], "--threads", n, "--repeat", repeat]
        ways[f"{n} threads of Python"] = [sys.executable, "-W", "ignore", "-c", THREADS, package, n, repeat]
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, command in ways.items():
            rates[name].append(rate(*command))
    for name, each in rates.items():
        print(f"{name}: {statistics.median(each):.0f} calls per second")
    for kind in ("one process", "worker processes"):
        pairs = zip(rates[f"1 interpreters, {kind}"], rates[f"2 interpreters, {kind}"], strict=True)
        ratios = [two / one for one, two in pairs]
        print(
            f"two interpreters, {kind}: {statistics.median(ratios):.2f} times one, on {os.cpu_count()} cores"
        )

    made = arguments.project / "build/benchmark"
    made.mkdir(exist_ok=True)
    (made / "small.py").write_text(SMALL)
    small = made / "small.pt"
    subprocess.run([sys.executable, "-W", "ignore", "-c", PACK_SMALL, small, made], check=True)
    for isolation in ("namespace", "process"):
        empty = [program, small, "--repeat", "20000", "--isolate", isolation]
        print(f"a call that does nothing, {isolation}: {1e6 / rate(*empty):.0f} us")
        large = [program, small, "--repeat", "500", "--shape", "1024,1024", "--isolate", isolation]
        print(f"the same with 4 MB in and out, {isolation}: {1e6 / rate(*large):.0f} us")
        for count in (1, 4):
            command = [
                program,
                small,
                "--interpreters",
                str(count),
                "--repeat",
                "10000",
                "--isolate",
                isolation,
            ]
            begin = time.perf_counter()
            with subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                process.stdout.readline()
                started = time.perf_counter() - begin
                before = after = memory(process)
                while process.poll() is None:
                    after = memory(process) or after
                    time.sleep(0.05)
            print(
                f"{count} interpreters, {isolation}: started in {started:.1f} s, {before} MB, "
                f"{after} MB 10,000 calls later"
            )
    begin = time.perf_counter()
    for _ in range(arguments.cycles):
        rate(program, small, "--repeat", "1", "--isolate", "process")
    seconds = time.perf_counter() - begin
    left = [each.name for each in Path("/dev/shm").iterdir() if "python" in each.name]
    print(
        f"{arguments.cycles} starts and stops of a worker process: {seconds:.0f} s, left in /dev/shm: {left}"
    )


main()
