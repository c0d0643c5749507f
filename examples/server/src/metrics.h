// What /metrics reports, in Prometheus' text format.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

template <std::size_t Bounds>
class Histogram {
 public:
  void observe(double value, const std::array<double, Bounds>& bounds) {
    std::size_t i = 0;
    while (i < Bounds && value > bounds[i]) ++i;
    counts_[i].fetch_add(1, std::memory_order_relaxed);
    // Millionths: an atomic double has no addition in C++17.
    sum_.fetch_add(static_cast<std::uint64_t>(value * 1e6), std::memory_order_relaxed);
  }
  void append(std::string& out, const std::string& name, const std::string& labels, const std::array<double, Bounds>& bounds) const;

 private:
  std::array<std::atomic<std::uint64_t>, Bounds + 1> counts_{};
  std::atomic<std::uint64_t> sum_{0};
};

inline constexpr std::array<double, 12> second_bounds = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5};
inline constexpr std::array<double, 9> batch_bounds = {1, 2, 4, 8, 16, 32, 64, 128, 256};
using Durations = Histogram<second_bounds.size()>;
using BatchSizes = Histogram<batch_bounds.size()>;

enum class Route { serve, predictions, infer, protocol, ping, models, metrics, page, other, count };

// Of one file; kept when the model is dropped, as counters must not go back.
struct ModelMetrics {
  std::atomic<std::uint64_t> loads{0}, failed_loads{0}, evictions{0}, requests{0}, errors{0};
  BatchSizes batches;
};

class Metrics {
 public:
  void answered(Route route, int status, std::chrono::steady_clock::duration took);
  ModelMetrics& model(const std::string& file);

  std::atomic<std::int64_t> in_flight{0}, queued{0};
  std::atomic<std::int64_t> loaded_models{0}, loaded_bytes{0};

  std::string text() const;

 private:
  static constexpr std::size_t routes = static_cast<std::size_t>(Route::count);
  std::array<std::array<std::atomic<std::uint64_t>, 600>, routes> answers_{};
  std::array<Durations, routes> durations_;
  mutable std::mutex lock_;
  std::map<std::string, ModelMetrics> models_;
};
