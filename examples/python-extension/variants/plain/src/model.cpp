#include "model.h"

#include <torch/script.h>

#include <stdexcept>

struct Model::Loaded {
  torch::jit::Module module;
};

Model::Model(const std::string& path) {
  try {
    loaded_ = std::make_unique<Loaded>(Loaded{torch::jit::load(path)});
  } catch (const c10::Error& error) {
    throw std::runtime_error(error.what_without_backtrace());
  }
  loaded_->module.eval();
}

Model::~Model() = default;

Array Model::forward(const Array& input) const {
  const torch::InferenceMode inference;
  try {
    // The tensor borrows the numbers of `input`, which outlives it.
    const auto tensor = torch::from_blob(const_cast<float*>(input.values.data()), input.shape);
    if (tensor.numel() != static_cast<std::int64_t>(input.values.size())) {
      throw std::invalid_argument("the shape does not fit the number of values");
    }
    const auto output = loaded_->module.forward({tensor}).toTensor().to(torch::kFloat).contiguous();
    const float* begin = output.data_ptr<float>();
    return {{begin, begin + output.numel()}, output.sizes().vec()};
  } catch (const c10::Error& error) {
    throw std::runtime_error(error.what_without_backtrace());
  }
}
