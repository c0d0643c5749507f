#include "metrics.h"

#include "json.h"

namespace {

constexpr const char* route_names[] = {"/serve", "/predictions", "/v2/infer", "/v2", "/ping", "/models", "/metrics", "/", "other"};

std::string quoted(const std::string& text) { return json_string(text); }

void head(std::string& out, const char* name, const char* kind, const char* help) {
  out += std::string("# HELP ") + name + " " + help + "\n# TYPE " + name + " " + kind + "\n";
}

std::string number(double value) {
  std::string out;
  append_json(out, value);
  if (out.size() > 2 && out.compare(out.size() - 2, 2, ".0") == 0) out.resize(out.size() - 2);
  return out;
}

}  // namespace

template <std::size_t Bounds>
void Histogram<Bounds>::append(std::string& out, const std::string& name, const std::string& labels, const std::array<double, Bounds>& bounds) const {
  std::uint64_t total = 0;
  for (std::size_t i = 0; i <= Bounds; ++i) {
    total += counts_[i].load(std::memory_order_relaxed);
    out += name + "_bucket{" + labels + ",le=\"" + (i < Bounds ? number(bounds[i]) : "+Inf") + "\"} " + std::to_string(total) + "\n";
  }
  out += name + "_sum{" + labels + "} " + number(static_cast<double>(sum_.load(std::memory_order_relaxed)) / 1e6) + "\n";
  out += name + "_count{" + labels + "} " + std::to_string(total) + "\n";
}

void Metrics::answered(Route route, int status, std::chrono::steady_clock::duration took) {
  const auto which = static_cast<std::size_t>(route);
  answers_[which][static_cast<std::size_t>(status)].fetch_add(1, std::memory_order_relaxed);
  durations_[which].observe(std::chrono::duration<double>(took).count(), second_bounds);
}

ModelMetrics& Metrics::model(const std::string& file) {
  const std::lock_guard<std::mutex> held(lock_);
  return models_[file];
}

std::string Metrics::text() const {
  std::string out;
  head(out, "server_requests_total", "counter", "Requests answered.");
  for (std::size_t route = 0; route < routes; ++route) {
    for (std::size_t status = 0; status < 600; ++status) {
      const std::uint64_t count = answers_[route][status].load(std::memory_order_relaxed);
      if (count == 0) continue;
      out += std::string("server_requests_total{route=\"") + route_names[route] + "\",code=\"" + std::to_string(status) + "\"} " + std::to_string(count) + "\n";
    }
  }
  head(out, "server_request_duration_seconds", "histogram", "From a request's last byte to its answer.");
  for (std::size_t route = 0; route < routes; ++route) {
    durations_[route].append(out, "server_request_duration_seconds", std::string("route=\"") + route_names[route] + "\"", second_bounds);
  }
  const std::pair<const char*, std::pair<const char*, std::int64_t>> gauges[] = {
      {"server_requests_in_flight", {"Requests that are being answered.", in_flight}},
      {"server_requests_queued", {"Requests that wait for a thread or a model.", queued}},
      {"server_models_loaded", {"Models in memory.", loaded_models}},
      {"server_models_loaded_bytes", {"The memory that they take.", loaded_bytes}}};
  for (const auto& [name, about] : gauges) {
    head(out, name, "gauge", about.first);
    out += std::string(name) + " " + std::to_string(about.second) + "\n";
  }
  const std::lock_guard<std::mutex> held(lock_);
  const auto counter = [&](const char* name, const char* help, const std::atomic<std::uint64_t> ModelMetrics::*which) {
    head(out, name, "counter", help);
    for (const auto& [file, about] : models_) out += std::string(name) + "{model=" + quoted(file) + "} " + std::to_string((about.*which).load()) + "\n";
  };
  counter("server_model_loads_total", "How often a model was loaded.", &ModelMetrics::loads);
  counter("server_model_load_failures_total", "How often loading it failed.", &ModelMetrics::failed_loads);
  counter("server_model_evictions_total", "How often it was dropped: for the budget, its age, or a changed file.", &ModelMetrics::evictions);
  counter("server_model_requests_total", "Requests that called it.", &ModelMetrics::requests);
  counter("server_model_errors_total", "Of these, with an error.", &ModelMetrics::errors);
  head(out, "server_batch_size", "histogram", "Requests joined in one call of a model.");
  for (const auto& [file, about] : models_) about.batches.append(out, "server_batch_size", "model=" + quoted(file), batch_bounds);
  return out;
}
