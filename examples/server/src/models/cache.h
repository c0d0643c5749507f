// The models in memory: loaded when they are first asked for, once, and dropped when others need the room.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "batcher.h"
#include "catalog.h"

// How long calls took lately, by the size of the body: a power of two. -1: there was none yet.
class Lately {
 public:
  Lately() {
    for (auto& each : nanoseconds_) each = -1;
  }
  std::int64_t of(std::size_t body) const { return nanoseconds_[place(body)].load(std::memory_order_relaxed); }
  void add(std::size_t body, std::int64_t took) {
    const std::int64_t before = of(body);
    nanoseconds_[place(body)].store(before < 0 ? took : (3 * before + took) / 4, std::memory_order_relaxed);
  }

 private:
  static std::size_t place(std::size_t body) {
    std::size_t bits = 0;
    while (body >>= 1) ++bits;
    return bits;
  }
  std::array<std::atomic<std::int64_t>, 64> nanoseconds_;
};

// A loaded model and what is known of its calls.
struct Model {
  std::string file;
  std::shared_ptr<Servable> servable;
  std::shared_ptr<Batcher> batcher;
  ModelMetrics& metrics;
  Lately lately{};
};

struct CacheOptions {
  std::size_t bytes = std::size_t(4) << 30;
  std::chrono::seconds ttl{0};  // 0: no limit
  BatchOptions batch;
  OpenOptions open;
};

class Cache {
 public:
  using Ready = std::function<void(std::shared_ptr<Model>, std::exception_ptr)>;

  Cache(const CacheOptions& options, Catalog& catalog, Pool& pool, Metrics& metrics);

  // The model that is in memory; null where it is not, or is to be loaded again.
  std::shared_ptr<Model> loaded(const Found& found);

  // Calls `ready` at once where the model is in memory, else later from the pool.
  void get(const Found& found, Ready ready);

  // Until it is loaded again on purpose, an unloaded model is not served.
  void load(const Found& found, Ready ready);
  bool unload(const std::string& file);

  // In the protocol's words. The reason says why a model is unavailable: why it could not be loaded, mostly.
  struct State {
    const char* name = "UNAVAILABLE";  // or "READY", "LOADING"
    std::string reason;
  };
  State state(const std::string& file);

 private:
  struct Entry {
    std::shared_ptr<Model> model;  // null while it is being loaded
    std::size_t bytes = 0;
    std::chrono::steady_clock::time_point used;
    std::list<Identity>::iterator place;
    std::vector<Ready> waiting;
  };

  void start(const ModelFile& found, const std::string& file);
  std::shared_ptr<Servable> opened(ModelFile& found, const std::string& file);
  void note(const std::string& file, const Identity& identity, std::exception_ptr failed);
  void finish(const Identity& identity, const std::string& file, std::shared_ptr<Model> model, std::exception_ptr failed, bool keep);
  void drop(std::map<Identity, Entry>::iterator entry);
  void shrink();
  void age();
  void report();

  const CacheOptions options_;
  Catalog& catalog_;
  Pool& pool_;
  Metrics& metrics_;
  std::mutex lock_;
  std::map<Identity, Entry> entries_;
  std::list<Identity> order_;                   // the least recently used first
  std::map<std::string, Identity> identities_;  // of each file when it was last asked for
  std::set<std::string> unloaded_;
  std::map<std::string, std::pair<Identity, std::string>> failures_;  // of each file: what was tried last, and why that failed
  std::size_t bytes_ = 0;
};
