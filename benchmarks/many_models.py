"""What `torchlink verify` of many small models costs beside a call for each, and beside Python that runs them.

    python benchmarks/many_models.py [--models N] [--rounds N] [--jobs N]

One call of `torchlink verify DIRECTORY` against N warm calls of `torchlink verify MODEL`, of which a sample is
measured and multiplied, and against one Python process that imports torch, loads each model and calls it. Both
sides run in turn; medians are compared. Last comes the peak memory of torchlink's own process, without its loaders.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MAKE = """
import sys, warnings
import torch
warnings.simplefilter("ignore")
for number in range(int(sys.argv[2])):
    torch.manual_seed(number)
    width = 4 + number % 5
    layers = torch.nn.Sequential(torch.nn.Linear(width, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()
    torch.jit.script(layers).save(f"{sys.argv[1]}/model{number:03}.pt")
"""
PYTHON = """
import glob, sys, warnings
import torch
warnings.simplefilter("ignore")
with torch.no_grad():
    for path in sorted(glob.glob(f"{sys.argv[1]}/*.pt")):
        model = torch.jit.load(path)
        model(torch.ones(1, next(model.parameters()).shape[1]))
"""
OWN_MEMORY = """
import resource, sys
from torchlink.cli.main import main
code = main(sys.argv[1:])
lines = open("/proc/self/status").read().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("VmHWM:")), file=sys.stderr)
sys.exit(code)
"""
SAMPLE = 5  # single calls a round


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, help="torchlink's own choice otherwise")
    arguments = parser.parse_args()
    verify = [sys.executable, "-m", "torchlink", "verify"]
    jobs = ["-j", str(arguments.jobs)] if arguments.jobs else []
    with tempfile.TemporaryDirectory(prefix="torchlink-benchmark-") as name:
        work = Path(name)
        models = work / "models"
        models.mkdir()
        os.environ["TORCHLINK_CACHE_DIR"] = str(work / "cache")
        run([sys.executable, "-c", MAKE, str(models), str(arguments.models)])
        first = str(models / "model000.pt")
        run([*verify, first])  # builds the loader
        many, single, python = [], [], []
        for _ in range(arguments.rounds):
            many.append(run([*verify, str(models), *jobs]))
            python.append(run([sys.executable, "-c", PYTHON, str(models)]))
            single += [run([*verify, first]) for _ in range(SAMPLE)]
        ours, one, theirs = map(statistics.median, (many, single, python))
        said = f"{arguments.models} models in one call {ours:.2f} s"
        each = one * arguments.models
        print(f"{said}, {arguments.models} calls {each:.1f} s, ratio {ours / each:.3f} (at most 0.15)")
        print(f"{said}, one Python process {theirs:.2f} s, ratio {ours / theirs:.2f} (at most 0.5)")
        own = subprocess.run(
            [sys.executable, "-c", OWN_MEMORY, "verify", str(models), *jobs],
            capture_output=True,
            text=True,
            check=True,
        )
        print(f"torchlink's own process: {int(own.stderr.split()[-1]) / 1024:.0f} MiB (under 80 MB)")


def run(command: list[str]) -> float:
    """Run to the end and return the seconds; a failure ends the benchmark with its output."""
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
