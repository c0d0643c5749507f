"""How fast `torchlink explain` is: a one-line log against `torchlink flags --json`, a long one against a plain loop.

    python benchmarks/explain.py

CPU seconds of child processes, the best of several runs: both are bound by it, and it is steadier than wall time.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

LINES = 200_000
# What a person would write instead: each line searched with one expression of seven words.
LOOP = """
import re, sys
wanted = re.compile(r"undefined reference|undefined symbol|cannot open shared object|No such file|not found|"
                    r"fatal error|GLIBCXX_")
with open(sys.argv[1]) as log:
    for line in log:
        wanted.search(line)
"""
ONE_LINE = "./app: error while loading shared libraries: libtorch_cpu.so: cannot open shared object file\n"
WORDS = ("kernel", "conv", "tensor", "impl", "graph", "pass", "node", "dispatch", "autograd", "native", "cpu")


def main() -> None:
    """Print the measurements."""
    torchlink = str(Path(sys.executable).parent / "torchlink")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as directory:
        one, build, noisy = (Path(directory) / name for name in ("one.log", "build.log", "noisy.log"))
        one.write_text(ONE_LINE)
        for log, line in ((build, line_of_a_build), (noisy, line_with_warnings)):
            with log.open(
                "w"
            ) as stream:  # not as one text: a child's peak memory begins with that of its parent
                stream.writelines(map(line, range(LINES)))
        flags = best([torchlink, "flags", "--json"], environment, 15)
        explained = best([torchlink, "explain", str(one)], environment, 15)
        print(f"flags --json        {flags[0] * 1e3:6.0f} ms")
        print(f"explain, one line   {explained[0] * 1e3:6.0f} ms  {explained[0] / flags[0]:.2f} x")
        for log in (build, noisy):
            loop = best([sys.executable, "-c", LOOP, str(log)], environment, 3)
            explained = best([torchlink, "explain", str(log)], environment, 3)
            size = log.stat().st_size / 1e6
            print(f"loop, {size:.0f} MB {log.stem:<6} {loop[0]:6.2f} s")
            ratio, memory = explained[0] / loop[0], explained[1] / 1024
            print(f"explain             {explained[0]:6.2f} s   {ratio:.2f} x, {memory:.0f} MB")


def line_of_a_build(number: int) -> str:
    """Return a command of a verbose build against libtorch."""
    a, b, c, d = random.Random(number).choices(WORDS, k=4)
    flags = "-I/opt/libtorch/include -isystem /opt/libtorch/include/torch/csrc/api/include -O2 -g -std=gnu++17 -fPIC"
    target = f"CMakeFiles/{a}.dir/{b}/{c}_{number}.cpp.o"
    return (
        f"[{number}/{LINES}] /usr/bin/c++ -DUSE_{d} {flags} -MD -MT {target} -MF {target}.d -o {target} "
        f"-c /src/{b}/{c}_{number}.cpp\n"
    )


def line_with_warnings(number: int) -> str:
    """Return a line with many words of error messages, coloured and with a time stamp: nearly the worst case."""
    a, b, c, d = random.Random(number).choices(WORDS, k=4)
    text = (
        f"/src/{a}/{b}_{number}.cpp:{number}:7: \x1b[35mwarning: \x1b[mcomparison of integers [-Wsign-compare]",
        f"  {number} |   for (int i = 0; i < {c}.size(); ++i) {{ // at::Tensor {d} = torch::zeros({{1}});",
        f"/opt/libtorch/include/ATen/{a}/{b}.h:{number}: note: declared here: c10::{c}_{d}(std::string const&)",
        f"-- Looking for {a}_{b} - not found; could not find {c}, using the bundled {d} (no error)",
        f"test_{a}.py::{b}::{c}_{number} PASSED: expected scalar type Float, undefined behaviour: none, failed: 0",
    )[number % 5]
    return f"2026-01-01T00:00:00.{number:07d}Z {text} {'.' * 160}\n"


def best(command: list[str], environment: dict[str, str], times: int) -> tuple[float, int]:
    """Return the least CPU time of a command, and its peak memory in KiB."""
    found = []
    for _ in range(times):
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            _, _, usage = os.wait4(process.pid, 0)
            process.returncode = 0
        found.append((usage.ru_utime + usage.ru_stime, usage.ru_maxrss))
    return min(found)


if __name__ == "__main__":
    main()
