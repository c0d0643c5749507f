// Lists and dicts as TorchScript types them.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <c10/core/ScalarType.h>

#include <string>
#include <utility>
#include <vector>

namespace torch::deploy::detail {

/// A list: of one type if all elements have it (List[int], List[Tensor], …), else of any.
at::IValue list_of(const std::vector<at::IValue>& elements);
/// A dict; its keys must be strings, integers, floats, booleans or tensors.
at::IValue dict_of(const std::vector<std::pair<at::IValue, at::IValue>>& entries);
/// Python's name of a dtype, and back. Throw std::invalid_argument for those that cannot be handed over.
const std::string& dtype_name(at::ScalarType type);
at::ScalarType dtype_of(const std::string& name);
/// Throws std::invalid_argument for tensors that cannot be handed over: sparse, quantized, on another device.
void check_dense(const at::Tensor& tensor);

}  // namespace torch::deploy::detail
