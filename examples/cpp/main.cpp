// Loads a TorchScript model, calls its forward with a tensor of ones and prints the result.
//
//   main MODEL.pt [SIZE...]      for example: main resnet.pt 1 3 224 224

#include <torch/script.h>

#include <cstdint>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

// An input shape that works for many models, from their first weight: a convolution's weight is
// [out, in, height, width], a linear layer's [out, in].
static std::vector<std::int64_t> likely_shape(const torch::jit::Module& model) {
  for (const at::Tensor& weight : model.parameters()) {
    if (weight.dim() == 4) return {1, weight.size(1), 224, 224};
    if (weight.dim() == 2) return {1, weight.size(1)};
  }
  return {1, 4};
}

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: " << argv[0] << " MODEL.pt [SIZE...]\n";
    return 2;
  }
  try {
    torch::jit::Module model = torch::jit::load(argv[1]);
    model.eval();
    const torch::NoGradGuard no_gradients;

    std::vector<std::int64_t> shape;
    for (int i = 2; i < argc; ++i) shape.push_back(std::stoll(argv[i]));
    if (shape.empty()) shape = likely_shape(model);

    const torch::jit::IValue output = model.forward({torch::ones(shape)});
    std::cout << output << '\n';
    return 0;
  } catch (const c10::Error& error) {
    std::cerr << argv[0] << ": " << error.what_without_backtrace() << '\n';
  } catch (const std::exception& error) {
    std::cerr << argv[0] << ": " << error.what() << '\n';
  }
  if (argc == 2) std::cerr << "Give the shape of its input after the model.\n";
  return 1;
}
