"""Compare the server of `torchlink new server` to uvicorn, to torch-serving's design, and to its own parts.

    python benchmarks/server.py [--rounds N] [--seconds S] [--server build/server]

Needs wrk, cpp-httplib and nlohmann/json (Debian packages), and `uvicorn[standard]`. All are measured in turns;
medians count.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parent / "examples/server/src"
TORCHLINK = Path(sys.executable).parent / "torchlink"
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def matmul() -> torch.nn.Module:
    """Return a model that is bound by the memory that its weights are read from."""
    sizes = (64, 2048, 2048, 8)
    return torch.nn.Sequential(*(torch.nn.Linear(*each) for each in itertools.pairwise(sizes)))


def body(floats: int) -> str:
    """Return a request's body."""
    values = [round(0.001 * each - 0.3, 6) for each in range(floats)]
    return json.dumps(
        [{"type": "tensor", "data_type": "float32", "shape": [1, floats], "value": values}],
        separators=(",", ":"),
    )


class Load:
    """wrk, with one thread."""

    def __init__(self, directory: Path, seconds: float) -> None:
        self.directory, self.seconds = directory, seconds

    def run(self, url: str, connections: int, posted: str | None) -> tuple[float, float]:
        """Return requests per second, and the median latency in seconds."""
        script = self.directory / "post.lua"
        script.write_text(f"wrk.method = 'POST'\nwrk.body = '{posted}'\n" if posted else "")
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{self.seconds}s",
            "--latency",
            "-s",
            str(script),
            url,
        ]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        if "Non-2xx" in text or "Socket errors" in text:
            sys.exit(f"{url}: {text}")
        rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
        median = re.search(r"50%\s+([\d.]+)(us|ms|s)", text)
        assert rate
        assert median
        return float(rate[1]), float(median[1]) * UNITS[median[2]]


def started(stack: ExitStack, command: list[str | Path], **environment: str) -> str:
    """Start a server and return its address."""
    process = stack.enter_context(
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    )
    stack.callback(process.kill)
    assert process.stdout
    return f"http://127.0.0.1:{int(process.stdout.readline().rsplit(':', 1)[1])}"


def wait_for(url: str) -> None:
    """Wait until a server answers."""
    for _ in range(600):
        try:
            urllib.request.urlopen(url).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    sys.exit(f"{url} does not answer")


def compiled(source: Path, out: Path) -> Path:
    """Build one of the programs next to this script, unless it is there."""
    if out.is_file() and out.stat().st_mtime > source.stat().st_mtime:
        return out
    out.parent.mkdir(exist_ok=True)
    flags = subprocess.run(
        [TORCHLINK, "flags", "--cxx"], check=True, capture_output=True, text=True
    ).stdout.split()
    libraries = ["-lsimdjson", "-lpng", "-ljpeg", "-lcpp-httplib", "-pthread"]
    subprocess.run(
        ["c++", "-O3", "-DNDEBUG", f"-I{SOURCES}", source, "-o", out, *flags, *libraries], check=True
    )
    return out


def report(
    rate: dict[str, float], median: dict[str, float], part: dict[str, float], row: dict[str, float]
) -> None:
    """Print the ratios."""
    alone = part["parsed"] + part["forward"] + part["printed"]

    def compare(what: str, ours: float, name: str, other: float, unit: str) -> None:
        print(f"{what}: {ours:.0f} {unit}; {name}: {other:.0f}; ratio {ours / other:.2f}")

    compare("throughput, 64 connections", rate["throughput"], "uvicorn", rate["uvicorn"], "requests/s")
    compare("the same", rate["throughput"], "torch-serving's design", rate["torch-serving"], "requests/s")
    compare(
        "GET /ping, 64 connections",
        rate["ping, 64"],
        "cpp-httplib",
        rate["cpp-httplib ping, 64"],
        "requests/s",
    )
    compare("p50, 1 connection", median["latency"], "ping and bare", median["ping"] + alone, "us")
    compare("matmul in batches", rate["matmul, batches"], "alone", rate["matmul"], "requests/s")
    compare("a body of 64 numbers, nlohmann/json", row["nlohmann_parsed"], "simdjson", row["parsed"], "us")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--server", type=Path, required=True, help="build/server of a project")
    parser.add_argument("--build", type=Path, help="where to keep the programs that are compared")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="torchlink-benchmark-") as name, ExitStack() as stack:
        directory = Path(name)
        models = directory / "models"
        models.mkdir()
        torch.jit.script(torch.nn.Linear(3, 2).eval()).save(models / "small.pt")
        torch.jit.script(matmul().eval()).save(models / "matmul.pt")
        load = Load(directory, arguments.seconds)
        programs = arguments.build or directory
        bare = compiled(HERE / "server_bare.cpp", programs / "bare")
        baseline = compiled(HERE / "server_baseline.cpp", programs / "baseline")
        ours = started(stack, [arguments.server, "--models", models, "--port", "0"])
        batching = started(
            stack,
            [
                arguments.server,
                "--models",
                models,
                "--port",
                "0",
                "--max-batch",
                "32",
                "--batch-wait-ms",
                "2",
            ],
        )
        theirs = started(stack, [baseline, models / "small.pt"])
        socket = "8765"
        uvicorn = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "uvicorn", "server_app:app", "--port", socket, "--log-level", "error"],
                cwd=HERE,
                env={**os.environ, "MODEL": str(models / "small.pt")},
            )
        )
        stack.callback(uvicorn.kill)
        asgi = f"http://127.0.0.1:{socket}"
        wait_for(f"{asgi}/ping")  # it imports torch
        small, wide = body(3), body(64)
        plans = {
            "throughput": (f"{ours}/predictions/small", 64, small),
            "uvicorn": (f"{asgi}/predictions", 64, small),
            "torch-serving": (f"{theirs}/predictions", 64, small),
            "ping, 64": (f"{ours}/ping", 64, None),
            "cpp-httplib ping, 64": (f"{theirs}/ping", 64, None),
            "matmul": (f"{ours}/predictions/matmul", 64, wide),
            "matmul, batches": (f"{batching}/predictions/matmul", 64, wide),
            "latency": (f"{ours}/predictions/small", 1, small),
            "ping": (f"{ours}/ping", 1, None),
        }
        rates: dict[str, list[float]] = {each: [] for each in plans}
        medians: dict[str, list[float]] = {each: [] for each in plans}
        parts: list[dict[str, float]] = []
        large: list[dict[str, float]] = []
        for _ in range(arguments.rounds):
            for plan, (url, connections, posted) in plans.items():
                per_second, latency = load.run(url, connections, posted)
                rates[plan].append(per_second)
                medians[plan].append(latency)
            for found, model, floats in ((parts, "small", 3), (large, "matmul", 64)):
                ran = subprocess.run(
                    [bare, models / f"{model}.pt", str(floats)], check=True, capture_output=True, text=True
                )
                found.append(json.loads(ran.stdout))
    rate = {each: statistics.median(found) for each, found in rates.items()}
    median = {each: 1e6 * statistics.median(found) for each, found in medians.items()}
    part = {each: statistics.median(found[each] for found in parts) for each in parts[0]}
    row = {each: statistics.median(found[each] for found in large) for each in large[0]}
    report(rate, median, part, row)
    print(f"parts of a small request in us: {part}")
    print(f"{arguments.rounds} rounds of {arguments.seconds} s")


if __name__ == "__main__":
    main()
