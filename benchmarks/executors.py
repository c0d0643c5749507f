"""What `torchlink verify --executor dask=…` costs beside `torchlink verify -j 2`.

    python benchmarks/executors.py [--models N] [--rounds N] [--seconds S]

A scheduler and two workers with a thread each run on this machine; both sides use two processors. The models compute
on one thread for about S seconds each; the set takes at least 30 s with -j 2 where N and S are the defaults. Both
sides run in turn; medians are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MAKE = """
import shutil, sys, time, warnings
import torch
warnings.simplefilter("ignore")
torch.set_num_threads(1)
directory, count, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
class Work(torch.nn.Module):
    def __init__(self, rounds: int):
        super().__init__()
        self.rounds = rounds
        self.layer = torch.nn.Linear(512, 512)
    def forward(self, x):
        for _ in range(self.rounds):
            x = torch.tanh(self.layer(x))
        return x
with torch.no_grad():
    trial = torch.jit.script(Work(500))
    trial(torch.ones(64, 512))
    start = time.perf_counter()
    trial(torch.ones(64, 512))
    rounds = int(500 * seconds / (time.perf_counter() - start))
for number in range(count):
    torch.jit.script(Work(rounds)).save(f"{directory}/model{number:03}.pt")
"""
INPUT = ("--input", "float32[64,512]")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.55, help="of a call; a model is called four times")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="torchlink-benchmark-") as name:
        work = Path(name)
        models = work / "models"
        models.mkdir()
        os.environ["TORCHLINK_CACHE_DIR"] = str(work / "cache")
        make = work / "make.py"  # a file: TorchScript reads the source
        make.write_text(MAKE)
        run([sys.executable, str(make), str(models), str(arguments.models), str(arguments.seconds)])
        verify = [sys.executable, "-m", "torchlink", "verify", *INPUT]
        run([*verify, str(models / "model000.pt")])  # builds the loader
        started: list[subprocess.Popen[bytes]] = []
        try:
            address = cluster(work, started)
            run([*verify, str(models / "model000.pt"), "--executor", f"dask={address}"])
            ours, theirs = [], []
            for _ in range(arguments.rounds):
                theirs.append(run([*verify, str(models), "-j", "2"]))
                ours.append(run([*verify, str(models), "--executor", f"dask={address}"]))
        finally:
            for process in started:
                process.kill()
                process.wait()
    dask, alone = statistics.median(ours), statistics.median(theirs)
    note = "" if alone >= 30 else " (less than 30 s: say more --models)"
    print(
        f"{arguments.models} models: dask with two workers {dask:.1f} s, -j 2 {alone:.1f} s{note}, "
        f"ratio {dask / alone:.2f} (at most 1.3)"
    )


def cluster(work: Path, started: list[subprocess.Popen[bytes]]) -> str:
    """Start a scheduler and two workers; returns the address."""
    import distributed

    file = work / "scheduler.json"
    shared = ("--scheduler-file", str(file), "--no-dashboard")
    commands = [["scheduler", "--host", "127.0.0.1", "--port", "0"], *[["worker", "--nthreads", "1"]] * 2]
    for what, *options in commands:
        if what == "worker":
            while not file.exists():
                time.sleep(0.05)
            options += ["--no-nanny", "--local-directory", str(work / f"worker{len(started)}")]
        words = [sys.executable, "-m", f"distributed.cli.dask_{what}", *shared, *options]
        with (work / "dask.log").open("ab") as log:
            started.append(subprocess.Popen(words, stdout=log, stderr=log))
    address = str(json.loads(file.read_text())["address"])
    with distributed.Client(address, timeout=120, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=120)
    return address


def run(command: list[str]) -> float:
    """Run to the end and return the seconds; a failure ends the benchmark with its output."""
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
