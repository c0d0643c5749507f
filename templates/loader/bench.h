// How long calls take, and which of libtorch's settings explain it.
#pragma once

#include "api.h"

#include <ATen/Parallel.h>

#include <chrono>
#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "inputs.h"
#include "json.h"

#if LOADER_API >= 102
namespace at {
std::string show_config(); // ATen/Version.h has it, and brings ATen/Context.h along
}
#endif

// `WARMUP RUNS SECONDS`: calls before those that count, calls that count, and after how many seconds there are no more of
// either (0: no limit), as long as there were `least`.
struct BenchPlan {
  static const int64_t least = 5;

  explicit BenchPlan(Words& words) : warmup(words.count()), runs(words.count()), seconds(real(words.next())) {}

  int64_t warmup, runs;
  double seconds;
};

struct BenchTimes {
  double first = 0;
  int64_t warmup = 0; // calls
  std::vector<double> all; // milliseconds
};

// `call` returns the milliseconds that it took.
template <typename Call>
BenchTimes benched(const BenchPlan& plan, const Call& call) {
  using clock = std::chrono::steady_clock;
  const auto over = [&](clock::time_point start, double limit) {
    return plan.seconds > 0 && std::chrono::duration<double>(clock::now() - start).count() > limit;
  };
  BenchTimes times;
  times.first = call();
  auto start = clock::now();
  for (; times.warmup < plan.warmup; ++times.warmup) {
    if (times.warmup >= BenchPlan::least && over(start, plan.seconds / 4)) break;
    call();
  }
  start = clock::now();
  for (int64_t i = 0; i < plan.runs; ++i) {
    if (i >= BenchPlan::least && over(start, plan.seconds)) break;
    times.all.push_back(call());
  }
  return times;
}

// The files of OpenMP runtimes that are mapped into this process; none where the system does not say.
inline std::vector<std::string> openmp_runtimes() {
  std::vector<std::string> found;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const size_t at = line.find('/');
    if (at == std::string::npos) continue;
    const std::string path = line.substr(at), name = path.substr(path.rfind('/') + 1);
    if (name.compare(0, 7, "libgomp") != 0 && name.compare(0, 7, "libiomp") != 0 && name.compare(0, 6, "libomp") != 0) continue;
    bool known = false;
    for (const std::string& other : found) known = known || other == json_string(path);
    if (!known) found.push_back(json_string(path));
  }
  return found;
}

// Threads and how libtorch was built; `threads` above 0 are set first.
inline std::string settings_json(int threads) {
  if (threads > 0) at::set_num_threads(threads);
  JsonObject out;
  out.add("event", "\"settings\"").add("threads", json_number(static_cast<long long>(at::get_num_threads())));
#if LOADER_API >= 102
  out.add("interop_threads", json_number(static_cast<long long>(at::get_num_interop_threads())));
  out.add("parallel", json_string(at::get_parallel_info())).add("config", json_string(at::show_config()));
#else
  out.add("interop_threads", "null").add("parallel", "\"\"").add("config", "\"\"");
#endif
  return out.add("openmp", json_array(openmp_runtimes())).text();
}
