"""Measure the C API: against C++ in one program, from other languages, a large input, and its build.

    python benchmarks/capi.py [ROUNDS]

One C++ program calls a model of 50 to 200 µs directly and through the C API, in turns (A B, A B, …), so that changes in
the machine's speed affect both. Programs in Rust, Go, Nim and Zig, with the wrappers of `torchlink new`, follow it, in
ROUNDS turns; ratios are those of one turn. Medians and minima are printed, and the bounds. The cold builds of the C
API and of the loaders use caches of their own. Needs a C++ compiler, and a Python that has both torchlink and torch;
languages that are not installed are left out by name.
"""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

TORCHLINK = str(Path(sys.executable).parent / "torchlink")
MODEL = """
import sys, torch
torch.manual_seed(0)
layers = [torch.nn.Linear(256, 256), torch.nn.ReLU()] * 6
torch.jit.script(torch.nn.Sequential(*layers).eval()).save(sys.argv[1])
class Ends(torch.nn.Module):
    def forward(self, x):
        return x[:1]
torch.jit.script(Ends().eval()).save(sys.argv[2])
"""
PROGRAM = r"""
#include <ATen/Parallel.h>
#include <torch/script.h>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>
#include "torchmodel.h"

using Clock = std::chrono::steady_clock;
static double since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}
static void print(const char *name, std::vector<double> all, const char *after) {
  std::sort(all.begin(), all.end());
  std::printf("\"%s\": [%g, %g]%s", name, all[all.size() / 2], all[0], after);
}
static void check(tm_status status) {
  if (status == TM_OK) return;
  std::fprintf(stderr, "%s\n", tm_last_error());
  std::exit(1);
}

int main(int, char **argv) {
  const int rounds = std::atoi(argv[3]);
  at::set_num_threads(1);
  torch::jit::Module module = torch::jit::load(argv[1]);
  module.eval();
  tm_model *model = nullptr, *ends = nullptr;
  check(tm_model_load(argv[1], nullptr, &model));
  check(tm_model_load(argv[2], nullptr, &ends));
  std::vector<float> data(4 * 256, 1.0F);
  const int64_t shape[] = {4, 256};
  std::vector<double> direct, through, large;
  for (int i = -200; i < rounds; ++i) {
    auto start = Clock::now();
    {
      c10::InferenceMode guard;
      at::Tensor input = at::from_blob(data.data(), {4, 256});
      at::Tensor output = module.forward({input}).toTensor();
      if (output.data_ptr<float>() == nullptr) return 1;
    }
    if (i >= 0) direct.push_back(since(start));
    start = Clock::now();
    tm_value *input = nullptr, *output = nullptr;
    tm_tensor_info info;
    check(tm_tensor_borrow(data.data(), TM_FLOAT32, shape, 2, nullptr, nullptr, nullptr, &input));
    check(tm_model_forward(model, &input, 1, &output));
    check(tm_tensor_get_info(output, &info));
    tm_value_free(output);
    tm_value_free(input);
    if (i >= 0) through.push_back(since(start));
  }
  std::vector<float> much(25 << 20, 1.0F);
  const int64_t sizes[] = {25 << 20};
  for (int i = -20; i < 200; ++i) {
    const auto start = Clock::now();
    tm_value *input = nullptr, *output = nullptr;
    check(tm_tensor_borrow(much.data(), TM_FLOAT32, sizes, 1, nullptr, nullptr, nullptr, &input));
    check(tm_model_forward(ends, &input, 1, &output));
    tm_value_free(output);
    tm_value_free(input);
    if (i >= 0) large.push_back(since(start));
  }
  std::printf("{");
  print("direct", direct, ", ");
  print("through", through, ", ");
  print("large", large, "}\n");
}
"""


RUST = r"""
use MODULE::torchmodel::{Model, Value};
use std::time::Instant;

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let calls: usize = words[2].parse().unwrap();
    let model = Model::load(&words[1], "cpu").unwrap();
    let data = vec![1f32; 4 * 256];
    let mut all = Vec::new();
    for number in 0..calls + 200 {
        let start = Instant::now();
        let output = model.forward(&[&Value::tensor(&data, &[4, 256]).unwrap()]).unwrap();
        assert!(output.shape().unwrap()[0] == 4);
        drop(output);
        if number >= 200 {
            all.push(start.elapsed().as_nanos() as f64 / 1e3);
        }
    }
    all.sort_by(|a, b| a.partial_cmp(b).unwrap());
    println!("[{}, {}]", all[calls / 2], all[0]);
}
"""
GO = r"""package main

import (
	"fmt"
	"os"
	"sort"
	"strconv"
	"time"

	"MODULE/torchmodel"
)

func main() {
	calls, _ := strconv.Atoi(os.Args[2])
	model, err := torchmodel.Load(os.Args[1], "cpu")
	if err != nil {
		panic(err)
	}
	data := make([]float32, 4*256)
	for i := range data {
		data[i] = 1
	}
	var all []float64
	for number := 0; number < calls+200; number++ {
		start := time.Now()
		input, err := torchmodel.NewTensor(data, 4, 256)
		if err != nil {
			panic(err)
		}
		output, err := model.Forward(input)
		if err != nil {
			panic(err)
		}
		if shape, err := output.Shape(); err != nil || shape[0] != 4 {
			panic(err)
		}
		output.Close()
		input.Close()
		if number >= 200 {
			all = append(all, float64(time.Since(start).Nanoseconds())/1e3)
		}
	}
	sort.Float64s(all)
	fmt.Printf("[%g, %g]\n", all[calls/2], all[0])
}
"""
NIM = r"""
import std/[algorithm, monotimes, os, sequtils, strutils, times]
import torchmodel

let calls = parseInt(paramStr(2))
let model = loadModel(paramStr(1))
let data = newSeqWith(4 * 256, 1'f32)
var all: seq[float]
for number in 0 ..< calls + 200:
  let start = getMonoTime()
  let input = tensor(data, [4, 256])
  let output = model.forward(input)
  doAssert output.shape[0] == 4
  output.close
  input.close
  if number >= 200: all.add float(inNanoseconds(getMonoTime() - start)) / 1e3
all.sort
echo "[", all[calls div 2], ", ", all[0], "]"
"""
ZIG = r"""
const std = @import("std");
const torchmodel = @import("torchmodel");
extern fn printf(format: [*:0]const u8, ...) c_int;
extern fn clock_gettime(clock: c_int, to: *[2]i64) c_int;

fn now() i64 {
    var time: [2]i64 = undefined;
    _ = clock_gettime(1, &time);
    return time[0] * 1_000_000_000 + time[1];
}

pub fn main(init: std.process.Init) !u8 {
    const words = try init.minimal.args.toSlice(init.arena.allocator());
    const calls = try std.fmt.parseInt(usize, words[2], 10);
    const model = try torchmodel.Model.load(words[1], "cpu");
    const data: [4 * 256]f32 = @splat(1);
    const all = try init.gpa.alloc(i64, calls);
    for (0..calls + 200) |number| {
        const start = now();
        const input = try torchmodel.Value.tensor(f32, &data, &.{ 4, 256 });
        const output = try model.forward(init.gpa, &.{input});
        if ((try output.shape())[0] != 4) return 1;
        output.deinit();
        input.deinit();
        if (number >= 200) all[number - 200] = now() - start;
    }
    std.mem.sort(i64, all, {}, std.sort.asc(i64));
    const half: f64 = @floatFromInt(all[calls / 2]);
    const least: f64 = @floatFromInt(all[0]);
    _ = printf("[%g, %g]\n", half / 1e3, least / 1e3);
    return 0;
}
"""
LOADERS = """
from torchlink.compilation.loader import build_loader
from torchlink.libtorch.choose import choose
from torchlink.plan import PlanOptions, make_plan
from torchlink.toolchain.compiler import find_compiler
compiler = find_compiler()
plan = make_plan(choose(), PlanOptions(), compiler)
build_loader(plan, compiler)
build_loader(make_plan(plan.libtorch, PlanOptions(aoti=True), compiler), compiler, program="aoti")
"""


class Language(NamedTuple):
    """How a program in a language is made of the kind of `torchlink new`."""

    kind: str
    tool: str
    main: str  # the file that becomes the measured program
    text: str
    build: str
    program: str


LANGUAGES = (
    Language(
        "rust", "cargo", "src/main.rs", RUST, "cargo build --release --offline --quiet", "target/release/app"
    ),
    Language("go", "go", "main.go", GO, "go build -o bench .", "bench"),
    Language(
        "nim", "nim", "main.nim", NIM, "nim c --cc:gcc --hints:off -d:danger --out:bench main.nim", "bench"
    ),
    Language(
        "zig",
        "python-zig",
        "src/main.zig",
        ZIG,
        "$(command -v zig || echo python-zig) build -Doptimize=ReleaseFast",
        "zig-out/bin/app",
    ),
)
CALLS = "2000"  # of one turn


def text(*command: str, **variables: str) -> str:
    """Return what a command prints."""
    done = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{shlex.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def timed(*command: str, **variables: str) -> tuple[float, float]:
    """Return the seconds and the processor's seconds that a command takes."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    text(*command, **variables)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, used


def builds(directory: Path) -> None:
    """Measure the cold build of the C API, which is then cached, and that of both loaders."""
    other = str(directory / "other-cache")
    loaders = timed(sys.executable, "-c", LOADERS, TORCHLINK_CACHE_DIR=other)
    library = timed(TORCHLINK, "capi", str(directory / "capi"))
    row(
        "cold build: both loaders, one after the other",
        f"{loaders[0]:.1f} s",
        f"{loaders[1]:.1f} s of the processor",
    )
    row("cold build: the C API", f"{library[0]:.1f} s", f"{library[1]:.1f} s of the processor")
    bounded(
        "  of the loaders",
        library[0] / loaders[0],
        1.3,
        f"{library[1] / loaders[1]:.2f} by the processor's time",
    )
    again = json.loads(text(TORCHLINK, "capi", str(directory / "again"), "--json"))
    bounded(
        "second torchlink capi, seconds of compiling",
        again["compile_seconds"],
        0,
        f"cached: {again['cached']}",
    )


def cxx_program(directory: Path) -> str:
    """Return the program that calls a model directly and through the C API."""
    (directory / "main.cpp").write_text(PROGRAM)
    flags = shlex.split(text(TORCHLINK, "flags", "--cxx"))
    link = [f"-I{directory}/capi", f"-L{directory}/capi", f"-Wl,-rpath,{directory}/capi", "-ltorchmodel"]
    text("c++", "-O2", str(directory / "main.cpp"), "-o", str(directory / "main"), *link, *flags)
    return str(directory / "main")


def language_program(directory: Path, language: Language) -> str | None:
    """Return a program in a language; None: its tool is missing."""
    bin_dir = str(Path(sys.executable).parent)
    path = os.pathsep.join((bin_dir, os.environ["PATH"]))
    if not shutil.which(language.tool, path=path):
        return None
    project = directory / f"{language.kind}bench"
    text(TORCHLINK, "new", language.kind, str(project), "--name", "app")
    (project / language.main).write_text(language.text.replace("MODULE", "app"))
    caches = {"ZIG_GLOBAL_CACHE_DIR": str(directory / "zig"), "GOCACHE": str(directory / "go")}
    text("sh", "-c", f"cd {shlex.quote(str(project))} && {language.build}", PATH=path, **caches)
    return str(project / language.program)


def bounded(name: str, value: float, bound: float, after: str = "") -> None:
    """Print a value next to the most that it may be."""
    row(name, f"{value:.3f}", f"bound {bound:g}: {'ok' if value <= bound else 'EXCEEDED'}  {after}")


def row(name: str, value: str, after: str = "") -> None:
    """Print a line."""
    print(f"{name:48} {value:>12}   {after}", flush=True)


def calls(directory: Path, turns: int) -> None:
    """Measure the calls."""
    models = str(directory / "model.pt"), str(directory / "ends.pt")
    cxx = cxx_program(directory)
    programs = {language.kind: language_program(directory, language) for language in LANGUAGES}
    for kind in [kind for kind, program in programs.items() if program is None]:
        row(f"forward through {kind}", "left out", "not installed")
        del programs[kind]

    measured: list[dict[str, tuple[float, float]]] = []
    for _ in range(turns):
        turn = json.loads(text(cxx, *models, CALLS, OMP_NUM_THREADS="1"))
        for kind, program in programs.items():
            turn[kind] = json.loads(text(str(program), models[0], CALLS, OMP_NUM_THREADS="1"))
        measured.append(turn)

    def of_turns(name: str) -> tuple[float, float]:
        return statistics.median(turn[name][0] for turn in measured), min(turn[name][1] for turn in measured)

    def ratio(name: str, bound: float) -> None:
        ratios = [turn[name][0] / turn["direct"][0] for turn in measured]
        least = of_turns(name)[1] / of_turns("direct")[1]
        bounded("  of C++, median of the turns", statistics.median(ratios), bound, f"minima: {least:.3f}")

    for name, title in (("direct", "C++"), ("through", "the C API"), *((kind, kind) for kind in programs)):
        middle, least = of_turns(name)
        row(f"forward through {title}", f"{middle:.1f} µs", f"minimum {least:.1f} µs")
        if name != "direct":
            ratio(name, 1.05 if name == "through" else 1.1)
    middle, least = of_turns("large")
    bounded("a 100 MB input, and a call, in ms", middle / 1000, 1, f"minimum {least / 1000:.3f}")


def main() -> None:
    """Measure and print."""
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        os.environ.update(TORCHLINK_CACHE_DIR=str(directory / "cache"), CCACHE_DISABLE="1")
        (directory / "models.py").write_text(MODEL)  # TorchScript reads the source of what it compiles
        text(
            sys.executable,
            str(directory / "models.py"),
            str(directory / "model.pt"),
            str(directory / "ends.pt"),
        )
        builds(directory)
        calls(directory, turns)


if __name__ == "__main__":
    main()
