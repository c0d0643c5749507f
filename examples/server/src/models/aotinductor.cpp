// Models compiled by AOTInductor: packages, .pt2.
#include "../servable.h"

#if __has_include(<torch/csrc/inductor/aoti_package/model_package_loader.h>)

#include <ATen/ops/empty_strided.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <mutex>

#include "../values/dtypes.h"
#include "aotinductor_spec.h"
#include "aotinductor_words.h"
#include "messages.h"

namespace {

using Runner = torch::inductor::AOTIModelContainerRunner;

std::vector<at::Tensor> run(Runner& runner, std::vector<at::Tensor>& tensors) {
  const Overheard overheard;
  try {
    return runner.run(tensors);
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    throw RequestError(400, "the model failed: " + overheard.sentence(first_line(error.what())));
  }
}

// One tensor that a model takes, as far as it is known.
struct Asked {
  static constexpr std::size_t most = 12;                              // dimensions
  static constexpr std::int64_t no_stride = std::int64_t(1) << 40;     // one that nothing asks for
  c10::ScalarType dtype = c10::ScalarType::Float;
  std::vector<int64_t> sizes = std::vector<int64_t>(most, 0), strides = std::vector<int64_t>(most, no_stride);
  std::vector<int64_t> least = std::vector<int64_t>(most, 0);  // of a dynamic size
  std::vector<bool> dynamic = std::vector<bool>(most, false);
  std::size_t dimensions = 0;  // that were spoken of

  // Whether its elements lie in row-major order.
  bool is_plain() const {
    int64_t next = 1;
    for (std::size_t i = sizes.size(); i-- > 0;) {
      if (sizes[i] != 1 && strides[i] != next) return false;
      next *= sizes[i];
    }
    return true;
  }

  void finish() {
    sizes.resize(dimensions);
    dynamic.resize(dimensions);
    strides.resize(dimensions);
    int64_t next = 1;
    for (std::size_t i = dimensions; i-- > 0;) {
      if (sizes[i] == 0) {
        sizes[i] = 2;
        dynamic[i] = true;
      }
      if (strides[i] == no_stride) strides[i] = next;
      next = strides[i] * sizes[i];
    }
  }
};

// What a compiled model takes is in none of its files, but its checks say what is wrong with a tensor: dtype, sizes, strides and
// device, in this order, before anything runs. Tensors on no device never pass the last check.
std::vector<Asked> asked_by(Runner& runner, std::size_t count) {
  std::vector<Asked> asked(count);
  std::size_t known = 0;  // how many are finished
  std::string before;
  for (int tries = 0; known < asked.size() && tries < 4096; ++tries) {
    std::vector<at::Tensor> tensors;
    for (std::size_t i = 0; i < asked.size(); ++i) {
      const auto device = i < known ? c10::Device(c10::kCPU) : c10::Device(c10::kMeta);
      tensors.push_back(at::empty_strided(asked[i].sizes, asked[i].strides, at::TensorOptions(asked[i].dtype).device(device)));
    }
    std::string said;
    try {
      run(runner, tensors);
      return {};  // a model without checks
    } catch (const RequestError& error) {
      said = error.what();
    }
    if (said == before) return {};
    before = said;
    std::size_t input = 0, dimension = 0;
    long long number = 0;
    const char* const text = std::strstr(said.c_str(), "input_handles[");
    if (text == nullptr) {
      const char* const size = std::strstr(said.c_str(), "inputs vector size to be ");
      if (size == nullptr || std::sscanf(size, "inputs vector size to be %lld", &number) != 1 || number < 0 || number > 100000) return {};
      asked.resize(static_cast<std::size_t>(number));
      continue;
    }
    if (std::sscanf(text, "input_handles[%zu]", &input) != 1 || input >= asked.size()) return {};
    Asked& one = asked[input];
    const auto about = [&](const char* form) {
      if (std::sscanf(text, form, &dimension, &number) != 2 || dimension >= Asked::most) return false;
      one.dimensions = std::max(one.dimensions, dimension + 1);
      return true;
    };
    if (std::sscanf(text, "input_handles[%*u]: unmatched dtype, expected: %lld", &number) == 1) {
      one.dtype = static_cast<c10::ScalarType>(number);
    } else if (about("input_handles[%*u]: unmatched dim value at %zu, expected: %lld")) {
      one.sizes[dimension] = number;
    } else if (about("input_handles[%*u]: dim value is too small at %zu, expected it to be >= %lld")) {
      one.sizes[dimension] = std::max<long long>(number, 2);
      one.least[dimension] = number;
      one.dynamic[dimension] = true;
    } else if (about("input_handles[%*u]: dim value is too large at %zu, expected to be <= %lld")) {
      one.sizes[dimension] = number;
      one.dynamic[dimension] = true;
    } else if (about("input_handles[%*u]: unmatched stride value at %zu, expected: %lld")) {
      one.strides[dimension] = number;
    } else if (std::strstr(text, "unmatched device type") != nullptr && input == known) {
      one.finish();
      ++known;
    } else {
      return {};
    }
  }
  return asked;
}

class AotInductor : public Servable {
 public:
  explicit AotInductor(const std::string& path) {
    // The environment is one for all threads, and a model reads it at its first call.
    static std::mutex one_at_a_time;
    const std::lock_guard<std::mutex> held(one_at_a_time);
    setenv("AOTI_RUNTIME_CHECK_INPUTS", "1", 1);
    open(path);
    asked_ = asked_by(*runner_, has_spec_ ? taken_.leaves() : 1);
    // torch.export takes a free size to be at least 2, which these checks then insist on; the code itself runs with one row, as
    // in Python. So where it is known what to check, it is checked here, and the model is loaded again without.
    if (!asked_.empty()) {
      unsetenv("AOTI_RUNTIME_CHECK_INPUTS");
      open(path);
    }
    describe();
    try_out();
    bytes_ = static_cast<std::size_t>(std::filesystem::file_size(path));
  }

  const char* platform() const override { return "pytorch_aotinductor"; }
  const Signature& signature() const override { return signature_; }
  std::size_t bytes() const override { return bytes_; }

  c10::IValue call(std::vector<c10::IValue> arguments) override {
    const c10::InferenceMode guard;
    std::vector<at::Tensor> tensors;
    if (arguments.size() != signature_.inputs.size() && (called_by_spec() || !asked_.empty())) {
      throw RequestError(400, "the model takes " + std::to_string(signature_.inputs.size()) + " arguments, and " + std::to_string(arguments.size()) + " are given");
    }
    for (std::size_t i = 0; i < arguments.size(); ++i) {
      const Spec leaf;
      const Spec& spec = called_by_spec() ? part(i) : leaf;
      spec.flatten(arguments[i], i < signature_.inputs.size() ? signature_.inputs[i].name : "argument", tensors);
    }
    if (!asked_.empty() && tensors.size() != asked_.size()) {
      throw RequestError(400, "the model takes " + std::to_string(asked_.size()) + " tensors, and " + std::to_string(tensors.size()) + " are given");
    }
    for (std::size_t i = 0; i < asked_.size(); ++i) check(tensors[i], asked_[i], i);
    const std::vector<at::Tensor> results = run(*runner_, tensors);
    if (!has_spec_ || given_.leaves() != results.size()) {
      if (results.size() == 1) return results[0];
      return c10::ivalue::Tuple::create(std::vector<c10::IValue>(results.begin(), results.end()));
    }
    std::size_t at = 0;
    return given_.unflatten(results, at);
  }

 private:
  void open(const std::string& path) {
    runner_ = nullptr;
    loader_.reset();
    loader_ = std::make_unique<torch::inductor::AOTIModelPackageLoader>(path);
    runner_ = loader_->get_runner();
    const std::vector<std::string> spec = runner_->get_call_spec();
    has_spec_ = spec.size() == 2 && !spec[0].empty() && !spec[1].empty();
    if (!has_spec_) return;
    taken_ = Spec::read(spec[0]);
    given_ = Spec::read(spec[1]);
  }

  // Zeros of the sizes that it takes: what comes out tells the dtypes and ranks of the outputs.
  void try_out() {
    if (asked_.empty()) return;
    std::vector<at::Tensor> tensors;
    for (const Asked& each : asked_) tensors.push_back(at::zeros(each.sizes, at::TensorOptions(each.dtype)));
    std::vector<at::Tensor> results;
    try {
      const c10::InferenceMode guard;
      results = run(*runner_, tensors);
    } catch (const std::exception&) {
      return;  // zeros are not for it
    }
    for (std::size_t i = 0; i < results.size() && i < signature_.outputs.size(); ++i) {
      Port& port = signature_.outputs[i];
      port.data_type = dtype_name(results[i].scalar_type());
      port.ranked = true;
      const bool rows = std::all_of(asked_.begin(), asked_.end(), [](const Asked& each) { return !each.dynamic.empty() && each.dynamic[0]; });
      for (int64_t d = 0; d < results[i].dim(); ++d) port.shape.push_back(d == 0 && rows && results[i].size(0) == asked_[0].sizes[0] ? -1 : results[i].size(d));
    }
  }

  bool called_by_spec() const { return has_spec_ && taken_.parts.size() == 2; }  // ((arguments…), {keywords…})

  const Spec& part(std::size_t index) const {
    const std::size_t positions = taken_.parts[0].parts.size();
    return index < positions ? taken_.parts[0].parts[index] : taken_.parts[1].parts[index - positions];
  }

  // Without this a wrong size would be read from behind the tensor.
  static void check(at::Tensor& tensor, const Asked& asked, std::size_t index) {
    const std::string which = "tensor " + std::to_string(index + 1) + " of the model ";
    if (tensor.scalar_type() != asked.dtype) throw RequestError(400, which + "must be " + dtype_name(asked.dtype) + ", and is " + dtype_name(tensor.scalar_type()));
    bool fits = static_cast<std::size_t>(tensor.dim()) == asked.sizes.size();
    for (std::size_t i = 0; fits && i < asked.sizes.size(); ++i) {
      const int64_t size = tensor.size(static_cast<int64_t>(i)), least = asked.least[i] <= 2 ? 1 : asked.least[i];
      fits = asked.dynamic[i] ? size >= least : size == asked.sizes[i];
    }
    if (!fits) {
      std::string shape;
      for (std::size_t i = 0; i < asked.sizes.size(); ++i) shape += (i > 0 ? ", " : "") + (asked.dynamic[i] ? std::string("-1") : std::to_string(asked.sizes[i]));
      throw RequestError(400, which + "must have the shape [" + shape + "]");
    }
    if (asked.is_plain()) {
      tensor = tensor.contiguous();
      return;
    }
    // Compiled for a transposed tensor, or the like.
    if (tensor.sizes() == c10::IntArrayRef(asked.sizes)) {
      const at::Tensor laid = at::empty_strided(asked.sizes, asked.strides, tensor.options());
      laid.copy_(tensor);
      tensor = laid;
    }
  }

  void describe() {
    std::size_t at = 0;
    const std::size_t count = called_by_spec() ? taken_.parts[0].parts.size() + taken_.parts[1].parts.size() : asked_.size();
    for (std::size_t i = 0; i < count; ++i) {
      Port port;
      const std::size_t positions = called_by_spec() ? taken_.parts[0].parts.size() : count;
      port.name = i < positions ? "input" + std::to_string(i) : Spec::shown(taken_.parts[1].keys.at(i - positions));
      const Spec leaf;
      const Spec& spec = called_by_spec() ? part(i) : leaf;
      if (spec.kind == Spec::leaf && at < asked_.size()) {
        port.data_type = dtype_name(asked_[at].dtype);
        port.ranked = true;
        for (std::size_t d = 0; d < asked_[at].sizes.size(); ++d) port.shape.push_back(asked_[at].dynamic[d] ? -1 : asked_[at].sizes[d]);
      }
      at += spec.leaves();
      signature_.inputs.push_back(std::move(port));
    }
    const std::size_t outputs = has_spec_ ? given_.leaves() : 1;
    for (std::size_t i = 0; i < outputs; ++i) {
      Port port;
      port.name = "output" + std::to_string(i);
      signature_.outputs.push_back(std::move(port));
    }
  }

  std::unique_ptr<torch::inductor::AOTIModelPackageLoader> loader_;
  Runner* runner_ = nullptr;
  bool has_spec_ = false;
  Spec taken_, given_;
  std::vector<Asked> asked_;
  Signature signature_;
  std::size_t bytes_ = 0;
};

}  // namespace

std::unique_ptr<Servable> open_aotinductor(const std::string& path) { return std::make_unique<AotInductor>(path); }

#else

std::unique_ptr<Servable> open_aotinductor(const std::string&) { throw RequestError(422, "this server's libtorch is too old for .pt2: it takes 2.6"); }

#endif
