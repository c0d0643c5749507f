// Loads a model that torch.package stored and calls it from several threads, in several interpreters.
//
//   embedded-python PACKAGE.pt [--interpreters N] [--threads T] [--repeat R] [--shape 1,1,10,10] [--isolate process]

#include <ATen/Parallel.h>
#include <ATen/ops/ones.h>
#include <c10/core/GradMode.h>
#include <multipy/runtime/deploy.h>
#include <multipy/runtime/path_environment.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr const char* kUsage =
    "usage: embedded-python PACKAGE.pt [--interpreters N] [--threads T] [--repeat R] [--shape 1,1,10,10]\n"
    "                       [--isolate namespace|process]\n"
    "\n"
    "Loads the pickle model/model.pkl of a package that torch.package wrote, and calls it with ones of the shape.\n"
    "  --interpreters N   Python interpreters (default 1)\n"
    "  --threads T        threads that call the model (default N)\n"
    "  --repeat R         calls in all (default 100)\n"
    "  --shape S          the input's shape (default 1,1,10,10; \"\" for a scalar)\n"
    "  --isolate process  interpreters in worker processes instead of this one\n";

struct Options {
  std::string package;
  std::int64_t interpreters = 1;
  std::int64_t threads = 0;
  std::int64_t repeat = 100;
  std::vector<std::int64_t> shape = {1, 1, 10, 10};
  multipy::runtime::Isolation isolation = multipy::runtime::Isolation::Namespace;
};

[[noreturn]] void refuse(const std::string& problem) {
  std::fprintf(stderr, "embedded-python: %s\n%s", problem.c_str(), kUsage);
  std::exit(2);
}

std::int64_t number(const std::string& text, const std::string& option, std::int64_t least, std::int64_t most) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most)
    refuse(option + " " + text + ": not a number from " + std::to_string(least) + " to " + std::to_string(most));
  return value;
}

std::vector<std::int64_t> shape_of(const std::string& text) {
  std::vector<std::int64_t> shape;
  std::size_t begin = 0;
  while (!text.empty() && begin <= text.size()) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    shape.push_back(number(text.substr(begin, end - begin), "--shape", 0, std::int64_t{1} << 40));
    begin = end + 1;
  }
  return shape;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    std::string name = argv[i];
    if (name == "--help" || name == "-h") {
      std::fputs(kUsage, stdout);
      std::exit(0);
    }
    if (name.rfind("--", 0) != 0) {
      if (!options.package.empty()) refuse("more than one package");
      options.package = name;
      continue;
    }
    const std::size_t equals = name.find('=');
    std::string value;
    if (equals != std::string::npos) {
      value = name.substr(equals + 1);
      name.erase(equals);
    } else if (i + 1 < argc) {
      value = argv[++i];
    } else {
      refuse(name + " needs a value");
    }
    if (name == "--interpreters") options.interpreters = number(value, name, 1, 1024);
    else if (name == "--threads") options.threads = number(value, name, 1, 4096);
    else if (name == "--repeat") options.repeat = number(value, name, 1, std::int64_t{1} << 40);
    else if (name == "--shape") options.shape = shape_of(value);
    else if (name == "--isolate" && value == "process") options.isolation = multipy::runtime::Isolation::Process;
    else if (name == "--isolate" && value == "namespace") options.isolation = multipy::runtime::Isolation::Namespace;
    else refuse("unknown option " + name + (name == "--isolate" ? " " + value : ""));
  }
  if (options.package.empty()) refuse("no package was named");
  if (options.threads == 0) options.threads = options.interpreters;
  return options;
}

void print_first(const at::IValue& output) {
  if (!output.isTensor()) throw std::runtime_error("the model returned a " + output.tagKind() + ", not a tensor");
  const at::Tensor values = output.toTensor().flatten().slice(0, 0, 5).to(at::kDouble);
  for (std::int64_t i = 0; i < values.numel(); ++i)
    std::printf("%s%.6f", i ? " " : "", values[i].item<double>());
  std::printf("\n");
}

int run(const Options& options) {
  // The interpreters share the processor: each operation of each gets its part of the cores.
  const auto cores = static_cast<std::int64_t>(std::max(1U, std::thread::hardware_concurrency()));
  at::set_num_threads(static_cast<int>(std::max<std::int64_t>(1, cores / std::max(options.interpreters, options.threads))));
  const c10::NoGradGuard no_gradients;

  multipy::runtime::InterpreterManager manager(
      static_cast<std::size_t>(options.interpreters),
      std::make_shared<multipy::runtime::PathEnvironment>(std::getenv("PATH_TO_EXTERN_PYTHON_PACKAGES")),
      options.isolation);
  multipy::runtime::Package package = manager.loadPackage(options.package);
  const multipy::runtime::ReplicatedObj model = package.loadPickle("model", "model.pkl");
  const at::Tensor input = at::ones(options.shape);
  print_first(model({input}));
  std::fflush(stdout);
  for (const auto& each : manager.allInstances()) model.acquireSession(&each).self({input});  // send it to all of them

  std::atomic<std::int64_t> left{options.repeat};
  std::atomic<bool> failed{false};
  std::exception_ptr error;
  const auto begin = std::chrono::steady_clock::now();
  std::vector<std::thread> threads;
  for (std::int64_t i = 0; i < options.threads; ++i) {
    threads.emplace_back([&] {
      const c10::NoGradGuard also_here;
      try {
        while (left.fetch_sub(1) > 0) model({input});
      } catch (...) {
        left = 0;
        if (!failed.exchange(true)) error = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (error) std::rethrow_exception(error);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  std::printf("%.1f calls per second (%" PRId64 " interpreters, %" PRId64 " threads, %" PRId64 " calls)\n",
              static_cast<double>(options.repeat) / seconds.count(), options.interpreters, options.threads, options.repeat);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  if (options.isolation == multipy::runtime::Isolation::Namespace)
    multipy::runtime::reserveInterpreters(static_cast<std::size_t>(options.interpreters), argv);
  try {
    return run(options);
  } catch (const c10::Error& error) {
    std::fprintf(stderr, "embedded-python: %s\n", error.what_without_backtrace());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "embedded-python: %s\n", error.what());
  }
  return 1;
}
