// The C++ side of torchmodel.nim: a TorchScript model with a C interface.
//
// It is compiled once, with the flags of nim.cfg; the Nim modules of a program include no header of libtorch and compile
// in a second. No exception leaves these functions: those that can fail return null, or the error's text, which the
// caller passes to torchmodel_free_text. Only C types are exchanged, so libtorch's C++ ABI does not matter to Nim.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <torch/csrc/autograd/grad_mode.h>

#if __has_include(<ATen/ops/from_blob.h>)
// Enough to load and run a model, and seconds faster to compile than torch/script.h.
#include <ATen/ops/from_blob.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>
namespace api = at;
#else  // before 1.10
#include <torch/script.h>
namespace api = torch;
#endif

namespace torchmodel {
namespace {

// In the order of `Dtype` in torchmodel.nim.
const c10::ScalarType dtypes[] = {
    c10::ScalarType::Float, c10::ScalarType::Double, c10::ScalarType::Long,
    c10::ScalarType::Int,   c10::ScalarType::Byte,   c10::ScalarType::Bool,
};

using Loaded = decltype(torch::jit::load(std::string()));  // a Module; in 1.1 a shared_ptr to one

template <class Module>
Module& module_of(Module& loaded) {
  return loaded;
}

template <class Module>
Module& module_of(std::shared_ptr<Module>& loaded) {
  return *loaded;
}

template <class Action>
char* text_of_failure(Action action) {
  try {
    action();
    return nullptr;
  } catch (const c10::Error& error) {
    return strdup(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("an exception of an unknown C++ type");
  }
}

at::Tensor view(void* data, at::IntArrayRef shape, c10::ScalarType dtype) {
  return api::from_blob(data, shape, at::TensorOptions().dtype(dtype));
}

template <class Number>
at::Tensor scalar(Number number, c10::ScalarType dtype) {
  return view(&number, {}, dtype).clone();
}

// Collects all tensors of a result in order: in tuples and lists at any depth, and the values of dicts.
void flatten(const c10::IValue& value, std::vector<at::Tensor>& tensors) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) tensors.push_back(value.toTensor());
  } else if (value.isTuple()) {
    for (const auto& element : value.toTuple()->elements()) flatten(element, tensors);
#if __has_include(<torch/csrc/jit/api/module.h>)
  } else if (value.isList()) {
    for (const auto& element : value.toListRef()) flatten(element, tensors);
  } else if (value.isGenericDict()) {
    for (const auto& entry : value.toGenericDict()) flatten(entry.value(), tensors);
#else  // before 1.5
  } else if (value.isTensorList()) {
    for (const auto& element : value.toTensorListRef()) flatten(element, tensors);
#endif
  } else if (value.isDouble()) {
    tensors.push_back(scalar(value.toDouble(), c10::ScalarType::Double));
  } else if (value.isInt()) {
    tensors.push_back(scalar(value.toInt(), c10::ScalarType::Long));
  } else if (value.isBool()) {
    tensors.push_back(scalar(value.toBool(), c10::ScalarType::Bool));
  } else if (!value.isNone()) {
    throw std::runtime_error("forward returned a " + value.tagKind() + ", which contains no tensor");
  }
}

// The index in `dtypes`, or -1.
int dtype_code(const at::Tensor& tensor) {
  for (int code = 0; code < static_cast<int>(sizeof dtypes / sizeof *dtypes); ++code)
    if (dtypes[code] == tensor.scalar_type()) return code;
  return -1;
}

void check_dtype(const at::Tensor& tensor) {
  if (dtype_code(tensor) < 0)
    throw std::runtime_error(std::string("forward returned a tensor of dtype ") + c10::toString(tensor.scalar_type()) +
                             "; convert it in the model, for example with .float()");
}

}  // namespace

struct Model {
  Loaded loaded;
  c10::Device device;
};

struct Outputs {
  std::vector<at::Tensor> tensors;
};

struct Array {  // CArray in torchmodel.nim
  int dtype;
  int64_t rank;
  const int64_t* shape;
  void* data;
};

extern "C" {

char* torchmodel_load(const char* path, const char* device, Model** model) {
  return text_of_failure([&] {
    const c10::Device where{std::string(device)};
    Loaded loaded = torch::jit::load(std::string(path), where);
    module_of(loaded).eval();
    *model = new Model{std::move(loaded), where};
  });
}

char* torchmodel_forward(Model* model, const Array* inputs, int64_t count, Outputs** outputs) {
  return text_of_failure([&] {
    const torch::autograd::AutoGradMode no_gradients(false);
    std::vector<c10::IValue> arguments;
    for (const Array* input = inputs; input != inputs + count; ++input) {
      const c10::ScalarType dtype = dtypes[input->dtype];
      const at::Tensor borrowed = view(input->data, {input->shape, static_cast<size_t>(input->rank)}, dtype);
      // Always a copy: a model may keep or change its input, and the memory is Nim's.
      arguments.emplace_back(borrowed.to(model->device, dtype, /*non_blocking=*/false, /*copy=*/true));
    }
    Outputs found;
    flatten(module_of(model->loaded).forward(std::move(arguments)), found.tensors);
    for (const at::Tensor& tensor : found.tensors) check_dtype(tensor);
    *outputs = new Outputs(std::move(found));
  });
}

// The model's weights, in its own order.
char* torchmodel_parameters(Model* model, Outputs** outputs) {
  return text_of_failure([&] {
    std::unique_ptr<Outputs> found(new Outputs);
#if __has_include(<torch/csrc/jit/api/module.h>)  // before 1.5 there is no such list: it stays empty
    for (const at::Tensor& parameter : module_of(model->loaded).parameters()) found->tensors.push_back(parameter);
#endif
    *outputs = found.release();
  });
}

int64_t torchmodel_count(const Outputs* outputs) { return static_cast<int64_t>(outputs->tensors.size()); }

// Valid until the outputs are freed; `data` is null, torchmodel_read copies the elements.
Array torchmodel_describe(const Outputs* outputs, int64_t index) {
  const at::Tensor& tensor = outputs->tensors[static_cast<size_t>(index)];
  return {dtype_code(tensor), tensor.dim(), tensor.sizes().data(), nullptr};
}

// Copies the elements to `memory` in row-major order, from any device and with any strides.
char* torchmodel_read(const Outputs* outputs, int64_t index, void* memory) {
  return text_of_failure([&] {
    const torch::autograd::AutoGradMode no_gradients(false);
    const at::Tensor& tensor = outputs->tensors[static_cast<size_t>(index)];
    view(memory, tensor.sizes(), tensor.scalar_type()).copy_(tensor);
  });
}

void torchmodel_free_text(char* text) { free(text); }
void torchmodel_free_outputs(Outputs* outputs) { delete outputs; }
void torchmodel_free_model(Model* model) { delete model; }

}  // extern "C"
}  // namespace torchmodel
