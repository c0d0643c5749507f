"""Measure `torchlink verify` against the tutorial's CMake build and against its own loader run by hand.

    python benchmarks/verify.py [--rounds N] [--libtorch PATH]

Cold: `torchlink verify` with an empty cache against configuring, building and running the program of
PyTorch's tutorial ("Loading a TorchScript Model in C++") with upstream's CMake config. Warm: the same verify again
against the loader binary with the same model and input. The two sides of a ratio alternate; medians are compared.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torchlink
from torchlink.paths import data_dir

if TYPE_CHECKING:
    from collections.abc import Callable

TUTORIAL = {
    "CMakeLists.txt": """cmake_minimum_required(VERSION 3.5 FATAL_ERROR)
project(custom_ops)
find_package(Torch REQUIRED)
add_executable(example-app example-app.cpp)
target_link_libraries(example-app "${TORCH_LIBRARIES}")
set_property(TARGET example-app PROPERTY CXX_STANDARD STANDARD)
""",
    "example-app.cpp": """#include <torch/script.h>
#include <iostream>
#include <memory>

int main(int argc, const char* argv[]) {
  if (argc != 2) {
    std::cerr << "usage: example-app <path-to-exported-script-module>\\n";
    return -1;
  }
  torch::jit::script::Module module;
  try {
    module = torch::jit::load(argv[1]);
  } catch (const c10::Error& e) {
    std::cerr << "error loading the model\\n";
    return -1;
  }
  std::vector<torch::jit::IValue> inputs;
  inputs.push_back(torch::ones({1, 4}));
  at::Tensor output = module.forward(inputs).toTensor();
  std::cout << output.slice(/*dim=*/1, /*start=*/0, /*end=*/5) << '\\n';
}
""",
}
MODEL = data_dir("templates") / "loader" / "tiny.pt"
INPUT = ("--input", "float32[1,4]")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rounds", type=int, default=3, help="cold rounds; the warm comparison runs seven times as many"
    )
    parser.add_argument("--libtorch", type=Path, help="a root directory [default: what torchlink finds]")
    arguments = parser.parse_args()
    libtorch = torchlink.inspect(arguments.libtorch) if arguments.libtorch else torchlink.find()
    print(f"libtorch {libtorch.version} in {libtorch.root}")
    with tempfile.TemporaryDirectory(prefix="torchlink-benchmark-") as name:
        work = Path(name)
        environment = {**os.environ, "TORCHLINK_CACHE_DIR": str(work / "cache"), "CCACHE_DISABLE": "1"}
        command = str(Path(sys.executable).parent / "torchlink")
        verify = [command, "verify", str(MODEL), *INPUT, "--libtorch", str(libtorch.root)]

        def cold() -> None:
            shutil.rmtree(work / "cache", ignore_errors=True)
            run(verify, environment)

        standard = str(libtorch.cxx_standard)
        compare(
            "cold",
            ("torchlink verify", cold),
            ("tutorial", lambda: tutorial(work, libtorch.root, standard, environment)),
            arguments.rounds,
            "at most 0.7, aim 0.5",
        )
        (loader,) = (work / "cache" / "loaders").glob("*/loader")
        by_hand = [str(loader), str(MODEL), "tensor", "float32", "1x4", "ones"]
        compare(
            "warm",
            ("torchlink verify", lambda: run(verify, environment)),
            ("loader by hand", lambda: run(by_hand, environment)),
            7 * arguments.rounds,
            "at most 1.3",
        )


def tutorial(work: Path, root: Path, standard: str, environment: dict[str, str]) -> None:
    """Configure, build and run the tutorial's program from scratch."""
    project = work / "tutorial"
    shutil.rmtree(project, ignore_errors=True)
    project.mkdir()
    for name, text in TUTORIAL.items():
        (project / name).write_text(text.replace("STANDARD)", f"{standard})"))
    run(
        ["cmake", "-S", str(project), "-B", str(project / "build"), f"-DCMAKE_PREFIX_PATH={root}"],
        environment,
    )
    run(["cmake", "--build", str(project / "build"), "--config", "Release"], environment)
    run([str(project / "build" / "example-app"), str(MODEL)], environment)


def run(command: list[str], environment: dict[str, str]) -> None:
    """Run a command; if it fails, exit with its output."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


def compare(
    name: str,
    ours: tuple[str, Callable[[], None]],
    theirs: tuple[str, Callable[[], None]],
    rounds: int,
    limit: str,
) -> None:
    """Run two actions alternately, and print both medians and their ratio."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for (_, action), measured in zip((ours, theirs), times, strict=True):
            start = time.perf_counter()
            action()
            measured.append(time.perf_counter() - start)
    mine, peer = map(statistics.median, times)
    print(
        f"{name}: {ours[0]} {mine:.3f} s, {theirs[0]} {peer:.3f} s, ratio {mine / peer:.2f} ({limit}), {rounds} rounds"
    )


if __name__ == "__main__":
    main()
