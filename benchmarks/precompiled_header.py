"""What a rebuild costs with the preset `pch` of `torchlink cmake init`, compared with the preset `default`.

    python benchmarks/precompiled_header.py [--rounds N]

A project is written and built once with each preset; then main.cpp is touched and each is built again, in turn. Medians
of the rebuilds are compared; the first builds are printed, too, because one of them compiles the header.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PRESETS = {"default": "build", "pch": "build-pch"}
BOUND = 0.5


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    times: dict[str, list[float]] = {preset: [] for preset in PRESETS}
    with tempfile.TemporaryDirectory(prefix="torchlink-benchmark-") as name:
        project = Path(name) / "app"
        run(sys.executable, "-m", "torchlink", "cmake", "init", str(project))
        for preset, directory in PRESETS.items():
            run("cmake", "-S", str(project), "--preset", preset, "-G", "Ninja")
            print(f"{preset}: first build {built(project / directory):.1f} s", flush=True)
        for _ in range(arguments.rounds):
            for preset, directory in PRESETS.items():
                (project / "main.cpp").touch()
                times[preset].append(built(project / directory))
    medians = {preset: statistics.median(values) for preset, values in times.items()}
    ratio = medians["pch"] / medians["default"]
    print(
        f"rebuild: {medians['pch']:.2f} s with pch, {medians['default']:.2f} s without: {ratio:.2f} (bound {BOUND})"
    )
    return 0 if ratio <= BOUND else 1


def built(directory: Path) -> float:
    """Build, and return the seconds that it took."""
    begun = time.perf_counter()
    run("cmake", "--build", str(directory))
    return time.perf_counter() - begun


def run(*command: str) -> None:
    """Run a command that must succeed."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=600)


if __name__ == "__main__":
    sys.exit(main())
