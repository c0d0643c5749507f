// Loads a handler as the server does and has it answer one request: a tensor of ones.
//
//   try_handler LIBRARY MODEL [SIZE...] [--same-as-model]
//
// With --same-as-model it fails unless the answer is what the model itself answers.

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <cstdint>
#include <exception>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "handler.h"
#include "library.h"

namespace {

// A shape that works for many models, from their first weight: a convolution's weight is [out, in, height, width], a linear
// layer's [out, in].
std::vector<std::int64_t> likely_shape(const std::string& file) {
  try {
    for (const at::Tensor& weight : torch::jit::load(file).parameters()) {
      if (weight.dim() == 4) return {1, weight.size(1), 224, 224};
      if (weight.dim() == 2) return {1, weight.size(1)};
    }
  } catch (const c10::Error&) {
    // A compiled model; its shape must be given.
  }
  return {1, 3};
}

int run(const std::vector<std::string>& positional, bool same_as_model) {
  namespace fs = std::filesystem;
  const std::string library = fs::absolute(positional[0]).string();
  const fs::path model = fs::absolute(positional[1]);
  std::vector<std::int64_t> shape;
  for (std::size_t i = 2; i < positional.size(); ++i) shape.push_back(std::stoll(positional[i]));
  if (shape.empty()) shape = likely_shape(model.string());

  const std::string name = fs::path(library).filename().string();
  const std::string class_name = handlers::class_in(library, name);
  const handlers::HandlerPtr handler = handlers::make_handler(library, name, class_name);
  handlers::Manifest manifest;
  manifest.model_name = model.stem().string();
  manifest.serialized_file = model.filename().string();
  manifest.handler = fs::path(name).stem().string() + ":" + class_name;
  handler->Initialize(model.parent_path().string(), manifest);
  handler->LoadModel(c10::kCPU);

  handlers::Request request;
  request.id = "1";
  request.content_type = "application/json";
  request.arguments = [&] { return std::vector<c10::IValue>{at::ones(shape)}; };
  handlers::Response response;
  handler->Handle(request, response);
  if (response.content_type.empty()) {
    std::cout << response.value << '\n';
  } else {
    std::cout << response.status << ' ' << response.content_type << '\n' << response.body << '\n';
  }

  if (same_as_model) {
    torch::jit::Module module = torch::jit::load(model.string());
    module.eval();
    const at::NoGradGuard no_gradients;
    if (!response.value.isTensor() || !at::equal(response.value.toTensor(), module.forward({at::ones(shape)}).toTensor())) {
      std::cerr << "The handler answers something else than the model.\n";
      return 1;
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> positional(argv + 1, argv + argc);
  const bool same_as_model = !positional.empty() && positional.back() == "--same-as-model";
  if (same_as_model) positional.pop_back();
  if (positional.size() < 2) {
    std::cerr << "usage: " << argv[0] << " LIBRARY MODEL [SIZE...] [--same-as-model]\n";
    return 2;
  }
  try {
    return run(positional, same_as_model);
  } catch (const c10::Error& error) {
    std::cerr << argv[0] << ": " << error.what_without_backtrace() << '\n';
  } catch (const std::exception& error) {
    std::cerr << argv[0] << ": " << error.what() << '\n';
  }
  return 1;
}
