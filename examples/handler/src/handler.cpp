// The default steps of a handler, and the two kinds of models.
#include "handler.h"

#include <ATen/ATen.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <cstdlib>
#include <cstring>
#include <new>

namespace handlers {

namespace {

// What the model does not take is mostly the fault of the request. Of the interpreter's traceback only the last line, the error,
// is sent.
[[noreturn]] void refuse(const std::exception& error) {
  const auto* const known = dynamic_cast<const c10::Error*>(&error);
  std::string text = known != nullptr ? known->what_without_backtrace() : error.what();
  const std::size_t start = text.rfind("\nRuntimeError: ");
  if (start != std::string::npos) text.erase(0, start + std::strlen("\nRuntimeError: "));
  throw BadRequest("the model failed: " + text.substr(0, text.find('\n')));
}

class TorchScript : public Model {
 public:
  TorchScript(const std::string& file, const c10::Device& device) : module_(torch::jit::load(file, device)) {
    module_.eval();
    forward_ = std::make_unique<torch::jit::Method>(module_.get_method("forward"));
  }
  c10::IValue Forward(std::vector<c10::IValue> arguments) override {
    try {
      return (*forward_)(std::move(arguments));
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& error) {
      refuse(error);
    }
  }
  const c10::FunctionSchema* Schema() const override { return &forward_->function().getSchema(); }

 private:
  torch::jit::Module module_;
  std::unique_ptr<torch::jit::Method> forward_;
};

// A compiled model takes tensors, in the order in which they stand in its arguments.
void add_tensors(const c10::IValue& value, std::vector<at::Tensor>& tensors) {
  if (value.isTensor()) {
    tensors.push_back(value.toTensor());
  } else if (value.isList()) {
    for (const c10::IValue& item : value.toListRef()) add_tensors(item, tensors);
  } else if (value.isTuple()) {
    for (const c10::IValue& item : value.toTupleRef().elements()) add_tensors(item, tensors);
  } else if (value.isGenericDict()) {
    for (const auto& entry : value.toGenericDict()) add_tensors(entry.value(), tensors);
  } else {
    throw BadRequest("a compiled model takes tensors, not a value of type " + value.tagKind());
  }
}

class AOTInductor : public Model {
 public:
  AOTInductor(const std::string& file, const c10::Device& device)
      : device_(device), package_(file, "model", /*run_single_threaded=*/false, /*num_runners=*/1, device.index()) {}

  c10::IValue Forward(std::vector<c10::IValue> arguments) override {
    std::vector<at::Tensor> tensors;
    for (const c10::IValue& argument : arguments) add_tensors(argument, tensors);
    for (at::Tensor& tensor : tensors) tensor = tensor.to(device_).contiguous();
    std::vector<at::Tensor> results;
    try {
      results = package_.run(tensors);
    } catch (const std::exception& error) {
      refuse(error);
    }
    if (results.size() == 1) return results.front();
    return c10::ivalue::Tuple::create(std::vector<c10::IValue>(results.begin(), results.end()));
  }

 private:
  c10::Device device_;
  torch::inductor::AOTIModelPackageLoader package_;
};

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

c10::IValue moved(const c10::IValue& value, const c10::Device& device) {
  return value.isTensor() ? c10::IValue(value.toTensor().to(device)) : value;
}

}  // namespace

std::unique_ptr<Model> LoadTorchScript(const std::string& file, const c10::Device& device) {
  return std::make_unique<TorchScript>(file, device);
}

std::unique_ptr<Model> LoadAOTInductor(const std::string& file, const c10::Device& device) {
  // Without it a compiled model reads beyond a tensor of another shape than it was compiled for.
  setenv("AOTI_RUNTIME_CHECK_INPUTS", "1", /*replace=*/0);
  return std::make_unique<AOTInductor>(file, device);
}

void BaseHandler::Initialize(const std::string& model_dir, const Manifest& manifest) {
  model_dir_ = model_dir;
  manifest_ = manifest;
}

void BaseHandler::LoadModel(const c10::Device& device) {
  device_ = device;
  model_ = ends_with(manifest_.serialized_file, ".pt2") ? LoadAOTInductor(model_file(), device)
                                                        : LoadTorchScript(model_file(), device);
}

void TorchScriptHandler::LoadModel(const c10::Device& device) {
  device_ = device;
  model_ = LoadTorchScript(model_file(), device);
}

void AOTInductorHandler::LoadModel(const c10::Device& device) {
  device_ = device;
  model_ = LoadAOTInductor(model_file(), device);
}

std::vector<c10::IValue> BaseHandler::Preprocess(const Request& request) {
  std::vector<c10::IValue> inputs = request.arguments();
  for (c10::IValue& input : inputs) input = moved(input, device_);
  return inputs;
}

c10::IValue BaseHandler::Inference(std::vector<c10::IValue> inputs) {
  const at::NoGradGuard no_gradients;
  return model_->Forward(std::move(inputs));
}

void BaseHandler::Postprocess(const c10::IValue& output, Response& response) {
  response.value = moved(output, c10::kCPU);
}

void BaseHandler::Handle(const Request& request, Response& response) {
  const c10::IValue output = Inference(Preprocess(request));
  Postprocess(output, response);
}

const c10::FunctionSchema* BaseHandler::Schema() const {
  return model_ ? model_->Schema() : nullptr;
}

}  // namespace handlers
