#include "batcher.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <c10/core/InferenceMode.h>

namespace {

constexpr std::size_t most_shapes = 1000;

// Empty where the arguments have no first dimension in common. One row is a kind of its own: some models squeeze it away.
std::string key_of(const std::vector<c10::IValue>& arguments, int64_t& rows) {
  std::string key;
  for (const c10::IValue& each : arguments) {
    if (!each.isTensor()) return "";
    const at::Tensor& tensor = each.toTensor();
    if (tensor.dim() == 0 || tensor.size(0) == 0) return "";
    if (key.empty()) {
      rows = tensor.size(0);
      key = rows == 1 ? "1" : "n";
    }
    if (tensor.size(0) != rows) return "";
    key += c10::toString(tensor.scalar_type());
    for (int64_t i = 1; i < tensor.dim(); ++i) key += "," + std::to_string(tensor.size(i));
    key += ";";
  }
  return key;
}

std::vector<c10::IValue> joined(const std::vector<const std::vector<c10::IValue>*>& calls) {
  std::vector<c10::IValue> out;
  for (std::size_t i = 0; i < calls[0]->size(); ++i) {
    std::vector<at::Tensor> parts;
    for (const auto* each : calls) parts.push_back((*each)[i].toTensor());
    out.emplace_back(at::cat(parts));
  }
  return out;
}

// The rows of one request, out of the result of all. Throws where the result has no rows.
c10::IValue part_of(const c10::IValue& value, int64_t start, int64_t rows, int64_t total) {
  if (value.isTensor()) {
    const at::Tensor& tensor = value.toTensor();
    if (tensor.dim() == 0 || tensor.size(0) != total) throw std::runtime_error("no rows");
    return tensor.narrow(0, start, rows);
  }
  if (value.isTuple()) {
    std::vector<c10::IValue> parts;
    const auto tuple = value.toTuple();
    for (const c10::IValue& each : tuple->elements()) parts.push_back(part_of(each, start, rows, total));
    const auto type = tuple->type();
    if (type && type->schema()) return c10::ivalue::Tuple::createNamed(std::move(parts), type);
    return c10::ivalue::Tuple::create(std::move(parts));
  }
  if (value.isList()) {
    c10::impl::GenericList out(value.toList().elementType());
    for (const c10::IValue& each : value.toListRef()) out.push_back(part_of(each, start, rows, total));
    return out;
  }
  if (value.isGenericDict()) {
    const auto dict = value.toGenericDict();
    c10::impl::GenericDict out(dict.keyType(), dict.valueType());
    for (const auto& entry : dict) out.insert(entry.key(), part_of(entry.value(), start, rows, total));
    return out;
  }
  throw std::runtime_error("no rows");
}

// Up to rounding: a product of more rows may be added up in another order.
bool same(const c10::IValue& one, const c10::IValue& other) {
  if (one.isTensor() && other.isTensor()) {
    const at::Tensor &a = one.toTensor(), &b = other.toTensor();
    if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type()) return false;
    if (!a.is_floating_point() && !a.is_complex()) return at::equal(a, b);
    const double size = a.element_size() / (a.is_complex() ? 2.0 : 1.0);
    const double tolerance = size >= 8 ? 1e-9 : size >= 4 ? 1e-4 : 2e-2;
    return at::allclose(a, b, tolerance, tolerance / 10, /*equal_nan=*/true);
  }
  if (one.isTuple() && other.isTuple()) {
    const auto a = one.toTuple(), b = other.toTuple();
    if (a->elements().size() != b->elements().size()) return false;
    for (std::size_t i = 0; i < a->elements().size(); ++i) {
      if (!same(a->elements()[i], b->elements()[i])) return false;
    }
    return true;
  }
  if (one.isList() && other.isList()) {
    const auto a = one.toListRef(), b = other.toListRef();
    if (a.size() != b.size()) return false;
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (!same(a[i], b[i])) return false;
    }
    return true;
  }
  if (one.isGenericDict() && other.isGenericDict()) {
    const auto a = one.toGenericDict(), b = other.toGenericDict();
    if (a.size() != b.size()) return false;
    for (const auto& entry : a) {
      const auto found = b.find(entry.key());
      if (found == b.end() || !same(entry.value(), found->value())) return false;
    }
    return true;
  }
  return false;
}

// Other rows of the same shape, with values that a model of these rows takes: indices stay indices.
at::Tensor varied(const at::Tensor& tensor) {
  if (tensor.scalar_type() == c10::ScalarType::Bool) return tensor.logical_not();
  if (tensor.is_floating_point() || tensor.is_complex()) return tensor * 0.5 + 0.25;
  std::vector<int64_t> all;
  for (int64_t i = 0; i < tensor.dim(); ++i) all.push_back(i);
  const at::Tensor turned = tensor.flip(all);
  if (!at::equal(turned, tensor)) return turned;
  const at::Tensor zeros = at::zeros_like(tensor);
  return at::equal(zeros, tensor) ? at::ones_like(tensor) : zeros;
}

}  // namespace

bool Batcher::take(std::vector<c10::IValue>& arguments, const Done& done) {
  if (options_.max_batch <= 1 || !model_->may_batch()) return false;
  int64_t rows = 0;
  const std::string key = key_of(arguments, rows);
  if (key.empty() || rows >= options_.max_batch) return false;
  const std::lock_guard<std::mutex> held(lock_);
  if (shapes_.size() >= most_shapes && shapes_.count(key) == 0) return false;
  Shape& shape = shapes_[key];
  if (shape.trial == Trial::running || shape.trial == Trial::failed) return false;
  if (shape.trial == Trial::passed) {
    shape.queue.push_back({std::move(arguments), rows, Clock::now(), done});
    shape.rows += rows;
    pump(key, shape);
    return true;
  }
  shape.trial = Trial::running;
  pool_.post([self = shared_from_this(), key, rows, done, arguments = std::move(arguments)] {
    c10::IValue result;
    std::exception_ptr failed;
    try {
      const c10::InferenceMode guard;
      result = self->model_->call(arguments);
    } catch (...) {
      failed = std::current_exception();
    }
    self->metrics_.batches.observe(1, batch_bounds);
    done(result, failed);
    // A request that fails says nothing about the others.
    const bool passed = !failed && self->passes(arguments, result, rows);
    const std::lock_guard<std::mutex> again(self->lock_);
    self->shapes_[key].trial = failed ? Trial::open : passed ? Trial::passed : Trial::failed;
  });
  return true;
}

bool Batcher::passes(const std::vector<c10::IValue>& arguments, const c10::IValue& result, int64_t rows) {
  try {
    const c10::InferenceMode guard;
    std::vector<c10::IValue> others;
    for (const c10::IValue& each : arguments) others.emplace_back(varied(each.toTensor()));
    const c10::IValue other = model_->call(others);
    const c10::IValue both = model_->call(joined({&arguments, &others}));
    return same(part_of(both, 0, rows, 2 * rows), result) && same(part_of(both, rows, rows, 2 * rows), other);
  } catch (const std::exception&) {
    return false;
  }
}

// Starts what is due: a full batch, or one whose first request has waited long enough.
void Batcher::pump(const std::string& key, Shape& shape) {
  while (!shape.queue.empty() && shape.running < pool_.size()) {
    const auto due = shape.queue.front().since + options_.wait;
    if (shape.rows < options_.max_batch && Clock::now() < due) {
      if (shape.timed) return;
      shape.timed = true;
      pool_.post_at(due, [self = shared_from_this(), key] {
        const std::lock_guard<std::mutex> held(self->lock_);
        Shape& later = self->shapes_[key];
        later.timed = false;
        self->pump(key, later);
      });
      return;
    }
    std::vector<Waiting> batch;
    int64_t rows = 0;
    while (!shape.queue.empty() && rows + shape.queue.front().rows <= options_.max_batch) {
      rows += shape.queue.front().rows;
      batch.push_back(std::move(shape.queue.front()));
      shape.queue.pop_front();
    }
    shape.rows -= rows;
    ++shape.running;
    pool_.post([self = shared_from_this(), key, kept = std::make_shared<std::vector<Waiting>>(std::move(batch))] { self->run(key, std::move(*kept)); });
  }
}

void Batcher::run(const std::string& key, std::vector<Waiting> batch) {
  metrics_.batches.observe(static_cast<double>(batch.size()), batch_bounds);
  bool apart = batch.size() == 1;
  if (!apart) {
    try {
      const c10::InferenceMode guard;
      std::vector<const std::vector<c10::IValue>*> calls;
      int64_t total = 0;
      for (const Waiting& each : batch) {
        calls.push_back(&each.arguments);
        total += each.rows;
      }
      const c10::IValue all = model_->call(joined(calls));
      std::vector<c10::IValue> results;
      int64_t start = 0;
      for (const Waiting& each : batch) {
        results.push_back(part_of(all, start, each.rows, total));
        start += each.rows;
      }
      for (std::size_t i = 0; i < batch.size(); ++i) batch[i].done(std::move(results[i]), nullptr);
    } catch (...) {
      apart = true;  // one request must not fail for another's values
    }
  }
  for (std::size_t i = 0; apart && i < batch.size(); ++i) {
    c10::IValue result;
    std::exception_ptr failed;
    try {
      const c10::InferenceMode guard;
      result = model_->call(std::move(batch[i].arguments));
    } catch (...) {
      failed = std::current_exception();
    }
    batch[i].done(std::move(result), failed);
  }
  const std::lock_guard<std::mutex> held(lock_);
  Shape& shape = shapes_[key];
  --shape.running;
  pump(key, shape);
}
