// Lists and dicts as TorchScript types them.
#pragma once

#include <ATen/core/ivalue.h>
#include <c10/core/ScalarType.h>

#include <utility>
#include <vector>

namespace torch::deploy::detail {

/// A list: of one type if all elements have it (List[int], List[Tensor], …), else of any.
at::IValue list_of(const std::vector<at::IValue>& elements);
/// A dict; its keys must be strings, integers, floats, booleans or tensors.
at::IValue dict_of(const std::vector<std::pair<at::IValue, at::IValue>>& entries);
/// The dtypes that DLPack lacks, with Python's names.
const std::vector<std::pair<at::ScalarType, const char*>>& other_dtypes();

}  // namespace torch::deploy::detail
