"""Compare running a model with inputs that torchlink works out to running it with the same inputs given.

    python benchmarks/inference.py [--rounds N] [--libtorch PATH]

Every model of the tests (tests/models) is run by the reference loader twice: with inputs that torchlink works out, and
with those same inputs given. The two alternate, in a loader that has already started; the fastest run of each counts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torchlink
from tests.models.catalogue import NAMES, build
from torchlink.compilation.loader import build_loader
from torchlink.plan import make_plan
from torchlink.toolchain.compiler import find_compiler
from torchlink.verify.given import Given
from torchlink.verify.inputs import parse_input
from torchlink.verify.model_run import run_model
from torchlink.verify.result import ModelResult, Request
from torchlink.verify.session import Session


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--libtorch", type=Path, help="a root directory [default: what torchlink finds]")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    libtorch = torchlink.inspect(arguments.libtorch) if arguments.libtorch else torchlink.find()
    compiler = find_compiler()
    loader = build_loader(make_plan(libtorch, compiler=compiler), compiler).path

    def run(path: Path, request: Request) -> tuple[float, ModelResult]:
        with Session(loader) as session:
            session.ask("describe")  # answered once libtorch is mapped
            start = time.perf_counter()
            result = run_model(session, path, "torchscript", request, libtorch)
            return time.perf_counter() - start, result

    costs = {}
    with tempfile.TemporaryDirectory(prefix="torchlink-benchmark-") as directory:
        for name in NAMES:
            path = Path(directory) / f"{name}.pt"
            build(name).save(str(path))
            found = run(path, Request())[1]
            if found.error:
                sys.exit(f"{name}: {found.error.message}")
            given = Request(inputs=Given(tuple(parse_input(taken.text) for taken in found.inputs)))
            times: tuple[list[float], list[float]] = ([], [])
            for _ in range(arguments.rounds):
                for request, measured in zip((Request(), given), times, strict=True):
                    measured.append(run(path, request)[0])
            costs[name] = tuple(map(min, times))
    for name, (inferred, given_) in sorted(costs.items(), key=lambda each: each[1][1] - each[1][0])[:6]:
        print(f"{name}: {inferred * 1000:.1f} ms, with inputs given {given_ * 1000:.1f} ms")
    both = [statistics.mean(each) for each in zip(*costs.values(), strict=True)]
    print(
        f"{len(costs)} models: {both[0] * 1000:.1f} ms per model, with inputs given {both[1] * 1000:.1f} ms, "
        f"ratio {both[0] / both[1]:.2f}, {arguments.rounds} rounds"
    )


if __name__ == "__main__":
    main()
