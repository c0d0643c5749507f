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

const std::vector<std::pair<at::ScalarType, const char*>>& other_dtypes() {
  static const std::vector<std::pair<at::ScalarType, const char*>> known = [] {
    std::vector<std::pair<at::ScalarType, const char*>> all = {{at::kBool, "bool"}};
    // c10's names of the newer ones are Python's, spelled differently; which there are depends on the version.
    for (int i = 0; i < static_cast<int>(at::ScalarType::NumOptions); ++i) {
      const auto type = static_cast<at::ScalarType>(i);
      const std::string name = c10::toString(type);
      static const std::pair<const char*, const char*> names[] = {
          {"ComplexHalf", "complex32"},         {"Float8_e5m2", "float8_e5m2"},
          {"Float8_e4m3fn", "float8_e4m3fn"},   {"Float8_e5m2fnuz", "float8_e5m2fnuz"},
          {"Float8_e4m3fnuz", "float8_e4m3fnuz"}, {"Float8_e8m0fnu", "float8_e8m0fnu"},
          {"UInt16", "uint16"},                 {"UInt32", "uint32"},
          {"UInt64", "uint64"}};
      for (const auto& [cpp, python] : names)
        if (name == cpp) all.emplace_back(type, python);
    }
    return all;
  }();
  return known;
}

}  // namespace torch::deploy::detail
