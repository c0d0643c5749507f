// Loads a TorchScript model, calls its forward with a tensor of ones and prints the result.
//
//   main MODEL.pt [SIZE...]      for example: main resnet.pt 1 3 224 224
//
// For libtorch 1.1 to 1.4; `torchlink cmake init` writes another program for newer ones.

#include <torch/csrc/autograd/grad_mode.h>
#include <torch/script.h>

#include <cstdint>
#include <exception>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

using torch::jit::script::Module;

// torch::jit::load returns a module since 1.2, and a pointer to one in 1.1.
static Module& module_of(Module& loaded) {
  return loaded;
}
static Module& module_of(const std::shared_ptr<Module>& loaded) {
  return *loaded;
}

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: " << argv[0] << " MODEL.pt [SIZE...]\n";
    return 2;
  }
  try {
    auto loaded = torch::jit::load(std::string(argv[1]));
    Module& model = module_of(loaded);
    model.eval();
    const torch::autograd::AutoGradMode no_gradients(false);

    std::vector<std::int64_t> shape;
    for (int i = 2; i < argc; ++i) shape.push_back(std::stoll(argv[i]));
    if (shape.empty()) shape = {1, 4};

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
