#include "cache.h"

using Clock = std::chrono::steady_clock;

Cache::Cache(const CacheOptions& options, Catalog& catalog, Pool& pool, Metrics& metrics) : options_(options), catalog_(catalog), pool_(pool), metrics_(metrics) {
  if (options_.ttl.count() > 0) pool_.post_at(Clock::now() + std::chrono::seconds(1), [this] { age(); });
}

std::shared_ptr<Model> Cache::loaded(const Found& asked) {
  const std::lock_guard<std::mutex> held(lock_);
  if (!unloaded_.empty() && unloaded_.count(asked.file) != 0) return nullptr;
  const auto before = identities_.find(asked.file);
  if (before == identities_.end() || !(before->second == asked.model.identity)) return nullptr;
  const auto entry = entries_.find(asked.model.identity);
  if (entry == entries_.end() || !entry->second.model) return nullptr;
  entry->second.used = Clock::now();
  order_.splice(order_.end(), order_, entry->second.place);
  return entry->second.model;
}

void Cache::get(const Found& asked, Ready ready) {
  const std::string& file = asked.file;
  const ModelFile& found = asked.model;
  std::shared_ptr<Model> model;
  {
    const std::lock_guard<std::mutex> held(lock_);
    if (!unloaded_.empty() && unloaded_.count(file) != 0) throw RequestError(400, "the model is unloaded: load it with POST /v2/repository/models/NAME/load");
    const auto before = identities_.find(file);
    if (before == identities_.end()) {
      if (identities_.size() > 10000) identities_.clear();
      identities_.emplace(file, found.identity);
    } else if (!(before->second == found.identity)) {  // the file was replaced
      const auto old = entries_.find(before->second);
      if (old != entries_.end() && old->second.model) drop(old);
      before->second = found.identity;
    }
    const auto entry = entries_.find(found.identity);
    if (entry == entries_.end()) {
      entries_[found.identity].waiting.push_back(std::move(ready));
      start(found, file);
      return;
    }
    if (!entry->second.model) {
      entry->second.waiting.push_back(std::move(ready));
      return;
    }
    model = entry->second.model;
    entry->second.used = Clock::now();
    order_.splice(order_.end(), order_, entry->second.place);
  }
  ready(std::move(model), nullptr);
}

void Cache::load(const Found& found, Ready ready) {
  {
    const std::lock_guard<std::mutex> held(lock_);
    unloaded_.erase(found.file);
  }
  get(found, std::move(ready));
}

bool Cache::unload(const std::string& file) {
  const Identity identity = catalog_.find(file).identity;
  const std::lock_guard<std::mutex> held(lock_);
  unloaded_.insert(file);
  const auto entry = entries_.find(identity);
  if (entry == entries_.end() || !entry->second.model) return false;
  drop(entry);
  return true;
}

Cache::State Cache::state(const std::string& file) {
  Identity identity;
  try {
    identity = catalog_.find(file).identity;
  } catch (const RequestError& error) {  // it vanished just now
    return {"UNAVAILABLE", error.what()};
  }
  const std::lock_guard<std::mutex> held(lock_);
  const auto entry = entries_.find(identity);
  if (entry != entries_.end()) return {entry->second.model ? "READY" : "LOADING", ""};
  if (unloaded_.count(file) != 0) return {"UNAVAILABLE", "unloaded"};
  const auto failure = failures_.find(file);
  if (failure == failures_.end() || !(failure->second.first == identity)) return {"UNAVAILABLE", "not loaded yet"};
  return {"UNAVAILABLE", failure->second.second};
}

void Cache::start(const ModelFile& found, const std::string& file) {
  pool_.post([this, found, file] {
    ModelMetrics& metrics = metrics_.model(file);
    std::shared_ptr<Model> model;
    std::exception_ptr failed;
    ModelFile read = found;
    try {
      std::shared_ptr<Servable> servable = opened(read, file);
      auto batcher = std::make_shared<Batcher>(servable, options_.batch, pool_, metrics);
      model = std::shared_ptr<Model>(new Model{file, std::move(servable), std::move(batcher), metrics});
      ++metrics.loads;
    } catch (...) {
      failed = std::current_exception();
      ++metrics.failed_loads;
    }
    note(file, read.identity, failed);
    finish(found.identity, file, std::move(model), failed, read.identity == found.identity);
  });
}

// How loading a file went.
void Cache::note(const std::string& file, const Identity& identity, std::exception_ptr failed) {
  std::string reason;
  try {
    if (failed) std::rethrow_exception(failed);
  } catch (const std::exception& error) {
    reason = error.what();
  } catch (...) {
    reason = "an unknown error";
  }
  const std::lock_guard<std::mutex> held(lock_);
  if (failures_.size() > 10000) failures_.clear();
  if (failed) {
    failures_[file] = {identity, std::move(reason)};
  } else {
    failures_.erase(file);
  }
}

// Another file may take its place while it is read, or a link that leads out: then what was read counts for nothing.
std::shared_ptr<Servable> Cache::opened(ModelFile& found, const std::string& file) {
  for (int i = 0; i < 20; ++i) {
    std::shared_ptr<Servable> servable;
    std::exception_ptr failed;
    try {
      servable = open_model(found.path, options_.open);
    } catch (...) {
      failed = std::current_exception();
    }
    const ModelFile now = catalog_.find(file);
    if (now.identity == found.identity) {
      if (failed) std::rethrow_exception(failed);
      return servable;
    }
    found = now;
  }
  throw RequestError(503, "the model's file is being replaced again and again");
}

void Cache::finish(const Identity& identity, const std::string& file, std::shared_ptr<Model> model, std::exception_ptr failed, bool keep) {
  std::vector<Ready> waiting;
  {
    const std::lock_guard<std::mutex> held(lock_);
    const auto found = entries_.find(identity);
    Entry& entry = found->second;
    waiting.swap(entry.waiting);
    // A file is never smaller than what is loaded of it.
    entry.bytes = model ? std::max(model->servable->bytes(), static_cast<std::size_t>(identity.size)) : 0;
    if (!model || !keep || entry.bytes > options_.bytes || unloaded_.count(file) != 0) {
      entries_.erase(found);  // a model beyond the budget serves those who wait for it, and is not kept
    } else {
      entry.model = model;
      entry.used = Clock::now();
      entry.place = order_.insert(order_.end(), identity);
      bytes_ += entry.bytes;
      shrink();
      report();
    }
  }
  for (Ready& each : waiting) {
    pool_.post([each = std::move(each), model, failed] { each(model, failed); });
  }
}

// Requests that are in it keep a model until they are answered.
void Cache::drop(std::map<Identity, Entry>::iterator entry) {
  ++entry->second.model->metrics.evictions;
  bytes_ -= entry->second.bytes;
  order_.erase(entry->second.place);
  entries_.erase(entry);
  report();
}

void Cache::shrink() {
  while (bytes_ > options_.bytes && order_.size() > 1) drop(entries_.find(order_.front()));
}

void Cache::age() {
  {
    const std::lock_guard<std::mutex> held(lock_);
    const auto oldest = Clock::now() - options_.ttl;
    while (!order_.empty() && entries_.find(order_.front())->second.used < oldest) drop(entries_.find(order_.front()));
  }
  pool_.post_at(Clock::now() + std::chrono::seconds(1), [this] { age(); });
}

void Cache::report() {
  metrics_.loaded_models = static_cast<std::int64_t>(order_.size());
  metrics_.loaded_bytes = static_cast<std::int64_t>(bytes_);
}
