// torchlink's reference loader: loads a TorchScript model, calls its forward, says what came out.
//
//   loader [--library LIB.so]… [--device DEVICE] MODEL [INPUT…]   by hand, for reading
//   loader --serve   commands on stdin, one JSON object a line on stdout
//
// An input is written in words: `tensor float32 1x3x224x224 randn:7`, `int 3`, `list int 2 int 1 int 2`.
// The protocol of --serve is in README.md. What a model prints goes to stderr.

#include "bench.h"
#include "comparison.h"
#include "gpu.h"
#include "inputs.h"
#include "library.h"
#ifdef LOADER_AOTI
#include "aoti_model.h"
#else
#include "model.h"
#endif
#include "outputs.h"
#include "serving.h"
#include "trees.h"
#include "unchanged.h"

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#ifdef _WIN32
#include <io.h>
#define dup _dup
#define dup2 _dup2
#define fdopen _fdopen
#define fileno _fileno
#define close _close
#else
#include <sys/resource.h>
#include <unistd.h>
#endif

namespace {

const size_t most_outputs = 1000;

double milliseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

// The most memory this process ever held, in MiB; -1 where the system does not say. Linux's getrusage
// would count the process that started this one.
double peak_rss_mib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.compare(0, 6, "VmHWM:") == 0) return std::atof(line.c_str() + 6) / 1024;
  }
#ifdef _WIN32
  return -1;
#else
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
#ifdef __APPLE__
  return static_cast<double>(usage.ru_maxrss) / (1024 * 1024);
#else
  return static_cast<double>(usage.ru_maxrss) / 1024;
#endif
#endif
}

// While it lives, what is printed goes nowhere.
class Muted {
 public:
#ifdef _WIN32
  Muted() : nowhere_(std::fopen("NUL", "w")), kept_(-1) {
#else
  Muted() : nowhere_(std::fopen("/dev/null", "w")), kept_(-1) {
#endif
    if (nowhere_ == nullptr) return;
    flush();
    kept_ = dup(2);
    to(fileno(nowhere_));
  }
  ~Muted() {
    if (nowhere_ == nullptr) return;
    flush();
    to(kept_);
    close(kept_);
    std::fclose(nowhere_);
  }
  Muted(const Muted&) = delete;
  Muted& operator=(const Muted&) = delete;

 private:
  static void flush() {
    std::cout.flush();
    std::fflush(stdout);
    std::fflush(stderr);
  }
  static void to(int file) {
    dup2(file, 1);
    dup2(file, 2);
  }

  FILE* nowhere_;
  int kept_;
};

// A loader's life: load, then describe, forward and again as often as asked for.
class Loader {
 public:
  void load(const std::string& device, const std::string& path) {
    stage = "device";
    device_ = usable_device(device);
    gpu_.reset(new Gpu(device_));
    stage = "load";
    const auto start = std::chrono::steady_clock::now();
    returned_.reset();
    again_.reset();
    model_.reset(new Model(path, device_));
    load_ms = milliseconds_since(start);
  }

  void forward(Words& words) {
    words_ = words.rest();
    const std::vector<c10::IValue> arguments = arguments_from(words);
    stage = "forward";
    returned_.reset();
    again_.reset();
    outputs = Outputs(most_outputs);
    returned_.reset(new c10::IValue(timed(arguments)));
    outputs.add(*returned_);
  }

  // In a forked process, before its first model. Fields of the event that answers: `most_mb`, where it may run several.
  void begin(JsonObject& event) {
    // libtorch replaces one of its thread pools at the first use after a fork; two threads at once would both fail.
    at::set_num_threads(at::get_num_threads());
#ifdef LOADER_REUSE
    at_first_.reset(new Unchanged());
    event.add("most_mb", json_number(at_first_->most_mib()));
#else
    static_cast<void>(event);
#endif
  }

  // Lets go of the model. Whether this process may run another one: it is as it was at first.
  bool reset() {
    stage = "reset";
    returned_.reset();
    again_.reset();
    model_.reset();
    gpu_.reset();
    words_.clear();
    outputs = Outputs(most_outputs);
#ifdef LOADER_REUSE
    return device_.is_cpu() && at_first_ && at_first_->holds();
#else
    return false;
#endif
  }

  // Which method `forward` calls from now on.
  void select(const std::string& method) {
    stage = "method";
    model();
    model_->select(method);
  }

  // What the last forward returned, or was given, to a raw file: the trees of `saved`.
  JsonObject& save(Words& words, JsonObject& answer) {
    stage = "save";
    const std::string what = words.next();
    if (what != "outputs" && what != "inputs" && what != "again") throw std::runtime_error("'" + what + "' cannot be saved");
    const c10::IValue& value = returned();
    if (what == "again" && !again_) throw std::runtime_error("forward has not been called again");
    RawFile file(string_from(words.next()));
    if (what != "inputs") {
      answer.add("value", tree_of(what == "again" ? *again_ : value, file));
    } else {
      Words given(words_); // created again: forward may have modified the first ones in place
      const Call call = call_from(given);
      JsonObject keywords;
      std::vector<std::string> positional;
      for (const c10::IValue& argument : call.positional) positional.push_back(argument_tree(argument, file));
      for (const auto& keyword : call.keywords) keywords.add(keyword.first, argument_tree(keyword.second, file));
      answer.add("value", json_array(positional)).add("keywords", keywords.text());
    }
    stage = "save";
    file.finish();
    return answer;
  }

  // What the last forward returned.
  const c10::IValue& returned() const {
    if (!returned_) throw std::runtime_error("forward has not returned anything");
    return *returned_;
  }

  // `COUNT MOST LEFT N VALUE…`: so many calls more, each with new arguments, unless all have taken MOST milliseconds or the
  // last took a quarter of what remains of LEFT. What the first call prints has been printed, and its outputs are kept.
  std::vector<std::string> forward_again(Words& words) {
    const int64_t count = words.count();
    const double most = real(words.next()), left = real(words.next());
    words_ = words.rest();
    const Muted nothing_printed;
    std::vector<std::string> times;
    double spent = 0;
    while (static_cast<int64_t>(times.size()) < count) {
      Words given(words_);
      const std::vector<c10::IValue> arguments = arguments_from(given);
      stage = "again";
      again_.reset();
      again_.reset(new c10::IValue(timed(arguments)));
      times.push_back(json_number(forward_ms));
      spent += forward_ms;
      if (spent >= most || forward_ms > (left - spent) / 4) break;
    }
    return times;
  }

  // `WARMUP RUNS SECONDS N VALUE…`: once more and again, with the same arguments.
  BenchTimes bench(Words& words) {
    stage = "bench";
    const BenchPlan plan(words);
    words_ = words.rest();
    const std::vector<c10::IValue> arguments = arguments_from(words);
    stage = "bench";
    const Muted nothing_printed;
    return benched(plan, [&] {
      timed(arguments);
      return forward_ms;
    });
  }

  // What the device is, and what the model has taken of it.
  std::string gpu() {
    stage = "device";
    model();
    return gpu_->json(device_);
  }

  // Its operators and classes register themselves when it is loaded; it stays until the process ends.
  void add_library(const std::string& path) {
    stage = "library";
    static std::vector<Library*>& kept = *new std::vector<Library*>(); // in reach of leak checkers
    kept.push_back(new Library(path.c_str()));
  }

#ifdef LOADER_AOTI
  // `weights N (NAME DTYPE DIMS OFFSET STRIDES PATH)…`: those that are not in the compiled library.
  void set_weights(Words& words) {
    stage = "load";
    std::unordered_map<std::string, at::Tensor> weights;
    for (int64_t left = words.count(); left > 0; --left) {
      const std::string name = string_from(words.next());
      const c10::ScalarType dtype = dtype_named(words.next());
      const Sizes sizes = sizes_from(words.next());
      const int64_t offset = whole(words.next());
      const Sizes strides = sizes_from(words.next());
      weights[name] = from_file(dtype, sizes, offset, strides, string_from(words.next()));
    }
    model();
    model_->set_weights(weights);
  }

  void set_strides(Words& words) {
    stage = "input";
    std::vector<Sizes> all;
    for (int64_t left = words.count(); left > 0; --left) all.push_back(sizes_from(words.next()));
    model();
    model_->set_strides(all);
  }
#endif

  const Model& model() const {
    if (!model_) throw std::runtime_error("no model is loaded");
    return *model_;
  }

  std::string device() const {
    return device_text(device_);
  }

  std::string stage = "command"; // what is being done, for the error that may come of it
  double load_ms = 0, forward_ms = 0;
  Outputs outputs{most_outputs};

 private:
  struct Call {
    std::vector<c10::IValue> positional;
    Keywords keywords;
  };

  // `N VALUE… [M (NAME VALUE)…]`
  Call call_from(Words& words) const {
    Call call;
    const std::vector<c10::Argument> declared = model().arguments();
    const size_t count = static_cast<size_t>(words.count());
    for (size_t i = 0; i < count; ++i) {
      call.positional.push_back(value_from(words, i < declared.size() ? declared[i].type() : c10::TypePtr(), device_));
    }
    if (words.done()) return call;
    for (int64_t left = words.count(); left > 0; --left) {
      const std::string name = string_from(words.next());
      c10::TypePtr type;
      for (const c10::Argument& argument : declared) {
        if (argument.name() == name) type = argument.type();
      }
      call.keywords.emplace_back(name, value_from(words, type, device_));
    }
    if (!words.done()) throw std::runtime_error("'" + words.next() + "' is left over");
    return call;
  }

  std::vector<c10::IValue> arguments_from(Words& words) {
    stage = "input";
    Call call = call_from(words);
    return model().bound(std::move(call.positional), call.keywords);
  }

  c10::IValue timed(const std::vector<c10::IValue>& arguments) {
    const AutoGradMode no_gradients(false);
    const auto start = std::chrono::steady_clock::now();
    const c10::IValue result = model()(arguments);
    finish_device_work();
    forward_ms = milliseconds_since(start);
    return result;
  }

  // Kernels run on after forward has returned; a copy to the host waits for them.
  void finish_device_work() const {
    if (!device_.is_cpu()) filled(c10::ScalarType::Float, {1}, "zeros").to(device_).to(at::Device(at::kCPU));
  }

#ifdef LOADER_REUSE
  std::unique_ptr<const Unchanged> at_first_;
#endif
  c10::Device device_{c10::DeviceType::CPU};
  std::unique_ptr<Gpu> gpu_;
  std::unique_ptr<Model> model_;
  std::vector<std::string> words_; // of the last forward
  std::unique_ptr<c10::IValue> returned_; // by it
  std::unique_ptr<c10::IValue> again_; // by the last `again`
};

void warm(int threads, const std::string& path);

// Tells apart what is printed before and behind it.
void mark(const std::string& text) {
  std::cout.flush();
  std::fflush(stdout);
  std::fprintf(stderr, "%s\n", text.c_str());
}

std::string answer(Loader& loader, const std::string& line) {
  Words words(split(line, ' '));
  const std::string command = words.next();
  if (command == "load") {
    const std::string device = words.next();
    loader.load(device, string_from(words.next()));
    JsonObject result;
    result.add("event", "\"loaded\"").add("load_ms", json_number(loader.load_ms)).add("device", json_string(loader.device()));
    return result.add("arguments", json_array(loader.model().argument_names())).add("schema", loader.model().schema_json()).text();
  }
  if (command == "warm") {
    loader.stage = "warm";
    const int threads = static_cast<int>(words.count());
    warm(threads, words.next());
    return JsonObject().add("event", "\"warmed\"").text();
  }
  if (command == "library") {
    loader.add_library(string_from(words.next()));
    return JsonObject().add("event", "\"added\"").text();
  }
  if (command == "method") {
    loader.select(string_from(words.next()));
    return JsonObject().add("event", "\"selected\"").add("schema", loader.model().schema_json()).text();
  }
  if (command == "save") {
    JsonObject result;
    result.add("event", "\"saved\"");
    return loader.save(words, result).text();
  }
  if (command == "describe") {
    loader.stage = "describe";
    return loader.model().described();
  }
#ifdef LOADER_AOTI
  if (command == "inputs") {
    loader.stage = "describe";
    return JsonObject().add("event", "\"inputs\"").add("inputs", loader.model().inputs_json()).text();
  }
  if (command == "weights") {
    loader.set_weights(words);
    return JsonObject().add("event", "\"weights\"").text();
  }
  if (command == "strides") {
    loader.set_strides(words);
    return JsonObject().add("event", "\"strides\"").text();
  }
#endif
  if (command == "forward") {
    loader.forward(words);
    std::vector<std::string> outputs;
    for (const Output& output : loader.outputs.all) outputs.push_back(output_json(output));
    JsonObject result;
    result.add("event", "\"result\"").add("forward_ms", json_number(loader.forward_ms)).add("outputs", json_array(outputs));
    InText shown;
    result.add("outputs_left_out", json_number(static_cast<long long>(loader.outputs.left_out))).add("value", tree_of(loader.returned(), shown));
    return result.add("peak_rss_mb", json_number(peak_rss_mib())).text();
  }
  if (command == "again") {
    return JsonObject().add("event", "\"again\"").add("forward_ms", json_array(loader.forward_again(words))).text();
  }
  if (command == "bench") {
    const BenchTimes times = loader.bench(words);
    std::vector<std::string> all;
    for (const double time : times.all) all.push_back(json_number(time));
    JsonObject result;
    result.add("event", "\"benched\"").add("first_ms", json_number(times.first)).add("warmup", json_number(static_cast<long long>(times.warmup)));
    return result.add("times_ms", json_array(all)).add("peak_rss_mb", json_number(peak_rss_mib())).text();
  }
  if (command == "threads") {
    loader.stage = "bench";
    return settings_json(static_cast<int>(words.count()));
  }
  if (command == "gpu") return loader.gpu();
  if (command == "reset") {
    bool reusable = false;
    try {
      reusable = loader.reset();
    } catch (const std::exception&) { // of a destructor: then it is not
    }
    mark(words.next());
    return JsonObject().add("event", "\"reset\"").add("reusable", reusable ? "true" : "false").text();
  }
  if (command == "mark") {
    mark(words.next());
    return JsonObject().add("event", "\"marked\"").text();
  }
  if (command == "compare") {
    loader.stage = "compare";
    return compared(words);
  }
  loader.stage = "command";
  throw std::runtime_error("'" + command + "' is no command");
}

// What a process does once, done before models get processes forked from it: a small model takes the way of every
// model, until torch.jit has optimised it, so that libtorch's tables are filled, the functions on that way are bound
// and their pages are there. One thread: those of a pool would not be there in a forked process.
void warm(int threads, const std::string& path) {
  if (threads == 0) threads = at::get_num_threads();
  at::set_num_threads(1);
#ifndef LOADER_AOTI // a compiled model optimises nothing when it is called
  try {
    const Muted nothing_printed;
    Loader loader;
    const std::string input = " 1 tensor float32 1x4 ones";
    answer(loader, "load cpu " + path);
    answer(loader, "describe");
    answer(loader, "forward" + input);
    answer(loader, "again 3 1e9 1e9" + input);
  } catch (const std::exception&) { // what an old libtorch cannot load, it serves without
  }
#endif
  at::set_num_threads(threads);
}

int serve(FILE* out) {
  Loader loader;
  return Serving(
             out,
             [&](const std::string& line) { return answer(loader, line); },
             [&](const std::exception& error) {
               JsonObject event;
               event.add("event", "\"error\"").add("stage", json_string(loader.stage));
               return event.add("message", json_string(message_of(error))).text();
             },
             [&](JsonObject& event) { loader.begin(event); })
      .run();
}

int by_hand(const std::vector<std::string>& libraries, const std::string& device, const std::string& path, const std::vector<std::string>& inputs, FILE* out) {
  Loader loader;
  try {
    for (const std::string& library : libraries) loader.add_library(library);
    loader.load(device, path);
    std::fprintf(out, "%s: loaded on %s in %.1f ms\n", path.c_str(), loader.device().c_str(), loader.load_ms);
    std::vector<std::string> words{"0"};
    words.insert(words.end(), inputs.begin(), inputs.end());
    Words rest(words);
    int64_t count = 0;
    for (rest.next(); !rest.done(); ++count) value_from(rest, c10::TypePtr(), c10::Device(c10::DeviceType::CPU));
    words[0] = std::to_string(count);
    Words arguments(words);
    loader.forward(arguments);
    std::fprintf(out, "forward: %.1f ms\n", loader.forward_ms);
    for (const Output& output : loader.outputs.all) std::fprintf(out, "%s\n", output_json(output).c_str());
    return 0;
  } catch (const std::exception& error) {
    std::fflush(out);
    std::fprintf(stderr, "%s: %s\n", loader.stage.c_str(), message_of(error).c_str());
    return 1;
  }
}

} // namespace

extern "C" int torchlink_loader_main(int argc, char** argv) {
  FILE* const out = fdopen(dup(1), "w"); // what the model prints must not mix with what the loader says
  dup2(2, 1);
  std::vector<std::string> words(argv + 1, argv + argc);
  std::string device = "cpu";
  if (words.size() == 1 && words[0] == "--serve") {
    return serve(out);
  }
  std::vector<std::string> libraries;
  while (words.size() > 2 && (words[0] == "--device" || words[0] == "--library")) {
    if (words[0] == "--device") device = words[1];
    if (words[0] == "--library") libraries.push_back(words[1]);
    words.erase(words.begin(), words.begin() + 2);
  }
  if (words.empty() || words[0].compare(0, 1, "-") == 0) {
    std::fprintf(stderr, "usage: loader [--library LIB.so] [--device cpu|cuda[:N]|mps|xpu|auto] MODEL [INPUT...] | loader --serve\n");
    return 2;
  }
  return by_hand(libraries, device, words[0], std::vector<std::string>(words.begin() + 1, words.end()), out);
}

#ifndef TORCHLINK_NO_MAIN // a program in another language has its own
int main(int argc, char** argv) {
  return torchlink_loader_main(argc, argv);
}
#endif
