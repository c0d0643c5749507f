"""Measure the C API against C++: `forward` of a small model, a large input, and a warm `torchlink capi`.

    python benchmarks/capi.py [ROUNDS]

One C++ program calls the same model directly and through the C API, in turns (A B, A B, …), so that changes in the
machine's speed affect both; medians and ratios are printed. Needs a C++ compiler, and a Python that has both torchlink
and torch.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

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
static double median(std::vector<double> all) {
  std::nth_element(all.begin(), all.begin() + all.size() / 2, all.end());
  return all[all.size() / 2];
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
  std::printf("{\"direct\": %g, \"through\": %g, \"large\": %g}\n", median(direct), median(through), median(large));
}
"""


def text(*command: str) -> str:
    """Return what a command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Measure and print."""
    rounds = sys.argv[1] if len(sys.argv) > 1 else "5000"
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        models = str(directory / "model.pt"), str(directory / "ends.pt")
        (directory / "models.py").write_text(MODEL)  # TorchScript reads the source of what it compiles
        text(sys.executable, str(directory / "models.py"), *models)
        text(TORCHLINK, "capi", str(directory / "capi"))
        (directory / "main.cpp").write_text(PROGRAM)
        flags = shlex.split(text(TORCHLINK, "flags", "--cxx"))
        link = [f"-I{directory}/capi", f"-L{directory}/capi", f"-Wl,-rpath,{directory}/capi", "-ltorchmodel"]
        text("c++", "-O2", str(directory / "main.cpp"), "-o", str(directory / "main"), *link, *flags)
        took = json.loads(text(str(directory / "main"), *models, rounds))
        again = json.loads(text(TORCHLINK, "capi", str(directory / "again"), "--json"))
    print(f"forward in C++              {took['direct']:8.1f} µs")
    print(
        f"forward through the C API   {took['through']:8.1f} µs   {took['through'] / took['direct']:.3f} of C++"
    )
    print(f"100 MB in, and a call       {took['large']:8.1f} µs")
    print(
        f"second torchlink capi       {again['compile_seconds']:8.1f} s compiling, cached: {again['cached']}"
    )


if __name__ == "__main__":
    main()
