// TorchScript models.
#include <ATen/core/function_schema.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <optional>

#include "../servable.h"
#include "messages.h"
#include "../values/dtypes.h"

namespace {

// What the type says of a tensor, which mostly is nothing.
void describe(Port& port, const c10::TypePtr& type) {
  const auto tensor = type->cast<c10::TensorType>();
  if (!tensor) return;
  if (tensor->scalarType()) port.data_type = dtype_name(*tensor->scalarType());
  const auto rank = tensor->sizes().size();
  if (!rank) return;
  port.ranked = true;
  for (std::size_t i = 0; i < *rank; ++i) port.shape.push_back(tensor->sizes()[i].value_or(-1));
}

class TorchScript : public Servable {
 public:
  explicit TorchScript(const std::string& path) : module_(loaded(path)) {
    module_.eval();
    const auto method = module_.find_method("forward");
    if (!method) throw RequestError(422, "the model has no method forward");
    forward_ = *method;
    const c10::FunctionSchema& schema = forward_->function().getSchema();
    for (std::size_t i = 1; i < schema.arguments().size(); ++i) {  // the first is the module itself
      const c10::Argument& argument = schema.arguments()[i];
      Port port;
      port.name = argument.name();
      port.type = argument.type();
      port.required = !argument.default_value().has_value();
      describe(port, argument.type());
      signature_.inputs.push_back(std::move(port));
    }
    for (const c10::Argument& result : schema.returns()) {
      const auto tuple = result.type()->cast<c10::TupleType>();
      const std::vector<c10::TypePtr> types = tuple ? tuple->elements().vec() : std::vector<c10::TypePtr>{result.type()};
      for (const c10::TypePtr& type : types) {
        Port port;
        port.name = "output" + std::to_string(signature_.outputs.size());
        port.type = type;
        describe(port, type);
        signature_.outputs.push_back(std::move(port));
      }
    }
    for (const at::Tensor& each : module_.parameters()) bytes_ += size_of(each);
    for (const at::Tensor& each : module_.buffers()) bytes_ += size_of(each);
  }

  const char* platform() const override { return "pytorch_torchscript"; }
  const Signature& signature() const override { return signature_; }
  std::size_t bytes() const override { return bytes_; }

  c10::IValue call(std::vector<c10::IValue> arguments) override {
    const c10::InferenceMode guard;
    const c10::FunctionSchema& schema = forward_->function().getSchema();
    check_count(arguments.size());
    arguments.insert(arguments.begin(), module_._ivalue());
    try {
      schema.checkAndNormalizeInputs(arguments, {});
    } catch (const std::exception& error) {
      throw RequestError(400, first_line(error.what()));
    }
    try {
      forward_->function().run(arguments);
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& error) {  // of shapes and values that the model does not take, mostly
      throw RequestError(400, "the model failed: " + first_line(error.what()));
    }
    return std::move(arguments.front());
  }

 private:
  // Calls are made in inference mode: of weights that were made in it, too, no operator keeps track for gradients.
  static torch::jit::Module loaded(const std::string& path) {
    const c10::InferenceMode guard;
    return torch::jit::load(path, c10::Device(c10::kCPU));
  }

  void check_count(std::size_t given) const {
    const std::vector<Port>& inputs = signature_.inputs;
    std::string missing;
    for (std::size_t i = given; i < inputs.size(); ++i) {
      if (inputs[i].required) missing += (missing.empty() ? "" : ", ") + inputs[i].name;
    }
    if (!missing.empty()) throw RequestError(400, "missing arguments: " + missing);
    if (given <= inputs.size()) return;
    throw RequestError(400, "the model takes " + std::to_string(inputs.size()) + (inputs.size() == 1 ? " argument" : " arguments") + ", and " + std::to_string(given) + " are given");
  }

  static std::size_t size_of(const at::Tensor& tensor) {
    return tensor.defined() ? static_cast<std::size_t>(tensor.numel()) * tensor.element_size() : 0;
  }

  torch::jit::Module module_;
  std::optional<torch::jit::Method> forward_;
  Signature signature_;
  std::size_t bytes_ = 0;
};

}  // namespace

std::unique_ptr<Servable> open_torchscript(const std::string& path) { return std::make_unique<TorchScript>(path); }
