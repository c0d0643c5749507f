#include "options.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

namespace {

struct Option {
  const char* name;
  const char* value;
  std::string help;
  std::function<void(const std::string&)> set;
};

[[noreturn]] void refuse(const std::string& fact) {
  std::fprintf(stderr, "server: %s\nRun server --help for its options.\n", fact.c_str());
  std::exit(2);
}

// A whole number between two others.
template <typename Number>
std::function<void(const std::string&)> number(const char* name, Number& target, long long low, long long high) {
  return [name, &target, low, high](const std::string& text) {
    char* end = nullptr;
    errno = 0;
    const long long value = std::strtoll(text.c_str(), &end, 10);
    if (text.empty() || *end != '\0' || errno != 0 || value < low || value > high) {
      refuse(std::string(name) + " " + text + ": not a whole number from " + std::to_string(low) + " to " + std::to_string(high));
    }
    target = static_cast<Number>(value);
  };
}

}  // namespace

Options read_options(int count, char** words) {
  Options options;
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  options.http.threads = options.pool = cores;
  long long ttl = 0, wait_ms = 2;
  const std::vector<Option> known = {
      {"--models", "DIR", "the directory of models: .pt, .pt2, .mar (required)", [&](const std::string& text) { options.models = text; }},
      {"--handlers", "DIR", "a directory of handlers, lib*_handler.so", [&](const std::string& text) { options.cache.open.handlers = text; }},
      {"--host", "ADDRESS", "where to listen (127.0.0.1)", [&](const std::string& text) { options.http.host = text; }},
      {"--port", "N", "the port; 0: any free one (8080)", number("--port", options.http.port, 0, 65535)},
      {"--threads", "N", "threads that read, answer and call quick models (one for each core)", number("--threads", options.http.threads, 1, 1024)},
      {"--pool-threads", "N", "threads that load models, call slow ones and run batches (one for each core)", number("--pool-threads", options.pool, 1, 1024)},
      {"--torch-threads", "N", "libtorch's threads inside one operation (1)", number("--torch-threads", options.torch_threads, 1, 1024)},
      {"--workers", "N", "processes for each handler (1)", number("--workers", options.cache.open.workers, 1, 1024)},
      {"--max-batch", "N", "rows of several requests joined in one call; 1: none (1)", number("--max-batch", options.cache.batch.max_batch, 1, 1 << 20)},
      {"--batch-wait-ms", "N", "how long the first request of a batch waits for others (2)", number("--batch-wait-ms", wait_ms, 0, 60000)},
      {"--cache-bytes", "N", "memory for loaded models (4294967296)", number("--cache-bytes", options.cache.bytes, 1, 1LL << 60)},
      {"--cache-ttl", "SECONDS", "drop models that nobody asked for so long; 0: never (0)", number("--cache-ttl", ttl, 0, 1LL << 31)},
      {"--max-body", "BYTES", "of a request, else 413 (67108864)", number("--max-body", options.http.max_body, 1, 1LL << 40)},
      {"--timeout", "SECONDS", "for a request to arrive, and again to be answered, else 408 (30)", number("--timeout", options.http.timeout_seconds, 1, 86400)},
      {"--idle-timeout", "SECONDS", "for a connection between requests (75)", number("--idle-timeout", options.http.idle_seconds, 1, 86400)},
      {"--max-queue", "N", "requests that wait at one time, else 503 (1024)", number("--max-queue", options.api.max_queue, 1, 1 << 30)},
      {"--max-connections", "N", "connections at one time (4096)", number("--max-connections", options.http.max_connections, 1, 1 << 20)}};
  for (int i = 1; i < count; ++i) {
    std::string name = words[i], value;
    if (name == "--help" || name == "-h") {
      std::printf("usage: server --models DIR [--host ADDRESS] [--port N] [options]\n\nServes TorchScript and AOTInductor models over HTTP.\n\n");
      for (const Option& each : known) std::printf("  %-26s %s\n", (std::string(each.name) + " " + each.value).c_str(), each.help.c_str());
      std::exit(0);
    }
    const std::size_t equals = name.find('=');
    const bool joined = equals != std::string::npos;
    if (joined) {
      value = name.substr(equals + 1);
      name.resize(equals);
    }
    const Option* found = nullptr;
    for (const Option& each : known) {
      if (name == each.name) found = &each;
    }
    if (found == nullptr) refuse("unknown option " + name);
    if (!joined) {
      if (i + 1 >= count) refuse(name + " needs a value");
      value = words[++i];
    }
    found->set(value);
  }
  if (options.models.empty()) refuse("--models DIR is missing");
  options.cache.open.timeout_seconds = options.http.timeout_seconds;
  options.cache.ttl = std::chrono::seconds(ttl);
  options.cache.batch.wait = std::chrono::milliseconds(wait_ms);
  return options;
}
