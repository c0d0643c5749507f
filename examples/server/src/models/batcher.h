// Requests for one model joined into one call, along their first dimension.
#pragma once

#include <chrono>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../metrics.h"
#include "../pool.h"
#include "../servable.h"

struct BatchOptions {
  int64_t max_batch = 1;  // rows in one call; 1: nothing is joined
  std::chrono::microseconds wait{0};
};

// Not all models may be joined: one may normalize over its first dimension, or add it up. So the first request of each shape is
// answered alone, and is then tried: with its rows, with as many other rows, and with both joined. Only where the
// joined call gives what the two gave are the following requests joined.
class Batcher : public std::enable_shared_from_this<Batcher> {
 public:
  using Done = std::function<void(c10::IValue, std::exception_ptr)>;

  Batcher(std::shared_ptr<Servable> model, const BatchOptions& options, Pool& pool, ModelMetrics& metrics)
      : model_(std::move(model)), options_(options), pool_(pool), metrics_(metrics) {}

  // Takes the arguments and calls `done` later, from the pool; or returns false where they are to be called alone.
  bool take(std::vector<c10::IValue>& arguments, const Done& done);

 private:
  using Clock = std::chrono::steady_clock;
  enum class Trial { open, running, passed, failed };
  struct Waiting {
    std::vector<c10::IValue> arguments;
    int64_t rows;
    Clock::time_point since;
    Done done;
  };
  struct Shape {  // of the arguments but for the first dimension
    Trial trial = Trial::open;
    std::deque<Waiting> queue;
    int64_t rows = 0;
    int running = 0;
    bool timed = false;
  };

  void pump(const std::string& key, Shape& shape);
  void run(const std::string& key, std::vector<Waiting> batch);
  bool passes(const std::vector<c10::IValue>& arguments, const c10::IValue& result, int64_t rows);

  const std::shared_ptr<Servable> model_;
  const BatchOptions options_;
  Pool& pool_;
  ModelMetrics& metrics_;
  std::mutex lock_;
  std::map<std::string, Shape> shapes_;
};
