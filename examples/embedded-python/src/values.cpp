#include "values.h"

#include <ATen/core/jit_type.h>

#include <algorithm>
#include <stdexcept>

namespace torch::deploy::detail {

namespace {

// The type that all values share; Any if there is none.
c10::TypePtr common_type(const std::vector<at::IValue>& values) {
  if (values.empty()) return c10::AnyType::get();
  c10::TypePtr type = values.front().type();
  const bool same = std::all_of(values.begin(), values.end(), [&](const at::IValue& value) {
    return value.isTensor() ? type->kind() == c10::TypeKind::TensorType : *value.type() == *type;
  });
  if (!same) return c10::AnyType::get();
  return values.front().isTensor() ? c10::TypePtr(c10::TensorType::get()) : type;
}

}  // namespace

at::IValue list_of(const std::vector<at::IValue>& elements) {
  c10::impl::GenericList list(common_type(elements));
  list.reserve(elements.size());
  for (const at::IValue& element : elements) list.push_back(element);
  return list;
}

at::IValue dict_of(const std::vector<std::pair<at::IValue, at::IValue>>& entries) {
  std::vector<at::IValue> keys, items;
  for (const auto& [key, item] : entries) {
    keys.push_back(key);
    items.push_back(item);
  }
  const c10::TypePtr key_type = entries.empty() ? c10::TypePtr(c10::StringType::get()) : common_type(keys);
  if (key_type->kind() == c10::TypeKind::AnyType)
    throw std::invalid_argument("a dict whose keys have different types cannot become an IValue: keep it as an Obj");
  c10::impl::GenericDict dict(key_type, common_type(items));
  for (const auto& [key, item] : entries) dict.insert_or_assign(key, item);
  return dict;
}

namespace {

// c10's names and Python's; which of them there are depends on libtorch's version.
constexpr std::pair<const char*, const char*> kNames[] = {
    {"Byte", "uint8"},
    {"Char", "int8"},
    {"Short", "int16"},
    {"Int", "int32"},
    {"Long", "int64"},
    {"Half", "float16"},
    {"BFloat16", "bfloat16"},
    {"Float", "float32"},
    {"Double", "float64"},
    {"ComplexHalf", "complex32"},
    {"ComplexFloat", "complex64"},
    {"ComplexDouble", "complex128"},
    {"Bool", "bool"},
    {"UInt16", "uint16"},
    {"UInt32", "uint32"},
    {"UInt64", "uint64"},
    {"Float8_e5m2", "float8_e5m2"},
    {"Float8_e4m3fn", "float8_e4m3fn"},
    {"Float8_e5m2fnuz", "float8_e5m2fnuz"},
    {"Float8_e4m3fnuz", "float8_e4m3fnuz"},
    {"Float8_e8m0fnu", "float8_e8m0fnu"},
};

const std::vector<std::string>& names_by_type() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all(static_cast<std::size_t>(at::ScalarType::NumOptions));
    for (std::size_t i = 0; i < all.size(); ++i)
      for (const auto& [cpp, python] : kNames)
        if (std::string(cpp) == c10::toString(static_cast<at::ScalarType>(i))) all[i] = python;
    return all;
  }();
  return names;
}

}  // namespace

const std::string& dtype_name(at::ScalarType type) {
  const std::string& name = names_by_type().at(static_cast<std::size_t>(type));
  if (name.empty()) throw std::invalid_argument(std::string("a tensor of ") + c10::toString(type) + " cannot be handed over");
  return name;
}

at::ScalarType dtype_of(const std::string& name) {
  const auto& names = names_by_type();
  const auto found = name.empty() ? names.end() : std::find(names.begin(), names.end(), name);
  if (found == names.end()) throw std::invalid_argument("this libtorch has no dtype " + name);
  return static_cast<at::ScalarType>(found - names.begin());
}

void check_dense(const at::Tensor& tensor) {
  if (tensor.layout() == at::kStrided && !tensor.is_quantized() && tensor.device().is_cpu()) return;
  throw std::invalid_argument(
      "a " + tensor.toString() + " on " + tensor.device().str() +
      " cannot be handed to Python: only dense CPU tensors can");
}

}  // namespace torch::deploy::detail
