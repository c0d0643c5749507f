#include "values.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <cstring>
#include <vector>

#include "../values/writing.h"
#include "wire.h"

std::string packed(const c10::IValue& value) {
  std::vector<at::Tensor> tensors;
  const std::vector<char> structure = torch::jit::pickle(value, &tensors);
  Writer out(frame::values);
  out.text(std::string_view(structure.data(), structure.size())).number(tensors.size());
  for (const at::Tensor& each : tensors) {
    const at::Tensor tensor = plain(each);
    out.number(static_cast<std::uint64_t>(tensor.scalar_type())).number(static_cast<std::uint64_t>(tensor.dim()));
    for (const std::int64_t size : tensor.sizes()) out.number(static_cast<std::uint64_t>(size));
    out.text(std::string_view(static_cast<const char*>(tensor.data_ptr()), tensor.nbytes()));
  }
  return out.bytes();
}

c10::IValue unpacked(const std::string& bytes) {
  Reader in(bytes);
  const std::string structure = in.text();
  std::vector<at::Tensor> tensors;
  for (std::uint64_t left = in.number(); left > 0; --left) {
    const auto dtype = static_cast<c10::ScalarType>(in.number());
    std::vector<std::int64_t> sizes;
    for (std::uint64_t dimensions = in.number(); dimensions > 0; --dimensions) sizes.push_back(static_cast<std::int64_t>(in.number()));
    const std::string elements = in.text();
    const at::Tensor tensor = at::empty(sizes, at::TensorOptions().dtype(dtype));
    if (tensor.nbytes() != elements.size()) throw WireError("a tensor has another size than its shape says");
    if (!elements.empty()) std::memcpy(tensor.data_ptr(), elements.data(), elements.size());
    tensors.push_back(tensor);
  }
  return torch::jit::unpickle(structure.data(), structure.size(), nullptr, tensors);
}
